"""The architectures of a space that a table lists, as a space of their own: what can be searched there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from archgen.errors import InvalidSpace
from archgen.graph import Architecture, GraphBatch
from archgen.spaces.base import SearchSpace
from archgen.spaces.restricted import RestrictedSpace

NEAR = 30
"""Listed architectures that count as neighbours of one."""
_CHUNK = 64


class ListedSpace(RestrictedSpace):
    """A few architectures of a space, drawn and changed among themselves; all else is the space's.

    Neighbours are the listed ones with most choices in common, as many for each, since of a large space hardly any two
    listed ones differ in one choice alone. A mutation is one of them, a child the listed one that is most like the
    child of the space, and so is what a generator's graph decodes to.

    Args:
        space: The whole space.
        archs: At least two different architectures of it.

    Raises:
        InvalidSpace: Fewer than two.
    """

    def __init__(self, space: SearchSpace, archs: Sequence[Architecture]) -> None:
        super().__init__(space, {}, space.summary)
        self._archs = list(dict.fromkeys(archs))
        self._rows = {arch: i for i, arch in enumerate(self._archs)}
        if len(self._archs) < 2:
            raise InvalidSpace(f"{len(self._archs)} architectures of {space.name} are no space to search: list more")
        self._one_hot = self._encoded(self._archs)

    @cached_property
    def size(self) -> int:
        """Number of listed architectures."""
        return len(self._archs)

    def enumerate(self) -> list[Architecture]:
        """The listed ones, in their order."""
        return list(self._archs)

    def sample(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """Draw `n` listed ones with repetition, uniformly."""
        return [self._archs[i] for i in rng.integers(len(self._archs), size=n).tolist()]

    def neighbours(self, arch: Architecture) -> list[Architecture]:
        """The listed ones with most choices in common, most first; without itself."""
        common = self._common([arch])[0]
        order = np.argsort(-common, kind="stable")[: NEAR + 1].tolist()
        return [self._archs[i] for i in order if i != self._rows.get(arch)][:NEAR]

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """One of the neighbours, uniformly."""
        near = self.neighbours(arch)
        return near[int(rng.integers(len(near)))]

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        """The listed one that is most like the child that the space gives."""
        return self._nearest([self.base.crossover(a, b, rng)])[0]

    def decode(self, batch: GraphBatch) -> list[Architecture | None]:
        """As the space decodes, and then the listed one that is most like it."""
        archs = super().decode(batch)
        found = iter(self._nearest([arch for arch in archs if arch is not None]))
        return [None if arch is None else next(found) for arch in archs]

    def _nearest(self, archs: Sequence[Architecture]) -> list[Architecture]:
        """Of each the listed one with most choices in common, the first of several."""
        found: list[Architecture] = []
        for start in range(0, len(archs), _CHUNK):
            best = self._common(archs[start : start + _CHUNK]).argmax(1)
            found += [self._archs[i] for i in best.tolist()]
        return found

    def _common(self, archs: Sequence[Architecture]) -> NDArray[np.float32]:
        """Choices in common with each listed one, `b x n`."""
        common: NDArray[np.float32] = self._encoded(archs) @ self._one_hot.T
        return common

    def _encoded(self, archs: Sequence[Architecture]) -> NDArray[np.float32]:
        """The choices, one-hot, `b x p`."""
        widths = [len(values) for values in self.variables.values()]
        starts = np.cumsum([0, *widths[:-1]])
        found = np.zeros((len(archs), sum(widths)), dtype=np.float32)
        found[np.arange(len(archs))[:, None], starts + self.base.choices(archs)] = 1.0
        return found
