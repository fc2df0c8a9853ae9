"""The graph of a genotype: which edges an operation's source can be, which are always there, and draws of sources."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from archgen.errors import InvalidArchitecture

Edge = tuple[int, int]

KNOWN = 2**16
"""Cells whose edges a graph remembers."""


class GenotypeGraph:
    """The `n = 4 nodes + 3` nodes of two cells in one graph, and its edges.

    Nodes 0 and 1 are the inputs of both cells, then come the `v = 4 nodes` operations, those of the normal cell first,
    two a node of a cell, and the output is last. A free edge leads to operation `i` from each of its sources, of which
    it reads one: 0 and 1 are the inputs, `2 + j` is node `j` of its cell, for which its second operation stands. Fixed
    edges lead from the first operation of a node to the second, and from there to the output.

    Args:
        nodes: Nodes of a cell, at least 1.
        operations: How many operations there are, the labels between those of the two inputs and of the output.
    """

    def __init__(self, nodes: int, operations: int) -> None:
        width, last = 2 * nodes, 4 * nodes + 2
        k, n = operations + 3, last + 1
        self.nodes = nodes
        self.free: list[list[Edge]] = [
            [(s if s < 2 else 2 + c * width + 2 * s - 3, 2 + c * width + i) for s in range(2 + i // 2)]
            for c in range(2)
            for i in range(width)
        ]
        """Of each of the `v` operations the edge from each of its sources."""
        self.choice = {edge: (i, s) for i, edges in enumerate(self.free) for s, edge in enumerate(edges)}
        """Position of the operation and its source, of each free edge."""
        seconds = range(3, last, 2)
        self.fixed = frozenset([(i - 1, i) for i in seconds] + [(i, last) for i in seconds])
        """Edges that every genotype has."""
        self.node_domain = torch.zeros(n, k, dtype=torch.bool)
        """Labels that a node may carry, `n x k`."""
        self.node_domain[0, 0] = self.node_domain[1, 1] = self.node_domain[-1, -1] = True
        self.node_domain[2:-1, 2:-1] = True
        self.edge_domain = torch.zeros(n, n, 2, dtype=torch.bool)
        """Whether an edge may be absent and whether it may be there, `n x n x 2`."""
        self.edge_domain[..., 0] = True
        for i, j in self.choice:
            self.edge_domain[i, j, 1] = True
        for i, j in self.fixed:
            self.edge_domain[i, j] = torch.tensor([False, True])
        self._known: dict[tuple[int, tuple[int, ...]], tuple[tuple[Edge, ...], ...]] = {}
        most = nodes + 1
        padded = [edges + [edges[0]] * (most - len(edges)) for edges in self.free]
        self._sources, self._targets = torch.tensor(padded).unbind(-1)  # v x sources
        self._real = torch.tensor([[s < len(edges) for s in range(most)] for edges in self.free])

    # -- one genotype -------------------------------------------------------------------------------------------

    def edges_of(self, sources: Sequence[int]) -> tuple[Edge, ...]:
        """Sorted edges of a genotype whose `v` operations read these sources."""
        width = 2 * self.nodes
        normal, reduce = self._edges_of(0, tuple(sources[:width])), self._edges_of(1, tuple(sources[width:]))
        return tuple([edge for parts in zip(normal, reduce, strict=True) for part in parts for edge in part])

    def _edges_of(self, cell: int, sources: tuple[int, ...]) -> tuple[tuple[Edge, ...], ...]:
        """Sorted edges of one of the two cells: those from the first input, from the second, and all others."""
        known = self._known.get((cell, sources))
        if known is None:
            first = cell * 2 * self.nodes
            free = [self.free[first + i][s] for i, s in enumerate(sources)]
            fixed = [edge for edge in self.fixed if 2 + first <= edge[0] < 2 + first + 2 * self.nodes]
            edges = sorted([*free, *fixed])
            inputs = [tuple(edge for edge in edges if edge[0] == i) for i in (0, 1)]
            known = *inputs, tuple(edge for edge in edges if edge[0] > 1)
            if len(self._known) > KNOWN:
                self._known.clear()
            self._known[cell, sources] = known
        return known

    def sources_of(self, edges: Sequence[Edge]) -> list[int]:
        """The source of each of the `v` operations.

        Raises:
            InvalidArchitecture: An edge that no genotype has, a fixed one that is missing, or not one source each.
        """
        sources = [-1] * len(self.free)
        fixed = 0
        for edge in edges:
            choice = self.choice.get(edge)
            if choice is not None:
                sources[choice[0]] = choice[1]
            elif edge in self.fixed:
                fixed += 1
            else:
                raise InvalidArchitecture(f"edge {edge} can not be part of a genotype of {self.nodes} nodes")
        if -1 in sources or fixed != len(self.fixed) or fixed + len(sources) != len(edges):
            raise InvalidArchitecture(
                f"expected {len(self.fixed)} fixed edges and one source for each of {len(self.free)} operations, "
                f"got edges {edges}"
            )
        return sources

    # -- many of them, as tensors on the CPU or, for draws, on any device ----------------------------------------

    def read(self, edges: Bool[Tensor, "b n n"]) -> tuple[Bool[Tensor, " b"], Int[Tensor, "b v"]]:
        """Whether graphs are those of genotypes, and the source of each operation of those that are."""
        states = torch.stack([~edges, edges], -1)
        valid = (states & self.edge_domain).any(-1).flatten(1).all(1)
        present = edges[:, self._sources, self._targets] & self._real
        valid &= (present.sum(-1) == 1).all(1)
        return valid, present.int().argmax(-1)

    def draw_sources(
        self, drawn: Float[Tensor, "b n n"], probabilities: Float[Tensor, "b n n"], *, generator: torch.Generator
    ) -> Float[Tensor, "b n n"]:
        r"""Edges with one source for every operation, drawn exactly: sources are independent given that.

        Where an operation has none or several, source `s` is drawn with probability proportional to
        :math:`p_s / (1 - p_s)`, which is that of independent edges given that exactly one is there.

        Args:
            drawn: Edges, there where above one half.
            probabilities: Of every edge being there, in [0, 1].
            generator: Source of randomness.

        Returns:
            The same tensor where every operation has one source already, else a new one.
        """
        sources, targets, real = (t.to(drawn.device) for t in (self._sources, self._targets, self._real))
        wrong = ((drawn[:, sources, targets] > 0.5) & real).sum(-1) != 1  # b x v
        graph, operation = wrong.nonzero(as_tuple=True)
        if not len(graph):
            return drawn
        p = probabilities[graph[:, None], sources[operation], targets[operation]].double().clamp(1e-12, 1 - 1e-12)
        odds = (p.log() - (-p).log1p()).masked_fill(~real[operation], -torch.inf).softmax(-1)
        chosen = torch.multinomial(odds, 1, generator=generator).squeeze(-1)
        edges = drawn.clone()
        edges[graph[:, None], sources[operation], targets[operation]] = 0.0
        edges[graph, sources[operation, chosen], targets[operation, chosen]] = 1.0
        return edges
