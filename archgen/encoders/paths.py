"""Path encoding: an architecture as counts of what lies on its live paths (after BANANAS, arXiv 1910.11858)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from archgen.graph import Architecture
from archgen.spaces import SearchSpace

MAX_PATHS = 4096
REMEMBERED = 50_000
"""Architectures whose features are kept."""


class PathEncoder:
    """Features of the function that an architecture computes; equal for most architectures of one canonical form.

    Blocks, in this order: one-hot of the simplified architecture's choices; counts of each operation in the
    contracted DAG; longest path measured in each operation, and in all; `log(1 + count)` of each label sequence
    along paths from input to output. BANANAS counts presence on the raw cell; dead edges and identities are
    resolved here first, which is what makes few labels go far. The last block is for small cells: a space whose
    vocabulary and depth give more than 4,096 label sequences goes without it.

    Args:
        space: The space.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        labels = space.computing_labels
        self.labels = labels
        self._paths: dict[tuple[str, ...], int] = {}
        if sum(len(labels) ** length for length in range(space.depth + 1)) <= MAX_PATHS:
            sequences = itertools.chain.from_iterable(
                itertools.product(labels, repeat=length) for length in range(space.depth + 1)
            )
            self._paths = {sequence: i for i, sequence in enumerate(sequences)}
        widths = [len(values) for values in space.variables.values()]
        starts = itertools.accumulate(widths[:-1], initial=0)
        self._starts = list(zip(space.variables, starts, strict=True))
        self._choices_width = sum(widths)
        self._label = {label: i for i, label in enumerate(labels)}
        self._logs: list[float] = [0.0]
        self._width = sum(self.blocks.values())
        self._cache: dict[Architecture, np.ndarray] = {}

    @property
    def blocks(self) -> dict[str, int]:
        """Width of each block of features, in order."""
        widths = {
            "choices": self._choices_width,
            "counts": len(self.labels),
            "longest": len(self.labels) + 1,
        }
        return {**widths, "paths": len(self._paths)} if self._paths else widths

    def __call__(self, archs: Sequence[Architecture]) -> Float[Tensor, "b d"]:
        """Encode architectures, in double precision."""
        rows = []
        for arch in archs:
            row = self._cache.get(arch)
            if row is None:
                if len(self._cache) >= REMEMBERED:  # memory must not grow with the samples
                    self._cache.clear()
                row = self._cache[arch] = self._encode(arch)
            rows.append(row)
        return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, self._width).double()

    def _encode(self, arch: Architecture) -> np.ndarray:
        row = np.zeros(self._width)
        choices = self.space.to_choices(self.space.simplify(arch))
        row[[start + choices[name] for name, start in self._starts]] = 1.0
        dag = self.space.computation(arch)
        start, k = self._choices_width, len(self.labels)
        for op in dag.ops[1:-1]:
            row[start + self._label[op]] += 1.0
        row[start + k : start + 2 * k + 1] = self._longest(dag)
        if self._paths:
            first = start + 2 * k + 1
            for sequence, times in self._ends(dag).items():
                row[first + self._paths[sequence]] = self._log(times)
        return row

    def _log(self, times: int) -> float:
        """`log(1 + times)`, from a table that grows as needed; numpy's, whose last digit may differ from `math`'s."""
        if times >= len(self._logs):
            self._logs = np.log1p(np.arange(2 * times, dtype=float)).tolist()
        return self._logs[times]

    def _longest(self, dag: Architecture) -> list[float]:
        """Most nodes of each label on one path from input to output, then most nodes in all (-1 without a path)."""
        last = len(dag.ops) - 1
        far: list[list[float] | None] = [None] * (last + 1)  # None: no path leads there
        far[0] = [0.0] * (len(self.labels) + 1)
        for source, target in _by_target(dag):
            walked = far[source]
            if walked is None:
                continue
            if target < last:
                walked = walked.copy()
                walked[self._label[dag.ops[target]]] += 1.0
                walked[-1] += 1.0
            known = far[target]
            far[target] = walked if known is None else list(map(max, known, walked))
        end = far[last]
        return [0.0] * len(self.labels) + [-1.0] if end is None else end

    @staticmethod
    def _ends(dag: Architecture) -> dict[tuple[str, ...], int]:
        """How often each label sequence occurs on paths from input to output."""
        last = len(dag.ops) - 1
        paths: list[dict[tuple[str, ...], int]] = [{} for _ in dag.ops]
        paths[0][()] = 1
        for source, target in _by_target(dag):
            label = () if target == last else (dag.ops[target],)
            there = paths[target]
            for sequence, times in paths[source].items():
                key = sequence + label
                there[key] = there.get(key, 0) + times
        return paths[last]


def _by_target(dag: Architecture) -> list[tuple[int, int]]:
    """Edges with targets in topological order."""
    return sorted(dag.edges, key=lambda edge: edge[1])
