"""What a latency depends on: counts of operations, a network's workload, and a look-up table, as linear features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from archgen.graph import Architecture
from archgen.predictors.base import Floats
from archgen.row_memory import RowMemory
from archgen.spaces import SearchSpace

REFERENCE = 1000
"""Random architectures that say what is usual in a space: features are centred and scaled by them."""


class LatencyFeatures:
    """Linear features of architectures, in groups.

    - `workload`: layers, multiply-adds, parameters and traffic by kind of layer (`SearchSpace.workload`), where the
      space has one; elsewhere
    - `counts`: operations that matter to the function, all and distinct ones, sums, longest path, whether anything is
      connected, and labels of what was built; with a workload the labels alone;
    - `table`: one-hot of the choice of each variable.

    Args:
        space: The space.
        simplify: Whether the networks are those of `space.simplify(arch)`; False: as written, and the table then has
            both.
        used: Whether the counts of networks as written have the labels of `space.without_unused` too: some phones leave
            out what the output is not reached from, and run convolutions of zeros.
    """

    def __init__(self, space: SearchSpace, simplify: bool, used: bool = False) -> None:
        self.space, self.simplify, self.used = space, simplify, used
        (first,) = space.sample(1, np.random.default_rng(0))
        self._repeats = space.workload(first) is None
        self._place = {label: i for i, label in enumerate(space.labels)}
        self.widths = [group.shape[1] for group in self._groups([first])]
        self._memory = RowMemory(lambda archs: np.hstack(self._groups(archs)), sum(self.widths))

    def __call__(self, archs: Sequence[Architecture]) -> Floats:
        """Features `b x p`, the groups side by side."""
        return self._memory(archs)

    def split(self, features: Floats) -> list[Floats]:
        """The groups of features that lie side by side."""
        return np.split(features, np.cumsum(self.widths)[:-1], axis=1)

    @cached_property
    def _sample(self) -> Floats:
        return self(self.space.sample(REFERENCE, np.random.default_rng(0)))

    @cached_property
    def usual(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation of each feature over the space, `p` each; 0 for a feature that never varies."""
        spread = self._sample.std(0)
        varies = spread > 1e-9 * np.abs(self._sample).max(0)
        return self._sample.mean(0), np.where(varies, spread, 0.0)

    @cached_property
    def standardised(self) -> Floats:
        """Features of random architectures of the space, each of mean 0 and variance 1, `REFERENCE x p`."""
        return self.standardise(self._sample)

    def standardise(self, features: Floats) -> Floats:
        """Features `b x p` on the scale of `usual`; what never varies in the space is 0."""
        middle, spread = self.usual
        scaled: Floats = (features - middle) / np.where(spread > 0, spread, 1.0) * (spread > 0)
        return scaled

    def _groups(self, archs: Sequence[Architecture]) -> list[Floats]:
        simple = self.space.simplified(archs)
        built = simple if self.simplify else archs
        tables = [self._table(kind) for kind in ([simple] if self.simplify or not self._repeats else [simple, built])]
        workload = None if self._repeats else self.space.workloads(built)
        if workload is not None:
            return [workload, self._labels(built), *tables]
        counts = np.array([self._counts(arch) for arch in simple], dtype=float)
        labels = [self._labels(built)]
        if self.used and not self.simplify:
            labels.append(self._labels(self.space.without_unused(archs)))
        return [np.hstack([counts, *labels]), np.hstack(tables)]

    def _labels(self, archs: Sequence[Architecture]) -> Floats:
        """How often each label of the space occurs."""
        place, k = self._place, len(self._place)
        found = [row * k + place[op] for row, arch in enumerate(archs) for op in arch.ops if op in place]
        return np.bincount(found, minlength=len(archs) * k).reshape(len(archs), k).astype(float)

    def _counts(self, simple: Architecture) -> list[int]:
        graph = self.space.computation(simple)
        reads: list[list[int]] = [[] for _ in graph.ops]
        depth = [0] * len(graph.ops)
        for i, j in sorted(graph.edges):  # by source, so a node's depth is final before it is used
            reads[j].append(i)
            depth[j] = max(depth[j], depth[i] + 1)
        # A runtime computes an equal expression once: one pooling of a value, one sum, one ReLU, however often used.
        values = {tuple(sources) for sources in reads if sources}
        distinct = Counter(op for op, _ in {(op, tuple(read)) for op, read in zip(graph.ops, reads, strict=True)})
        counts = Counter(graph.ops)
        labels = self.space.computing_labels
        return [
            *(counts[label] for label in labels),
            *(distinct[label] for label in labels),
            len(graph.edges) - len(graph.ops),  # sums: every edge into a node beyond its first is an addition
            len(values),
            sum(len(value) - 1 for value in values),
            depth[-1],
            int(bool(graph.edges)),
        ]

    def _table(self, archs: Sequence[Architecture]) -> Floats:
        widths = [len(values) for values in self.space.variables.values()]
        starts = np.cumsum([0, *widths[:-1]])
        choices = self.space.choices(archs)
        table = np.zeros((len(archs), sum(widths)))
        table[np.arange(len(archs))[:, None], starts + choices] = 1.0
        return table
