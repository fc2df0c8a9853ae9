"""What many architectures compute, as arrays: one numpy call then does for all what a loop does for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archgen.graph import Architecture

PASS = -1
"""Label of a node that only passes on the sum of what it reads: an identity, the input, the output."""
ABSENT = -2
"""Label of a node that a computation does not have."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Flow:
    """Computations of `b` architectures on `n` nodes in topological order, the input first and the output last.

    Args:
        labels: Position of each node's label in `space.computing_labels`, `PASS` or `ABSENT`, `b x n`.
        reads: How often node `j` reads node `i`, at `i, j`, `b x n x n` (or `1 x n x n`, the same for all); what it
            says of absent nodes means nothing.
    """

    labels: Ints
    reads: NDArray[np.integer]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Nodes `i, j` of which `j` reads `i` in some architecture, targets in topological order."""
        found = np.argwhere(self.reads.any(0).T)
        return [(int(i), int(j)) for j, i in found]

    def fed(self) -> NDArray[np.bool_]:
        """Which nodes the input reaches, `b x n`; the others have only zeros to work on."""
        found = np.zeros(self.labels.shape, dtype=bool)
        found[:, 0] = True
        there = self.labels != ABSENT
        for i, j in self.pairs:
            found[:, j] |= found[:, i] & (self.reads[:, i, j] > 0) & there[:, j]
        return found

    def used(self) -> NDArray[np.bool_]:
        """Which nodes the output is reached from, `b x n`."""
        found = np.zeros(self.labels.shape, dtype=bool)
        found[:, -1] = True
        there = self.labels != ABSENT
        for i, j in reversed(self.pairs):
            found[:, i] |= found[:, j] & (self.reads[:, i, j] > 0) & there[:, i]
        return found

    def live(self) -> NDArray[np.bool_]:
        """Which nodes lie on a path from the input to the output, `b x n`."""
        return self.fed() & self.used()

    def pruned(self) -> Flow:
        """The same with `ABSENT` for nodes that lie on no path from the input to the output; these two stay."""
        live = self.live()
        live[:, [0, -1]] = True
        return Flow(np.where(live, self.labels, ABSENT), self.reads)


def flow_of(computations: Sequence[Architecture], labels: Sequence[str]) -> Flow:
    """The flow of computations as `SearchSpace.computation` gives them.

    Args:
        computations: `b` DAGs from `input` to `output`.
        labels: The space's `computing_labels`.
    """
    n = max((len(dag.ops) for dag in computations), default=2)
    at = {label: i for i, label in enumerate(labels)}
    found = np.full((len(computations), n), ABSENT)
    reads = np.zeros((len(computations), n, n), dtype=np.int64)
    for row, dag in enumerate(computations):
        inner = len(dag.ops) - 2
        found[row, : inner + 1] = PASS, *(at[op] for op in dag.ops[1:-1])
        found[row, -1] = PASS
        for i, j in dag.edges:
            reads[row, i, j if j <= inner else n - 1] += 1
    return Flow(found, reads)
