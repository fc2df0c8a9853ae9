"""Where a search begins: the vote of proxies, and the best of groups."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from archgen.graph import Architecture
from archgen.spaces import SearchSpace
from archgen.strategies.start import GROUP, first, vote


def labels(names: Sequence[str], columns: dict[str, dict[Architecture, float]]) -> Any:
    """Free labels whose values are written down."""

    class Written(SimpleNamespace):
        def __call__(self, archs: Sequence[Architecture]) -> np.ndarray:
            return np.array([[columns[name][arch] for name in names] for arch in archs])

    return Written(names=tuple(names))


def test_the_vote_is_the_sum_of_log_ranks(space: SearchSpace, rng: np.random.Generator) -> None:
    """Ranks 1 to 3 of three architectures by two proxies that vote; a third proxy does not."""
    a, b, c = space.sample(3, rng)
    written = labels(
        ["synflow", "params", "nwot"],
        {"synflow": {a: -5.0, b: 0.1, c: 7.0}, "params": {a: 9.0, b: 0.0, c: 0.0}, "nwot": {a: 2.0, b: 3.0, c: 1.0}},
    )
    assert vote(written, [a, b, c]) == pytest.approx(np.log([1 * 2, 2 * 3, 3 * 1]))


def test_where_no_known_voter_is_there_all_proxies_vote(space: SearchSpace, rng: np.random.Generator) -> None:
    a, b = space.sample(2, rng)
    written = labels(["params", "flops"], {"params": {a: 1.0, b: 2.0}, "flops": {a: 1.0, b: 2.0}})
    assert vote(written, [a, b]) == pytest.approx([0.0, 2 * np.log(2)])


def test_the_best_of_each_group_comes_first_and_without_labels_the_draws_themselves(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    drawn = list(dict.fromkeys(space.sample(3 * GROUP + 40, rng)))[: 3 * GROUP]
    place = {arch: float(i % 17) + i / 1000 for i, arch in enumerate(drawn)}
    written = labels(["nwot"], {"nwot": place})
    asked: list[int] = []

    def draw(n: int) -> list[Architecture]:
        asked.append(n)
        return drawn[:n]

    best = first(3, draw, written)
    assert asked == [3 * GROUP]
    assert best == [max(drawn[i * GROUP : (i + 1) * GROUP], key=place.__getitem__) for i in range(3)]
    assert first(2, draw, None) == drawn[:2]


@pytest.mark.parametrize(("left", "expected"), [(0, 0), (2, 2)])
def test_with_fewer_draws_than_groups_each_is_one(
    space: SearchSpace, rng: np.random.Generator, left: int, expected: int
) -> None:
    drawn = space.sample(5, rng)
    written = labels(["nwot"], {"nwot": {arch: float(i) for i, arch in enumerate(drawn)}})
    assert len(first(4, lambda n: drawn[:left], written)) == expected
