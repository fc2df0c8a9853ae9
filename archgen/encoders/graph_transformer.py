"""A small graph transformer over labelled DAGs (after DiGress, arXiv 2209.14734, appendix B)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from archgen.graph import GraphBatch


class GraphTransformer(nn.Module):
    """Embeds the nodes of a batch of graphs; every node attends to every other, biased by the edges between them.

    Against DiGress: edges are the two directions of a DAG and enter as a bias of the attention logits (one a head
    and direction), pair features are read out from the node embeddings instead of being carried through the
    layers, and nodes have a learnt position because they come in topological order. With `positions=False` the
    transformer is equivariant under relabelling of the nodes.

    Args:
        labels: Size `k` of the vocabulary.
        nodes: Largest number of nodes `n`.
        width: Width `d` of the embedding.
        layers: Number of layers.
        heads: Attention heads; must divide `width`.
        positions: Whether nodes know their place in the topological order.
        structure: Whether to add what attention finds hard to count, for spaces with free edges: in- and out-degree of
            each node and the number of edges as node features, and which node can be reached from which (after the
            structural features of DiGress).

    Raises:
        ValueError: `heads` does not divide `width`.
    """

    def __init__(
        self,
        labels: int,
        nodes: int,
        width: int = 64,
        layers: int = 3,
        heads: int = 4,
        positions: bool = True,
        structure: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"expected heads to divide width, got width={width} and heads={heads}")
        self.width, self.heads = width, heads
        self.embed = nn.Linear(labels, width)
        self.position = nn.Parameter(torch.randn(nodes, width) * 0.02) if positions else None
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.counts = nn.Linear(3, width) if structure else None
        self.layers = nn.ModuleList(_Layer(width, heads, 4 if structure else 2) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, graph: GraphBatch, t: Float[Tensor, " b"], context: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """Embed the nodes of noised graphs.

        Args:
            graph: The batch.
            t: Time of each graph in [0, 1]: 1 is noise, 0 is data.
            context: Embedding of what else is known of each graph; added to that of time.

        Returns:
            Embeddings; rows of absent nodes are meaningless.
        """
        time = self.time(sinusoidal(t, self.width))
        h = self.embed(graph.ops) + (time if context is None else time + context)[:, None]
        if self.position is not None:
            h = h + self.position[: h.shape[1]]
        pairs = [graph.edges, graph.edges.mT]  # successors, predecessors
        if self.counts is not None:
            edges = graph.edges * graph.node_mask[:, :, None] * graph.node_mask[:, None]
            into, after = edges.sum(1), edges.sum(2)
            every = after.sum(1, keepdim=True).expand_as(after)
            h = h + self.counts(torch.stack([into, after, every / after.shape[1]], -1))
            reached = reachable(edges)
            pairs += [reached, reached.mT]
        biases = torch.stack(pairs, -1)  # b n n c
        absent = ~graph.node_mask[:, None, None, :]
        for layer in self.layers:
            h = layer(h, biases, absent)
        out: Tensor = self.norm(h)
        return out


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, channels: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.edge_bias = nn.Linear(channels, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, h: Tensor, pairs: Tensor, absent: Tensor) -> Tensor:
        b, n, d = h.shape
        q, k, v = self.qkv(self.norm_attention(h)).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        bias = self.edge_bias(pairs).permute(0, 3, 1, 2).masked_fill(absent, -torch.inf)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        h = h + self.out(attended.transpose(1, 2).reshape(b, n, d))
        out: Tensor = h + self.mlp(self.norm_mlp(h))
        return out


def reachable(edges: Float[Tensor, "b n n"]) -> Float[Tensor, "b n n"]:
    """1 where a path leads from the row's node to the column's, 0 elsewhere; for adjacency matrices of DAGs."""
    paths = (edges > 0.5).float()
    for _ in range(max(edges.shape[-1] - 1, 1).bit_length()):  # squaring doubles the length of the paths found
        paths = ((paths + paths @ paths) > 0).float()
    return paths


def sinusoidal(t: Float[Tensor, " b"], width: int) -> Float[Tensor, "b d"]:
    """Sines and cosines of each time at `width / 2` frequencies from 1 to 1,000, geometrically spaced."""
    frequencies = torch.exp(torch.linspace(0.0, math.log(1000.0), width // 2, device=t.device))
    angles = t[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)
