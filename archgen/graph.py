"""Architectures as labelled DAGs, batches of them as tensors, and their canonical form."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import networkx as nx
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from archgen.errors import InvalidArchitecture

if TYPE_CHECKING:
    from torch_geometric.data import Data


@dataclass(frozen=True)
class Architecture:
    """One point of a search space: a labelled DAG with its nodes in topological order.

    Args:
        space: Name of the search space.
        ops: Label of each node, `input` and `output` included.
        edges: Pairs `(i, j)` with `i < j`: the output of node `i` is an input of node `j`.

    Raises:
        InvalidArchitecture: An edge leaves the graph or runs against the order.
    """

    space: str
    ops: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        for i, j in self.edges:
            if not 0 <= i < j < len(self.ops):
                raise InvalidArchitecture(
                    f"edge ({i}, {j}) is not one of a graph of {len(self.ops)} nodes in topological order: "
                    f"expected 0 <= i < j < {len(self.ops)}"
                )

    def __hash__(self) -> int:
        known: int | None = self.__dict__.get("_hash")  # architectures are looked up a million times a search
        if known is None:
            known = hash((self.space, self.ops, self.edges))
            self.__dict__["_hash"] = known
        return known

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}  # hashes are a process's own

    def to_json(self) -> dict[str, Any]:
        """The architecture as JSON types; `from_json` is its inverse."""
        return {"space": self.space, "ops": list(self.ops), "edges": [list(edge) for edge in self.edges]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Architecture:
        """Rebuild an architecture from `to_json`.

        Raises:
            InvalidArchitecture: A key is missing or of the wrong type.
        """
        try:
            space, ops, edges = value["space"], value["ops"], [(i, j) for i, j in value["edges"]]
            if not isinstance(space, str) or not isinstance(ops, list) or not all(isinstance(op, str) for op in ops):
                raise TypeError("space must be a string and ops a list of strings")
            if not all(type(i) is int and type(j) is int for i, j in edges):
                raise TypeError("edges must be pairs of integers")
            return cls(space, tuple(ops), tuple(edges))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArchitecture(
                f"expected an object with space, ops and edges [[i, j], ...], got {str(value)[:80]} ({error!r})"
            ) from None

    def to_networkx(self) -> nx.DiGraph:
        """The DAG with node attribute `op`."""
        graph = nx.DiGraph()
        graph.add_nodes_from((i, {"op": op}) for i, op in enumerate(self.ops))
        graph.add_edges_from(self.edges)
        return graph

    def to_pyg(self, labels: Sequence[str]) -> Data:
        """The DAG for PyTorch Geometric.

        Args:
            labels: The space's vocabulary of node labels.

        Returns:
            `Data` with `x` (label indices, `n`) and `edge_index` (`2 x e`).
        """
        from torch_geometric.data import Data

        index = {label: i for i, label in enumerate(labels)}
        edge_index = torch.tensor(self.edges, dtype=torch.long).reshape(-1, 2).T.contiguous()
        return Data(x=torch.tensor([index[op] for op in self.ops]), edge_index=edge_index)


@dataclass(frozen=True)
class GraphBatch:
    """A batch of `b` graphs of up to `n` nodes with `k` labels; what encoders and generators see.

    Args:
        ops: One-hot node labels (or probabilities of them), `b x n x k`.
        edges: Adjacency (or edge probabilities), `b x n x n`, zero on and below the diagonal.
        node_mask: Which nodes exist, `b x n`.
    """

    ops: Float[Tensor, "b n k"]
    edges: Float[Tensor, "b n n"]
    node_mask: Bool[Tensor, "b n"]

    def __len__(self) -> int:
        return int(self.ops.shape[0])

    def __getitem__(self, index: slice | Tensor) -> GraphBatch:
        return GraphBatch(self.ops[index], self.edges[index], self.node_mask[index])

    @property
    def labels(self) -> Int[Tensor, "b n"]:
        """Index of the most probable label of each node."""
        return self.ops.argmax(-1)

    @staticmethod
    def cat(batches: Sequence[GraphBatch]) -> GraphBatch:
        """Join batches of the same `n` and `k`."""
        return GraphBatch(
            torch.cat([b.ops for b in batches]),
            torch.cat([b.edges for b in batches]),
            torch.cat([b.node_mask for b in batches]),
        )


def live_nodes(n: int, edges: Sequence[tuple[int, int]], source: int, sink: int) -> set[int]:
    """Nodes that lie on a path from `source` to `sink`; empty when there is no such path."""
    forward = {source}
    for i, j in sorted(edges):
        if i in forward:
            forward.add(j)
    backward = {sink}
    for i, j in sorted(edges, key=lambda e: -e[1]):
        if j in backward:
            backward.add(i)
    return forward & backward if sink in forward else set()


def canonical_form(labels: Sequence[Hashable], edges: Mapping[tuple[int, int], Hashable]) -> str:
    """A text that is equal for two labelled digraphs exactly when they are isomorphic.

    Colour refinement (one-dimensional Weisfeiler-Lehman on in- and out-neighbours) with individualisation: while
    a colour class has several nodes, each of them is singled out in turn and the least encoding wins. Exact for
    every graph, and fast for the small, well-labelled graphs of architecture cells.

    Args:
        labels: Node labels; compared by their `repr`.
        edges: Labels of the directed edges `(i, j)`; compared by their `repr`.
    """
    names = [repr(label) for label in labels]
    edge_names = {edge: repr(label) for edge, label in edges.items()}
    predecessors: list[list[tuple[int, str]]] = [[] for _ in names]
    successors: list[list[tuple[int, str]]] = [[] for _ in names]
    for (i, j), name in edge_names.items():
        predecessors[j].append((i, name))
        successors[i].append((j, name))

    def refine(colours: list[int]) -> list[int]:
        while True:
            signature = [
                (
                    colours[v],
                    tuple(sorted((name, colours[u]) for u, name in predecessors[v])),
                    tuple(sorted((name, colours[u]) for u, name in successors[v])),
                )
                for v in range(len(names))
            ]
            order = {s: rank for rank, s in enumerate(sorted(set(signature)))}
            refined = [order[s] for s in signature]
            if len(order) == len(set(colours)):
                return refined
            colours = refined

    def encode(colours: list[int]) -> str:
        colours = refine(colours)
        cells = sorted({c for c in colours if colours.count(c) > 1})
        if not cells:
            nodes = [name for _, name in sorted(zip(colours, names, strict=True))]
            arcs = sorted((colours[i], colours[j], name) for (i, j), name in edge_names.items())
            return f"{nodes}{arcs}"
        shifted = [2 * c for c in colours]
        members = [v for v, c in enumerate(colours) if c == cells[0]]
        return min(encode([c - (v == u) for v, c in enumerate(shifted)]) for u in members)

    ranks = {name: rank for rank, name in enumerate(sorted(set(names)))}
    return encode([ranks[name] for name in names]) if names else "[][]"
