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
REMEMBERED = 50_000
"""Architectures, and colours, that are kept."""


class WeisfeilerLehmanEncoder:
    """Counts of the colours of an architecture's computation after a round of refinement.

    A node's colour is its label and the multisets of its predecessors' and its successors' labels; the graphs are
    directed, so the two are kept apart. Round 0, the labels alone, is in the counts of `PathEncoder`; a second round
    made no prediction better on validation accuracies of NAS-Bench-201. Colours are hashed to 128 buckets (the
    original numbers those of a fixed data set, which a generator does not have); counts enter as `log(1 + count)`.

    Args:
        space: A space with a computation (`SearchSpace.computation`).
    """

    width = BUCKETS

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._buckets: dict[str, int] = {}
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
        counts = np.zeros(BUCKETS, dtype=np.float32)
        for v, own in enumerate(dag.ops):
            into = ",".join(sorted([dag.ops[u] for u in before[v]]))
            out = ",".join(sorted([dag.ops[u] for u in after[v]]))
            counts[self._bucket(f"{own}<{into}>{out}")] += 1
        return np.log1p(counts)

    def _bucket(self, colour: str) -> int:
        """The same in every process."""
        bucket = self._buckets.get(colour)
        if bucket is None:
            if len(self._buckets) >= REMEMBERED:
                self._buckets.clear()
            digest = hashlib.blake2b(colour.encode(), digest_size=8).digest()
            bucket = self._buckets[colour] = int.from_bytes(digest, "big") % BUCKETS
        return bucket
