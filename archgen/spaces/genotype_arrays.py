"""Genotypes by the thousand: operations and sources as arrays, dead inputs and flows of all of them at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from archgen.graph import Architecture
from archgen.spaces.flow import ABSENT, PASS, Flow, Ints
from archgen.spaces.genotype_function import CELLS, INPUTS
from archgen.spaces.last_batch import LastBatch

if TYPE_CHECKING:
    from archgen.spaces.genotype import GenotypeSpace


class GenotypeArrays:
    """Choices and flows of many genotypes at once.

    Args:
        space: Their space.
        choice: Position of an input and its source, for each edge that can be chosen.
        fixed: Edges that each architecture has besides.
    """

    def __init__(
        self,
        space: GenotypeSpace,
        choice: Mapping[tuple[int, int], tuple[int, int]],
        fixed: Collection[tuple[int, int]],
    ) -> None:
        self.space, self._choice, self._fixed = space, choice, fixed
        self.live_cells = LastBatch(self._live_cells)
        """The inputs of each cell of a batch, `b x 2 nodes`, dead ones cut and the two of a node sorted."""

    def inputs(self, archs: Sequence[Architecture]) -> tuple[Ints, Ints]:
        """Position of the operation and the source of each input of both cells, `b x 4 nodes` each.

        Raises:
            InvalidArchitecture: One of them is no genotype.
        """
        space = self.space
        at = {operation: i for i, operation in enumerate(space.operations)}
        sources = read_sources(archs, self._choice, self._fixed)
        if sources is None:  # one that is no genotype: say which and why
            sources = np.array([[source for cell in space.cells(arch) for _, source in cell] for arch in archs])
        operations = np.array([[at[op] for op in arch.ops[2:-1]] for arch in archs], dtype=np.int64)
        return operations.reshape(-1, 4 * space.nodes), sources.reshape(-1, 4 * space.nodes)

    def _live_cells(self, archs: Sequence[Architecture]) -> dict[str, tuple[Ints, Ints]]:
        operations, sources = self.inputs(archs)
        halves = zip(np.split(operations, 2, axis=1), np.split(sources, 2, axis=1), strict=True)
        zero = self.space.operations.index(self.space.zero)
        return {name: cut_dead_inputs(*cell, zero) for name, cell in zip(CELLS, halves, strict=True)}

    def choices(self, archs: Sequence[Architecture]) -> Ints:
        """`to_choices` of each architecture, `b x v`."""
        return np.stack(self.inputs(archs), -1).reshape(len(archs), len(self.space.variables))

    def simple_choices(self, archs: Sequence[Architecture]) -> Ints:
        """`to_choices` of each simplified architecture, `b x v`."""
        cells = [np.stack(cell, -1) for cell in self.live_cells(archs).values()]
        return np.concatenate(cells, 1).reshape(len(archs), len(self.space.variables))

    def flow(self, archs: Sequence[Architecture]) -> Flow:
        """`SearchSpace.flow`."""
        labels = {label: i for i, label in enumerate(self.space.computing_labels)}
        return flow_of_cells(self.live_cells(archs), self.space.roles, labels, INPUTS)


def read_sources(
    archs: Sequence[Architecture], choice: Mapping[tuple[int, int], tuple[int, int]], fixed: Collection[tuple[int, int]]
) -> Ints | None:
    """Source of each of the `v` inputs of both cells, `b x v`; None if an architecture is no genotype.

    Args:
        archs: `b` architectures.
        choice: Position of the input and its source, for each edge that can be chosen.
        fixed: Edges that each architecture has besides.
    """
    v = max(i for i, _ in choice.values()) + 1
    n = max(max(edge) for edge in fixed) + 1
    if any(len(arch.edges) != v + len(fixed) for arch in archs):
        return None
    edges = np.array([arch.edges for arch in archs], dtype=np.int64).reshape(len(archs), v + len(fixed), 2)
    if edges.max(initial=0) >= n:
        return None
    table = np.full((n, n, 2), -1)
    for edge, (i, source) in choice.items():
        table[edge] = i, source
    for edge in fixed:
        table[edge] = v, 0
    place, source = table[edges[..., 0], edges[..., 1]].transpose(2, 0, 1)
    found = np.full((len(archs), v + 1), -1)
    found[np.arange(len(archs))[:, None], place] = source
    free = (place == v).sum(1) == len(fixed)  # as many fixed ones, and so each other input has one
    return found[:, :v] if bool((place >= 0).all() and free.all() and (found[:, :v] >= 0).all()) else None


def cut_dead_inputs(operations: Ints, sources: Ints, zero: int) -> tuple[Ints, Ints]:
    """`cut_dead` of `b` cells, and the two inputs of each node sorted by source and operation.

    Args:
        operations: Position of the operation of each input of a cell's nodes, two a node, `b x 2 n`.
        sources: What they read, `b x 2 n`.
        zero: Position of the zero operation.
    """
    b, width = operations.shape
    alive = np.ones((b, 2 + width // 2), dtype=bool)
    row = np.arange(b)
    most = operations.max(initial=zero) + 1
    keys = np.empty_like(operations)
    for i in range(width):
        live = (operations[:, i] != zero) & alive[row, sources[:, i]]
        keys[:, i] = np.where(live, sources[:, i] * most + operations[:, i], zero)
        if i % 2:
            alive[:, 2 + i // 2] = (keys[:, i - 1 : i + 1] != zero).any(1)
    keys = np.sort(keys.reshape(b, width // 2, 2), -1).reshape(b, width)
    return keys % most, keys // most


def flow_of_cells(
    cells: Mapping[str, tuple[Ints, Ints]], roles: Mapping[str, str], labels: Mapping[str, int], inputs: tuple[str, str]
) -> Flow:
    """The flow of both cells side by side, as `computation_of` reads them.

    Args:
        cells: Operations and sources of `b` cells called `normal` and of those called `reduce`, dead inputs cut.
        roles: Role of each operation.
        labels: Position of each computing label.
        inputs: Labels of the inputs of both cells.

    Returns:
        Nodes are the input, the two inputs of the cells, for each node of a cell its two operations and then their
        sum, and the output.
    """
    b, width = next(iter(cells.values()))[0].shape
    n = 4 + 3 * width  # two cells of width / 2 nodes, three places a node
    found = np.full((b, n), PASS)
    reads = np.zeros((b, n, n), dtype=np.int8)
    reads[:, 0, 1:3] = 1
    found[:, 1:3] = [labels[label] for label in inputs]
    row = np.arange(b)
    for c, (name, (operations, sources)) in enumerate(cells.items()):
        first = 3 + c * 3 * (width // 2)
        of_role = np.array(
            [ABSENT if role == "zero" else labels.get(f"{name}:{op}", PASS) for op, role in roles.items()]
        )
        halves = np.array([role == "identity" and name == "reduce" for role in roles.values()])
        for i in range(width):
            at, total, read = first + 3 * (i // 2) + i % 2, first + 3 * (i // 2) + 2, sources[:, i]
            passed = halves[operations[:, i]] & (read >= 2)  # of stride 1, an identity
            found[:, at] = np.where(passed, PASS, of_role[operations[:, i]])
            reads[row, np.where(read < 2, 1 + read, first + 3 * (read - 2) + 2), at] = 1
            reads[:, at, total] = reads[:, total, n - 1] = 1
    return Flow(found, reads).pruned()
