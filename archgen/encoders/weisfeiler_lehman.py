"""Weisfeiler-Lehman features: how often each neighbourhood occurs in the graph (Shervashidze et al., JMLR 12, 2011)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from archgen.graph import Architecture
from archgen.spaces import SearchSpace

BUCKETS = 128
ITERATIONS = 2
REMEMBERED = 50_000
"""Architectures, and colours, that are kept."""


class WeisfeilerLehmanEncoder:
    """Counts of the colours of an architecture's computation after one and two rounds of refinement.

    A node's colour is its label and the multisets of its predecessors' and its successors' colours of the round
    before; the graphs are directed, so the two are kept apart. Labels alone are the counts of `PathEncoder`. Colours
    are hashed to 128 buckets a round (the original numbers those of a fixed data set, which a generator does not have),
    and counts enter as `log(1 + count)`.

    Args:
        space: A space with a computation (`SearchSpace.computation`).
    """

    width = ITERATIONS * BUCKETS

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._buckets: dict[str, tuple[str, int]] = {}
        self._cache: dict[Architecture, np.ndarray] = {}

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
        return torch.from_numpy(np.stack(rows)).double() if rows else torch.zeros(0, self.width).double()

    def _encode(self, arch: Architecture) -> np.ndarray:
        dag = self.space.computation(arch)
        before: list[list[int]] = [[] for _ in dag.ops]
        after: list[list[int]] = [[] for _ in dag.ops]
        for i, j in dag.edges:
            before[j].append(i)
            after[i].append(j)
        colours = list(dag.ops)
        counts = np.zeros((ITERATIONS, BUCKETS), dtype=np.float32)
        for round_counts in counts:
            refined = []
            for v, own in enumerate(colours):
                into = ",".join(sorted([colours[u] for u in before[v]]))
                out = ",".join(sorted([colours[u] for u in after[v]]))
                name, bucket = self._colour(f"{own}<{into}>{out}")
                refined.append(name)
                round_counts[bucket] += 1
            colours = refined
        return np.log1p(counts).reshape(-1)

    def _colour(self, signature: str) -> tuple[str, int]:
        """A short name for a colour, and its bucket; the same in every process."""
        known = self._buckets.get(signature)
        if known is None:
            if len(self._buckets) >= REMEMBERED:
                self._buckets.clear()
            digest = hashlib.blake2b(signature.encode(), digest_size=8).hexdigest()
            known = self._buckets[signature] = digest, int(digest, 16) % BUCKETS
        return known
