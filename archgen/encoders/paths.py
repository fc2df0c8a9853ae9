"""Path encoding: an architecture as counts of what lies on its live paths (after BANANAS, arXiv 1910.11858)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from archgen.graph import Architecture
from archgen.row_memory import RowMemory
from archgen.spaces import SearchSpace
from archgen.spaces.flow import ABSENT, Flow, Ints

MAX_PATHS = 4096

Floats = NDArray[np.float64]


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
        self._starts = np.array(list(itertools.accumulate(widths[:-1], initial=0)))
        self._choices_width = sum(widths)
        self._longer = np.array(  # of each sequence but the longest: what it becomes with each label at its end
            [[self._paths[*s, label] for s in self._paths if len(s) < space.depth] for label in labels]
        )
        self._width = sum(self.blocks.values())
        self._memory = RowMemory(self._encode, self._width)

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
        return torch.from_numpy(self._memory(archs))

    def _encode(self, archs: Sequence[Architecture]) -> Floats:
        chosen = np.zeros((len(archs), self._choices_width))
        chosen[np.arange(len(archs))[:, None], self._starts + self.space.simple_choices(archs)] = 1.0
        flow = self.space.flow(archs)
        counts = np.stack([(flow.labels == i).sum(1) for i in range(len(self.labels))], 1)
        blocks = [chosen, counts, self._longest(flow)]
        if self._paths:
            times = self._times(flow)
            blocks.append(np.log1p(np.arange(times.max() + 1, dtype=float))[times])
        return np.concatenate(blocks, 1, dtype=float)

    def _longest(self, flow: Flow) -> Floats:
        """Most nodes of each label on one path from input to output, then most nodes in all (-1 without a path)."""
        b, n = flow.labels.shape
        k = len(self.labels)
        step = np.zeros((n, b, k + 1))
        node, row = np.nonzero(flow.labels.T >= 0)
        step[node, row, flow.labels[row, node]] = step[node, row, -1] = 1.0
        far = np.full((n, b, k + 1), -np.inf)  # -inf: no path leads there
        far[0] = 0.0
        for i, j in flow.pairs:
            read = (flow.reads[:, i, j] > 0) & (flow.labels[:, j] != ABSENT)
            reached = np.where(read[:, None], far[i] + step[j], -np.inf)
            np.maximum(far[j], reached, out=far[j])
        nowhere = np.array([0.0] * k + [-1.0])
        return np.where(far[-1] >= 0, far[-1], nowhere)

    def _times(self, flow: Flow) -> Ints:
        """How often each label sequence occurs on paths from input to output, `b x sequences`."""
        b, n = flow.labels.shape
        paths = np.zeros((n, b, len(self._paths)), dtype=np.int64)
        paths[0, :, 0] = 1
        for j in range(1, n):
            for i in range(j):
                if flow.reads[:, i, j].any():
                    paths[j] += flow.reads[:, i, j, None] * paths[i]
            paths[j, flow.labels[:, j] == ABSENT] = 0
            for label, longer in enumerate(self._longer):
                rows = np.flatnonzero(flow.labels[:, j] == label)
                walked = np.zeros((len(rows), len(self._paths)), dtype=np.int64)
                walked[:, longer] = paths[j, rows, : len(longer)]
                paths[j, rows] = walked
        last: np.ndarray = paths[-1]
        return last
