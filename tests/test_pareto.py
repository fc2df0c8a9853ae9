"""Dominance, fronts, crowding and hypervolume against brute force, by hand, and against BoTorch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from botorch.utils.multi_objective.hypervolume import Hypervolume

from archgen.errors import ArchgenError
from archgen.metrics import pareto_front
from archgen.pareto import corner_below, crowding_distance, dominance, hypervolume, nondominated_fronts


def dominates(a: tuple[float, ...], b: tuple[float, ...], broken_a: float, broken_b: float) -> bool:
    """The definition in words, one pair at a time."""
    if broken_a == 0 and broken_b == 0:
        return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))
    return broken_a < broken_b


def random_points(seed: int, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Points with many ties, of which about a third violate something."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, (n, m)).astype(float), np.maximum(rng.integers(-4, 3, n), 0).astype(float)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_dominance_is_the_definition_for_every_pair(m: int) -> None:
    for seed in range(5):
        points, broken = random_points(seed, 25, m)
        found = dominance(points, broken)
        for i, j in itertools.product(range(25), repeat=2):
            assert found[i, j] == dominates(points[i].tolist(), points[j].tolist(), broken[i], broken[j])


@pytest.mark.parametrize("m", [1, 2, 3])
def test_fronts_are_what_is_left_undominated_when_the_fronts_before_are_gone(m: int) -> None:
    for seed in range(5):
        points, broken = random_points(seed, 30, m)
        left, expected = list(range(30)), []
        while left:
            front = [i for i in left if not any(dominates(points[j], points[i], broken[j], broken[i]) for j in left)]
            expected.append(front)
            left = [i for i in left if i not in front]
        assert [front.tolist() for front in nondominated_fronts(points, broken)] == expected


def test_the_first_front_without_constraints_is_the_pareto_front() -> None:
    points = np.random.default_rng(0).normal(size=(60, 3))
    assert nondominated_fronts(points)[0].tolist() == pareto_front(points, (1, 1, 1)).tolist()


def test_a_nan_comes_after_every_violation() -> None:
    fronts = nondominated_fronts([[np.nan, 9.0], [0.0, 0.0], [1.0, 1.0]], [0.0, 5.0, 0.0])
    assert [front.tolist() for front in fronts] == [[2], [1], [0]]
    fronts = nondominated_fronts([[9.0], [0.0]], [np.nan, 5.0])
    assert [front.tolist() for front in fronts] == [[1], [0]]


def test_no_points_have_no_fronts() -> None:
    assert nondominated_fronts(np.empty((0, 2))) == []
    assert crowding_distance(np.empty((0, 2))).tolist() == []


def test_crowding_is_the_side_of_the_cuboid_between_the_neighbours() -> None:
    """By hand: ranges are 10 and 5; the middle ones have neighbours 4 and 9 apart, and 3 and 4."""
    points = [[0.0, 5.0], [1.0, 4.0], [4.0, 2.0], [10.0, 0.0]]
    assert crowding_distance(points).tolist() == pytest.approx([np.inf, 4 / 10 + 3 / 5, 9 / 10 + 4 / 5, np.inf])
    order = [2, 0, 3, 1]
    shuffled = crowding_distance([points[i] for i in order])
    assert shuffled.tolist() == pytest.approx([1.7, np.inf, np.inf, 1.0])


def test_equal_points_are_crowded_but_for_the_two_ends() -> None:
    distance = crowding_distance([[1.0, 2.0]] * 5)
    assert sorted(distance.tolist()) == [0.0, 0.0, 0.0, np.inf, np.inf]
    assert crowding_distance([[1.0, 2.0]]).tolist() == [np.inf]


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_hypervolume_is_that_of_botorch(m: int) -> None:
    rng = np.random.default_rng(m)
    for n in (1, 5, 25):
        points, corner = rng.normal(size=(n, m)), rng.normal(-1.0, 0.3, m)
        expected = 0.0
        above = points[(points > corner).all(1)]
        if m == 1:  # BoTorch has none for one objective
            expected = max(float(points.max() - corner[0]), 0.0)
        elif len(above):
            expected = Hypervolume(torch.from_numpy(corner)).compute(torch.from_numpy(above))
        assert hypervolume(points, corner) == pytest.approx(expected, rel=1e-9)


def test_points_below_the_reference_equal_points_and_nan_add_nothing() -> None:
    points = [[3.0, 1.0], [1.0, 2.0]]
    assert hypervolume(points, [0.0, 0.0]) == 4.0
    assert hypervolume([*points, *points, [-1.0, 9.0], [np.nan, 9.0], [0.0, 5.0]], [0.0, 0.0]) == 4.0
    assert hypervolume(np.empty((0, 2)), [0.0, 0.0]) == 0.0


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ArchgenError, match="n x m"):
        nondominated_fronts([1.0, 2.0])
    with pytest.raises(ArchgenError, match="one violation for each of 1 points"):
        dominance([[1.0, 2.0]], [0.0, 0.0])
    with pytest.raises(ArchgenError, match="reference value for each of 2 directions"):
        hypervolume([[1.0, 2.0]], [0.0])


def test_the_corner_is_a_tenth_of_the_range_below_the_least() -> None:
    assert corner_below([[1.0, 5.0], [3.0, 4.0], [2.0, 14.0]]).tolist() == pytest.approx([0.8, 3.0])
    assert corner_below([[2.0, 3.0]]).tolist() == [2.0, 3.0]
