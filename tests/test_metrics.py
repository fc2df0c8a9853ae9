"""Figures of merit against brute force and by hand."""

import numpy as np
import pytest

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.metrics import pareto_front, regret_curve, relative_improvement, validity_uniqueness


def dominated(points: np.ndarray, i: int) -> bool:
    better = (points >= points[i]).all(axis=1) & (points > points[i]).any(axis=1)
    return bool(better.any())


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_pareto_front_is_what_brute_force_finds(m: int) -> None:
    rng = np.random.default_rng(m)
    for _ in range(20):
        points = rng.integers(0, 5, size=(40, m)).astype(float)
        signs = rng.choice([-1, 1], size=m).tolist()
        signed = points * signs
        distinct = np.unique(signed, axis=0, return_index=True)[1]
        expected = sorted(i for i in distinct if not dominated(signed, i))
        assert pareto_front(points, signs).tolist() == expected


def test_pareto_front_keeps_the_first_of_equal_points() -> None:
    assert pareto_front([[2, 1], [1, 2], [2, 1], [1, 2], [0, 0]], (1, 1)).tolist() == [0, 1]


def test_pareto_front_leaves_nan_out_and_lets_it_dominate_nothing() -> None:
    assert pareto_front([[np.nan, 9.0], [1.0, 1.0], [2.0, np.nan]], (1, 1)).tolist() == [1]


def test_pareto_front_of_nothing_is_empty() -> None:
    assert pareto_front(np.empty((0, 2)), (1, -1)).tolist() == []


@pytest.mark.parametrize(("points", "signs"), [([1.0, 2.0], (1,)), ([[1.0, 2.0]], (1,)), ([[1.0, 2.0]], (1, 2))])
def test_pareto_front_refuses_other_shapes_and_signs(points: list[float], signs: tuple[int, ...]) -> None:
    with pytest.raises(ArchgenError, match=r"expected points of shape|signs must be"):
        pareto_front(points, signs)


def test_regret_is_the_distance_of_the_best_so_far_and_skips_failures() -> None:
    curve = regret_curve([np.nan, 90.0, 88.0, np.nan, 93.0], best=94.0)
    np.testing.assert_allclose(curve, [np.nan, 4.0, 4.0, 4.0, 1.0])


def test_regret_of_a_minimised_metric_is_positive_too() -> None:
    np.testing.assert_allclose(regret_curve([5.0, 7.0, 3.0], best=2.0, maximize=False), [3.0, 3.0, 1.0])


def test_regret_refuses_a_table_and_an_infinite_best() -> None:
    with pytest.raises(ArchgenError, match="one row"):
        regret_curve([[1.0]], best=1.0)
    with pytest.raises(ArchgenError, match="finite"):
        regret_curve([1.0], best=np.inf)


def test_relative_improvement_is_in_percent_of_the_random_mean() -> None:
    assert relative_improvement(97.0, 93.71) == pytest.approx(3.5108, abs=1e-4)
    assert relative_improvement(90.0, 100.0) == pytest.approx(-10.0)
    with pytest.raises(ArchgenError, match="above 0"):
        relative_improvement(90.0, 0.0)


def test_validity_counts_all_samples_and_uniqueness_the_valid_ones() -> None:
    a, b = (Architecture("s", ("input", op, "output"), ((0, 1), (1, 2))) for op in ("x", "y"))
    assert validity_uniqueness([a, None, b, a]) == {"valid": 75.0, "unique": pytest.approx(200 / 3)}
    assert validity_uniqueness([a, None, b, a], canonical=lambda arch: len(arch.ops))["unique"] == pytest.approx(
        100 / 3
    )
    assert validity_uniqueness([None]) == {"valid": 0.0, "unique": 0.0}
    with pytest.raises(ArchgenError, match="at least one"):
        validity_uniqueness([])
