"""The memory of the last batch: one answer, never that of another batch."""

from __future__ import annotations

import numpy as np

from archgen.spaces import SearchSpace
from archgen.spaces.last_batch import LastBatch


def test_a_batch_is_computed_once_and_another_anew(space: SearchSpace, rng: np.random.Generator) -> None:
    asked: list[int] = []

    def texts(archs):
        asked.append(len(archs))
        return [space.format(arch) for arch in archs]

    last, archs = LastBatch(texts), space.sample(5, rng)
    first = last(archs)
    assert last(list(archs)) is first
    assert asked == [5]
    assert last(archs[::-1]) == first[::-1]
    assert last(archs[:2]) == first[:2]
    assert last([]) == []
    assert asked == [5, 5, 2, 0]


def test_a_list_that_was_changed_is_another_batch(space: SearchSpace, rng: np.random.Generator) -> None:
    last, archs = LastBatch(len), space.sample(5, rng)
    assert last(archs) == 5
    archs.pop()
    assert last(archs) == 4
