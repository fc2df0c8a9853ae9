"""Rows of numbers of architectures, remembered: encodings and beliefs that are asked for again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from archgen.graph import Architecture

REMEMBERED = 50_000
"""Architectures whose row is kept."""
CHUNK = 512
"""Architectures that are computed at a time."""

Floats = NDArray[np.float64]


class RowMemory:
    """A function of architectures that is computed once for each; beyond `REMEMBERED` of them it begins anew.

    So memory does not grow with the samples of a long run. Rows lie in one matrix: those of a whole space are found as
    fast as they can be copied.

    Args:
        compute: Rows of distinct architectures, `b x width`.
        width: Of a row.
        chunk: Most architectures that `compute` is given at once, at least 1; what is computed at once is held at once.

    Example:
        >>> from archgen import spaces
        >>> space = spaces.load("nasbench201")
        >>> edges = RowMemory(lambda archs: np.array([[len(arch.edges)] for arch in archs], float), 1)
        >>> (arch,) = space.sample(1, np.random.default_rng(0))
        >>> edges([arch, arch]).shape, len(edges)
        ((2, 1), 1)
    """

    def __init__(self, compute: Callable[[list[Architecture]], Floats], width: int, *, chunk: int = CHUNK) -> None:
        self._compute, self._width, self._chunk = compute, width, chunk
        self.forget()

    def __len__(self) -> int:
        return len(self._places)

    def forget(self) -> None:
        """Compute every row anew from now on: the function has changed."""
        self._places: dict[Architecture, int] = {}
        self._rows: Floats = np.empty((0, self._width))

    def __call__(self, archs: Sequence[Architecture]) -> Floats:
        """Rows of `b` architectures, `b x width`, a copy."""
        parts = [self._part(archs[i : i + REMEMBERED]) for i in range(0, max(len(archs), 1), REMEMBERED)]
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _part(self, archs: Sequence[Architecture]) -> Floats:
        found, new = self._look_up(archs)
        if len(self._places) > REMEMBERED:
            self.forget()
            found, new = self._look_up(archs)
        try:
            for start in range(0, len(new), self._chunk):
                self._add(new[start : start + self._chunk], len(self._places) - len(new) + start)
        except BaseException:
            self.forget()  # some have a place and no row
            raise
        rows: Floats = self._rows[found]
        return rows

    def _look_up(self, archs: Sequence[Architecture]) -> tuple[list[int], list[Architecture]]:
        """Places of the rows, and of which there is none yet; each is hashed once, which is what it costs."""
        places, new, found = self._places, list[Architecture](), list[int]()
        free = len(places)
        for arch in archs:
            place = places.setdefault(arch, free)
            if place == free:
                new.append(arch)
                free += 1
            found.append(place)
        return found, new

    def _add(self, archs: list[Architecture], n: int) -> None:
        """Compute rows, the first of which is the `n`-th."""
        rows = self._compute(archs)
        if n + len(archs) > len(self._rows):
            grown = np.empty((max(n + len(archs), 2 * n), self._width))
            grown[:n] = self._rows[:n]
            self._rows = grown
        self._rows[n : n + len(archs)] = rows
