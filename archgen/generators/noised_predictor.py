"""Predictors of the properties of noised graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from archgen.encoders.graph_transformer import GraphTransformer
from archgen.graph import GraphBatch


@runtime_checkable
class Noise(Protocol):
    """`Generator.noise`."""

    def __call__(self, clean: GraphBatch, t: Float[Tensor, " b"], *, generator: torch.Generator) -> GraphBatch:
        """See `Generator.noise`."""
        ...


class NoisedPredictor(nn.Module):
    """Mean and standard deviation of the clean graph's properties, given a noised one.

    Args:
        node_domain: `n x k`, labels that each node may carry.
        edge_domain: `n x n x 2`, states that each edge may take.
        metrics: Names of the `c` properties, all as normal scores.
        width, layers, heads: Of the graph transformer.
    """

    def __init__(
        self,
        node_domain: Bool[Tensor, "n k"],
        edge_domain: Bool[Tensor, "n n 2"],
        metrics: Sequence[str],
        width: int = 32,
        layers: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        self.config = {"metrics": list(metrics), "width": width, "layers": layers, "heads": heads}
        self.metrics = tuple(metrics)
        self.register_buffer("node_domain", node_domain)
        self.register_buffer("edge_domain", edge_domain)
        n, k = node_domain.shape
        free = bool(edge_domain.all(-1).triu(1).any())
        self.encoder = GraphTransformer(k, n, width, layers, heads, structure=free)
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, 2 * len(metrics)))

    def forward(self, graph: GraphBatch, t: Float[Tensor, " b"]) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
        """Mean and standard deviation of each property's normal score.

        Args:
            graph: Noised graphs, one-hot or of real numbers.
            t: Their times, 1 is noise.
        """
        h = self.encoder(graph, t)
        present = graph.node_mask[..., None]
        mean = (h * present).sum(1) / present.sum(1)
        most = h.masked_fill(~present, -torch.inf).amax(1)
        mu, raw = self.head(torch.cat([mean, most], -1)).chunk(2, -1)
        return mu, F.softplus(raw) + 1e-2

    def loss(
        self, clean: GraphBatch, scores: Float[Tensor, "b c"], noise: Noise, *, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Negative Gaussian log-likelihood of the properties of noised graphs, a scalar.

        Args:
            clean: Clean graphs.
            scores: Their properties as normal scores.
            noise: `Generator.noise` of the generator that it is for.
            generator: Source of randomness.
        """
        t = torch.rand(len(clean), generator=generator)
        mean, std = self(noise(clean, t, generator=generator), t)
        nll: Tensor = (((scores - mean) / std).square() / 2 + std.log()).sum(-1).mean()
        return nll
