"""Path encoding: an architecture as counts of what lies on its live paths (after BANANAS, arXiv 1910.11858)."""

from __future__ import annotations

import itertools
from collections import Counter
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
        self._choices = [(name, len(values)) for name, values in space.variables.items()]
        self._cache: dict[Architecture, np.ndarray] = {}

    @property
    def blocks(self) -> dict[str, int]:
        """Width of each block of features, in order."""
        widths = {
            "choices": sum(width for _, width in self._choices),
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
        return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, sum(self.blocks.values())).double()

    def _encode(self, arch: Architecture) -> np.ndarray:
        choices = self.space.to_choices(self.space.simplify(arch))
        one_hot = np.concatenate([np.eye(width)[choices[name]] for name, width in self._choices])
        dag = self.space.computation(arch)
        counts = Counter(dag.ops[1:-1])
        path_counts = np.zeros(len(self._paths))
        for sequence, times in self._ends(dag).items() if self._paths else ():
            path_counts[self._paths[sequence]] = times
        return np.concatenate(
            [
                one_hot,
                [counts[label] for label in self.labels],
                self._longest(dag),
                np.log1p(path_counts),
            ]
        )

    def _longest(self, dag: Architecture) -> np.ndarray:
        """Most nodes of each label on one path from input to output, then most nodes in all (-1 without a path)."""
        far = np.full((len(dag.ops), len(self.labels) + 1), -np.inf)
        far[0] = 0.0
        for source, target in sorted(dag.edges, key=lambda edge: edge[1]):  # targets in topological order
            step = np.zeros(len(self.labels) + 1)
            if target < len(dag.ops) - 1:
                step[self.labels.index(dag.ops[target])] = step[-1] = 1.0
            far[target] = np.maximum(far[target], far[source] + step)
        none = np.zeros(len(self.labels) + 1)
        none[-1] = -1.0
        return np.where(np.isinf(far[-1]), none, far[-1])

    @staticmethod
    def _ends(dag: Architecture) -> Counter[tuple[str, ...]]:
        """How often each label sequence occurs on paths from input to output."""
        paths: list[Counter[tuple[str, ...]]] = [Counter() for _ in dag.ops]
        paths[0][()] = 1
        for source, target in sorted(dag.edges, key=lambda edge: edge[1]):
            label = () if target == len(dag.ops) - 1 else (dag.ops[target],)
            for sequence, times in paths[source].items():
                paths[target][(*sequence, *label)] += times
        return paths[-1]
