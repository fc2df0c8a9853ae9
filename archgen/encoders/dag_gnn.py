"""A graph network over labelled DAGs, with messages along and against the edges.

Not imported by `archgen.encoders`: `torch_geometric` takes seconds to import, and only its users shall wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.nn.conv import MessagePassing
from torch_geometric.utils import scatter, softmax

from archgen.encoders.side_by_side import SideBySideLinear, SideBySideNorm
from archgen.graph import Architecture
from archgen.spaces import SearchSpace

USUAL = 10.0
"""Nodes of a usual graph: sums over nodes are divided by it, so that they are of order 1."""


def vocabulary(space: SearchSpace) -> dict[str, int]:
    """Indices of the labels that a `computation` of a space may have."""
    return {label: i for i, label in enumerate(("input", "output", *space.computing_labels))}


@dataclass(frozen=True)
class DAG:
    """One labelled DAG as arrays: `n` nodes, `e` edges; an edge listed twice counts twice."""

    labels: NDArray[np.int64]
    """Index of each node's label, `n`."""
    places: NDArray[np.float32]
    """Longest distance from any source and to any sink over the longest path of the graph, `n x 2`."""
    edges: NDArray[np.int64]
    """`2 x e`, source and target."""

    @classmethod
    def of(cls, arch: Architecture, vocabulary: dict[str, int]) -> DAG:
        """The arrays of a DAG whose nodes are in topological order, the last of them its output.

        Raises:
            KeyError: A label is not in the vocabulary.
        """
        n = len(arch.ops)
        before, after = [0] * n, [0] * n
        for i, j in sorted(arch.edges, key=lambda edge: edge[1]):
            before[j] = max(before[j], before[i] + 1)
        for i, j in sorted(arch.edges, key=lambda edge: -edge[0]):
            after[i] = max(after[i], after[j] + 1)
        places = (np.array([before, after]).T / max(*before, 1)).astype(np.float32)
        edges = np.array(arch.edges, dtype=np.int64).reshape(-1, 2).T
        return cls(np.array([vocabulary[op] for op in arch.ops], dtype=np.int64), places, edges)


@dataclass(frozen=True)
class DAGBatch:
    """`b` DAGs side by side, `n` nodes and `e` edges in all."""

    labels: Int[Tensor, " n"]
    places: Float[Tensor, "n 2"]
    edges: Int[Tensor, "2 e"]
    graph: Int[Tensor, " n"]
    """Which graph a node belongs to."""
    output: Int[Tensor, " b"]
    """The last node of each graph."""

    @classmethod
    def of(cls, dags: Sequence[DAG]) -> DAGBatch:
        """Join at least one DAG."""
        sizes = np.array([len(dag.labels) for dag in dags])
        ends = np.cumsum(sizes)
        shifted = [dag.edges + start for dag, start in zip(dags, ends - sizes, strict=True)]
        return cls(
            torch.from_numpy(np.concatenate([dag.labels for dag in dags])),
            torch.from_numpy(np.concatenate([dag.places for dag in dags])),
            torch.from_numpy(np.concatenate(shifted, axis=1)),
            torch.from_numpy(np.repeat(np.arange(len(dags)), sizes)),
            torch.from_numpy(ends - 1),
        )


class DAGNetwork(nn.Module):
    """Embeds DAGs, by `m` networks side by side; equivariant under relabelling of nodes, so graphs have one embedding.

    Each layer gathers messages from predecessors and, with weights of its own, from successors: a sum that says how
    many, and attention that says which. Both are gated by the operation of the node that reads them, as in the dense
    graph flow of GATES (arXiv 2004.01899), which NASFLAT (arXiv 2403.02446) joins with attention in this way; they let
    information flow forwards only. A node also knows its place, the longest distance to both ends of the graph. The
    embedding of a graph joins the output node, the sum and the mean over nodes.

    Args:
        labels: Size of the vocabulary.
        width: Width `d` of a node's embedding.
        layers: Number of layers.
        heads: Attention heads; must divide `width`.
        members: Number `m` of networks.

    Raises:
        ValueError: `heads` does not divide `width`.
    """

    def __init__(self, labels: int, width: int = 32, layers: int = 3, heads: int = 4, members: int = 1) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"expected heads that divide the width, got width={width} and heads={heads}")
        self.operation = nn.Parameter(torch.randn(members, labels, width))
        self.place = SideBySideLinear(members, 2, width)
        self.layers = nn.ModuleList(_Layer(members, width, heads) for _ in range(layers))
        self.norm = SideBySideNorm(members, width)
        self.members, self.width = members, 3 * width
        """Width `D` of a graph's embedding."""

    def forward(self, batch: DAGBatch) -> Float[Tensor, "m b D"]:
        """Embeddings of graphs by each member, `D = 3 d`."""
        places = batch.places.to(self.operation.dtype).expand(self.members, -1, -1)
        h = self.operation[:, batch.labels] + self.place(places)
        for layer in self.layers:
            h = layer(h, self.operation, batch)
        h = self.norm(h)
        b = len(batch.output)
        total = scatter(h, batch.graph, dim=1, dim_size=b, reduce="sum")
        nodes = torch.bincount(batch.graph, minlength=b)[:, None]
        return torch.cat([h[:, batch.output], total / USUAL, total / nodes], -1)


class _Layer(nn.Module):
    def __init__(self, members: int, width: int, heads: int) -> None:
        super().__init__()
        self.norm = SideBySideNorm(members, width)
        self.along, self.against = _GatedFlow(members, width, heads), _GatedFlow(members, width, heads)
        self.join, self.out = SideBySideLinear(members, 5 * width, width), SideBySideLinear(members, width, width)

    def forward(self, h: Tensor, operations: Tensor, batch: DAGBatch) -> Tensor:
        x = self.norm(h)
        along = self.along(x, operations, batch.labels, batch.edges)
        against = self.against(x, operations, batch.labels, batch.edges.flip(0))
        updated: Tensor = h + self.out(F.gelu(self.join(torch.cat([x, along, against], -1))))
        return updated


class _GatedFlow(MessagePassing):  # type: ignore[misc]  # torch_geometric has no types
    """Sum and attention over the sources of a node's edges, gated by the node's operation: `m n d` to `m n 2d`."""

    def __init__(self, members: int, width: int, heads: int) -> None:
        super().__init__(aggr="sum", node_dim=1)
        self.heads = heads
        self.project = SideBySideLinear(members, width, 3 * width)
        self.gate = SideBySideLinear(members, width, 2 * width)

    def forward(self, x: Tensor, operations: Tensor, labels: Tensor, edges: Tensor) -> Tensor:
        query, key, value = self.project(x).chunk(3, -1)
        n = x.shape[1]
        gathered: Tensor = self.propagate(edges, query=query, key=key, value=value, size=(n, n))
        return torch.sigmoid(self.gate(operations))[:, labels] * gathered

    def message(
        self, query_i: Tensor, key_j: Tensor, value_j: Tensor, index: Tensor, ptr: Tensor | None, size_i: int | None
    ) -> Tensor:
        m, e, width = query_i.shape
        split = (m, e, self.heads, width // self.heads)
        likeness = (query_i * key_j).view(split).sum(-1) * split[3] ** -0.5
        weights = softmax(likeness, index, ptr, size_i, dim=1)
        attended = (weights[..., None] * value_j.view(split)).flatten(2)
        return torch.cat([attended, value_j], -1)
