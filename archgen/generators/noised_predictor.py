"""Predictors of the properties of noised graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from archgen.encoders.graph_transformer import sinusoidal
from archgen.generators.variables import FreeVariables
from archgen.graph import GraphBatch


@runtime_checkable
class Noise(Protocol):
    """`Generator.noise`."""

    def __call__(self, clean: GraphBatch, t: Float[Tensor, " b"], *, generator: torch.Generator) -> GraphBatch:
        """See `Generator.noise`."""
        ...


CLOCK = 16
"""Width of the embedding of time."""
REACH, LEVELS = 4.0, 41
"""Normal scores that a distribution is spread over, from `-REACH` to `REACH`, and how many."""


class NoisedPredictor(nn.Module):
    """Distribution of the clean graph's properties, given a noised one.

    A perceptron over the states of the free variables: nodes come in topological order, so nothing is gained by
    treating them alike, and guidance asks for every single change of every graph at every step, which a graph
    transformer answers twenty times slower. A property's distribution is a histogram over levels of its normal score
    and not a Gaussian: the further a tilt reaches, the more it is the tail that counts, and properties have an end.

    Args:
        node_domain: `n x k`, labels that each node may carry.
        edge_domain: `n x n x 2`, states that each edge may take.
        metrics: Names of the `c` properties, all as normal scores.
        width: Of the hidden layers.
        layers: Residual hidden layers beyond the first.
    """

    levels: Float[Tensor, " l"]
    """Normal scores, ascending and equally spaced."""

    def __init__(
        self,
        node_domain: Bool[Tensor, "n k"],
        edge_domain: Bool[Tensor, "n n 2"],
        metrics: Sequence[str],
        width: int = 128,
        layers: int = 3,
    ) -> None:
        super().__init__()
        self.config = {"metrics": list(metrics), "width": width, "layers": layers}
        self.metrics = tuple(metrics)
        self.register_buffer("node_domain", node_domain)
        self.register_buffer("edge_domain", edge_domain)
        self.register_buffer("levels", torch.linspace(-REACH, REACH, LEVELS), persistent=False)
        self.variables = FreeVariables(node_domain, edge_domain)
        inputs = len(self.variables.nodes) * node_domain.shape[1] + len(self.variables.sources)
        self.first = nn.Linear(inputs, width)
        self.clock = nn.Linear(CLOCK, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.head = nn.Linear(width, len(metrics) * LEVELS)

    def forward(
        self, graph: GraphBatch, t: Float[Tensor, " b"], columns: Sequence[int] | None = None
    ) -> Float[Tensor, "b c l"]:
        """Log-probability of each level of each property.

        Args:
            graph: Noised graphs, one-hot or of real numbers.
            t: Their times, 1 is noise.
            columns: Properties to predict; all if None.
        """
        variables = self.variables
        edges = graph.edges[:, variables.sources, variables.targets]
        states = torch.cat([graph.ops[:, variables.nodes].flatten(1), edges], 1)
        h = F.silu(self.first(states) + self.clock(sinusoidal(t, CLOCK)))
        for layer in self.hidden:
            h = h + F.silu(layer(h))
        weight = self.head.weight.view(-1, LEVELS, h.shape[1])
        bias = self.head.bias.view(-1, LEVELS)
        if columns is not None:
            weight, bias = weight[list(columns)], bias[list(columns)]
        logits = F.linear(h, weight.flatten(0, 1), bias.flatten())
        return logits.view(len(h), -1, LEVELS).log_softmax(-1)

    def loss(
        self, clean: GraphBatch, scores: Float[Tensor, "b c"], noise: Noise, *, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Cross-entropy of the properties of noised graphs, summed over them, mean over graphs, nats.

        A score between two levels counts as both, in proportion to its nearness, so that means are kept.

        Args:
            clean: Clean graphs.
            scores: Their properties as normal scores; beyond the levels they count as the outermost.
            noise: `Generator.noise` of the generator that it is for.
            generator: Source of randomness.
        """
        t = torch.rand(len(clean), generator=generator).square()  # little noise decides most, and is hardest to learn
        log_p = self(noise(clean, t, generator=generator), t)
        place = (scores.clamp(-REACH, REACH) + REACH) / (2 * REACH) * (LEVELS - 1)
        below = place.floor().clamp(max=LEVELS - 2).long()[..., None]
        upper = place[..., None] - below
        value = (1 - upper) * log_p.gather(-1, below) + upper * log_p.gather(-1, below + 1)
        nll: Tensor = -value.sum((1, 2)).mean()
        return nll
