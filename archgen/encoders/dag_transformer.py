"""A transformer over a known DAG, whose nodes attend along its paths (CATE, arXiv 2102.07108; DiffusionNAG)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from archgen.graph import GraphBatch


class DAGTransformer(nn.Module):
    """Embeds the nodes of graphs that share a DAG; the embedding joins the normalised outputs of all layers.

    The encoder of the score network of DiffusionNAG (arXiv 2305.16943). Against its code:

    - a node attends to itself and to every node that it has a path to or from. The original trains with the direct
      successors alone, by a misspelt option, and samples with all descendants under guidance; its output node, which
      has no successor, attends to everything;
    - the mask is a part of the module, so it is the same in training and sampling;
    - edges that are not known enter twice: possible ones count for the mask, and their (noised) values bias the
      attention. The original has fixed topologies only;
    - `masked=False` lets every node attend to every other: labels that depend on each other without a path between
      their nodes are then learnt far sooner;
    - time, not the noise level, is embedded, and places in the order, both by frequencies that tell them apart; labels
      are not scaled up against them by the square root of `d`; there is no dropout.

    Args:
        labels: Size `k` of the vocabulary.
        adjacency: Possible edges, `n x n`; of any order of the nodes.
        width: Width `d` of a layer, even; the embedding has `layers * width`.
        layers: Number of layers.
        heads: Attention heads; must divide `width`.
        ffn: Width of the feed-forward networks.
        positions: Whether nodes know their place in the topological order; without, the encoder is equivariant under
            relabelling of the nodes together with the adjacency.
        edge_values: Whether the values of `GraphBatch.edges` are read; where the DAG is the same for all graphs there
            is nothing in them.
        masked: Whether nodes attend along paths only.

    Raises:
        ValueError: `heads` does not divide `width`, or `width` is odd.
    """

    mask: Bool[Tensor, "n n"]
    """Which nodes (columns) each node attends to."""
    places: Float[Tensor, "n d"]

    def __init__(
        self,
        labels: int,
        adjacency: Bool[Tensor, "n n"],
        width: int = 64,
        layers: int = 3,
        heads: int = 4,
        ffn: int = 128,
        positions: bool = True,
        edge_values: bool = False,
        masked: bool = True,
    ) -> None:
        super().__init__()
        if width % heads or width % 2:
            raise ValueError(f"expected an even width that heads divides, got width={width} and heads={heads}")
        self.width = width
        self.embed = nn.Linear(labels, width)
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width))
        self.layers = nn.ModuleList(_Layer(width, heads, ffn, edge_values) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.edge_values = edge_values
        n = len(adjacency)
        place = _waves(torch.arange(n, dtype=torch.get_default_dtype()), math.pi / n, math.pi, width)
        self.register_buffer("mask", connected(adjacency) if masked else torch.ones_like(adjacency), persistent=False)
        self.register_buffer("places", place * positions, persistent=False)

    def forward(
        self, graph: GraphBatch, t: Float[Tensor, " b"], context: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b n D"]:
        """Embed the nodes of noised graphs.

        Args:
            graph: The batch, of real numbers.
            t: Time of each graph in [0, 1]: 1 is noise, 0 is data.
            context: Embedding of what else is known of each graph; added to that of time.

        Returns:
            Embeddings, `D = layers * d`; rows of absent nodes are meaningless.
        """
        time = self.time(_waves(t, 1.0, 1000.0, self.width))
        h = self.embed(graph.ops) + self.places
        h = h + (time if context is None else time + context)[:, None]
        # an absent node sees only itself, so that no row of the attention is empty
        present = graph.node_mask[:, None, :] | torch.eye(h.shape[1], dtype=torch.bool, device=h.device)
        bias = torch.zeros_like(present, dtype=h.dtype).masked_fill(~(self.mask & present), -torch.inf)[:, None]
        pairs = torch.stack([graph.edges, graph.edges.mT], -1) if self.edge_values else None
        outputs = []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            h = layer(h, bias, pairs)
            outputs.append(norm(h))
        return torch.cat(outputs, -1)


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, ffn: int, edge_values: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.edge_bias = nn.Linear(2, heads, bias=False) if edge_values else None
        self.mlp = nn.Sequential(nn.Linear(width, ffn), nn.ReLU(), nn.Linear(ffn, width))

    def forward(self, h: Tensor, bias: Tensor, pairs: Tensor | None) -> Tensor:
        b, n, d = h.shape
        q, k, v = self.qkv(self.norm_attention(h)).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if self.edge_bias is not None and pairs is not None:
            bias = bias + self.edge_bias(pairs).permute(0, 3, 1, 2)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        h = h + self.out(attended.transpose(1, 2).reshape(b, n, d))
        out: Tensor = h + self.mlp(self.norm_mlp(h))
        return out


def connected(adjacency: Bool[Tensor, "n n"]) -> Bool[Tensor, "n n"]:
    """Which nodes are the same or joined by a directed path, in either direction."""
    reach = adjacency | torch.eye(len(adjacency), dtype=torch.bool, device=adjacency.device)
    for _ in range(max(1, math.ceil(math.log2(max(len(adjacency), 2))))):  # each squaring doubles the paths' length
        reach = (reach.double() @ reach.double()) > 0
    return reach | reach.mT


def _waves(x: Float[Tensor, " m"], low: float, high: float, width: int) -> Float[Tensor, "m d"]:
    """Sines and cosines of frequencies spaced geometrically from `low` to `high`."""
    frequencies = torch.exp(torch.linspace(math.log(low), math.log(high), width // 2, device=x.device, dtype=x.dtype))
    angles = x[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)
