"""Acquisition functions by name, against their closed forms for a known Gaussian."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from archgen.errors import ArchgenError, UnknownName
from archgen.graph import Architecture
from archgen.objectives import at_least, at_most
from archgen.predictors.base import Floats
from archgen.spaces import SearchSpace
from archgen.surrogates import ACQUISITIONS, Constraint, Problem, make_acquisition, propose
from archgen.surrogates.acquisition import CHUNK

Make = Callable[..., Any]


def values(name: str, problem: Problem, archs: list[Architecture], **options: Any) -> Floats:
    acquisition = make_acquisition(name, problem, **{"seed": 0, **options})
    with torch.no_grad():
        found: Floats = acquisition(problem.objectives[0].features(archs)[:, None]).numpy()
    return found


def expected_improvement(rows: Floats, best: float) -> Floats:
    z = (rows[:, 0] - best) / rows[:, 1]
    improvement: Floats = rows[:, 1] * (norm.pdf(z) + z * norm.cdf(z))
    return improvement


def test_logei_is_the_logarithm_of_the_expected_improvement(
    known: Make, archs: list[Architecture], rows: Floats
) -> None:
    problem = Problem([known(rows)], feasible=[(0.2,), (0.4,), (-1.0,)])
    assert values("logei", problem, archs) == pytest.approx(np.log(expected_improvement(rows, 0.4)), abs=1e-6)


def test_qlogei_is_about_the_same(known: Make, archs: list[Architecture], rows: Floats) -> None:
    """A mean over 128 quasi-random samples, smoothed."""
    problem = Problem([known(rows)], feasible=[(0.4,)])
    wanted = expected_improvement(rows, 0.4)
    assert np.exp(values("qlogei", problem, archs)) == pytest.approx(wanted, rel=0.05, abs=0.01)


def test_with_nothing_feasible_yet_almost_any_value_improves(
    known: Make, archs: list[Architecture], rows: Floats
) -> None:
    assert values("logei", Problem([known(rows)]), archs) == pytest.approx(
        np.log(expected_improvement(rows, -3.0)), abs=1e-6
    )


@pytest.mark.parametrize("kappa", [0.0, 0.5, 2.0])
def test_ucb_is_the_mean_and_kappa_deviations(
    known: Make, archs: list[Architecture], rows: Floats, kappa: float
) -> None:
    found = values("ucb", Problem([known(rows)]), archs, kappa=kappa)
    assert found == pytest.approx(rows[:, 0] + kappa * rows[:, 1])


def test_qucb_of_one_point_is_about_ucb(known: Make, archs: list[Architecture], rows: Floats) -> None:
    found = values("qucb", Problem([known(rows)]), archs, kappa=2.0)
    assert found == pytest.approx(rows[:, 0] + 2.0 * rows[:, 1], abs=0.1)


@pytest.mark.parametrize("wish", [at_most("metric2", 0.3), at_least("metric2", 0.3)])
@pytest.mark.parametrize("name", ["logei", "ucb"])
def test_a_bound_adds_its_log_probability(
    known: Make, archs: list[Architecture], rows: Floats, name: str, wish: Any
) -> None:
    free = Problem([known(rows)], feasible=[(0.4,)])
    bounded = Problem([known(rows)], [Constraint(known(rows, 2, 3), wish)], feasible=[(0.4,)])
    log_p = norm.logcdf(wish.sign * (rows[:, 2] - 0.3) / rows[:, 3])
    assert values(name, bounded, archs) - values(name, free, archs) == pytest.approx(log_p, abs=1e-6)


def test_qlogei_weighs_samples_by_feasibility(known: Make, archs: list[Architecture], rows: Floats) -> None:
    wish = at_most("metric2", 0.3)
    problem = Problem([known(rows)], [Constraint(known(rows, 2, 3), wish)], feasible=[(0.4,)])
    wanted = expected_improvement(rows, 0.4) * norm.cdf((0.3 - rows[:, 2]) / rows[:, 3])
    assert np.exp(values("qlogei", problem, archs)) == pytest.approx(wanted, rel=0.3, abs=0.03)


def test_thompson_draws_each_point_as_often_as_it_is_the_best(known: Make, archs: list[Architecture]) -> None:
    """Of two points, one mean 1 the other 0, both of deviation 1: the better is drawn with Phi(1/sqrt 2) = 0.76.

    300 draws have a standard deviation of 7.4 about 228; 5 of them make a chance of 1e-6 to fail for another seed.
    """
    problem = Problem([known([[1.0, 1.0], [0.0, 1.0]])])
    first = sum(values("thompson", problem, archs[:2], seed=seed).argmax() == 0 for seed in range(300))
    assert first == pytest.approx(300 * norm.cdf(2**-0.5), abs=37)


def test_thompson_prefers_feasible_draws_then_those_nearest_to_the_bound(
    known: Make, archs: list[Architecture]
) -> None:
    rows = [[9.0, 1e-3, 5.0, 1e-3], [1.0, 1e-3, 0.0, 1e-3], [7.0, 1e-3, 2.0, 1e-3]]
    problem = Problem([known(rows)], [Constraint(known(rows, 2, 3), at_most("metric2", 1.0))])
    assert values("thompson", problem, archs[:3]).argsort().tolist() == [0, 2, 1]


def test_thompson_batch_is_one_of_independent_draws(known: Make, archs: list[Architecture]) -> None:
    problem = Problem([known([[0.0, 1.0, float(i)] for i in range(20)])])
    taken = Counter(
        arch
        for seed in range(40)
        for arch in propose(problem, archs[:20], 3, rng=np.random.default_rng(seed), name="thompson")
    )
    assert len(taken) == 20  # 120 of 20 that are alike: that one is left out has a chance of 0.04
    assert max(taken.values()) < 20


def test_thompson_weighs_a_whole_pool_by_one_draw(known: Make, space: SearchSpace) -> None:
    """In a pool of two chunks: of equal points those of the second are drawn too, and feasible ones come first."""
    n = CHUNK + 88
    pool, equal = space.enumerate()[:n], Problem([known([[0.0, 1.0, float(i)] for i in range(n)])])
    taken = [propose(equal, pool, 1, rng=np.random.default_rng(seed), name="thompson")[0] for seed in range(40)]
    assert any(pool.index(arch) >= CHUNK for arch in taken)  # none has a chance of 0.002
    rows = [[0.0, 1e-3, 0.0, 1e-3]] * CHUNK + [[9.0, 1e-3, 2.0, 1e-3]] * 88
    bounded = Problem([known(rows)], [Constraint(known(rows, 2, 3), at_most("metric2", 1.0))])
    assert pool.index(propose(bounded, pool, 1, rng=np.random.default_rng(0), name="thompson")[0]) < CHUNK


@pytest.mark.parametrize("power", [1, 3])
def test_qlognehvi_is_the_hypervolume_that_a_certain_point_adds(
    known: Make, archs: list[Architecture], power: int
) -> None:
    """Told are (0, 1) and (1, 0); new points are certain. In values, not scores, and shares of the range above -0.1."""
    points = [(0.0, 1.0), (1.0, 0.0), (0.8, 0.8), (1.5, 0.5), (2.0, 2.0)]
    rows = [[a, 1e-4, b, 1e-4] for a, b in np.array(points) ** (1 / power)]
    surrogates = [known(rows), known(rows, 2, 3)]
    for surrogate in surrogates:
        surrogate.power = power
    problem = Problem(surrogates, feasible=[points[0], points[1]], told=[archs[0], archs[1]])
    found = np.exp(values("qlognehvi", problem, archs[2:5])) * 1.1**2

    def hypervolume(points: list[tuple[float, float]]) -> float:
        """Above (-0.1, -0.1), by the staircase."""
        area, left = 0.0, -0.1
        while any(a > left for a, _ in points):
            height = max(b for a, b in points if a > left)
            right = max(a for a, b in points if a > left and b == height)
            area, left = area + (right - left) * (height + 0.1), right
        return area

    wanted = [hypervolume([*points[:2], point]) - hypervolume(points[:2]) for point in points[2:]]
    assert found == pytest.approx(wanted, rel=0.03)


def test_a_batch_of_several_objectives_spreads_over_the_front(known: Make, archs: list[Architecture]) -> None:
    """Two equal points of the front and one elsewhere on it: a batch of two takes one of each kind."""
    rows = [[0.0, 1e-3, 0.0, 1e-3], [2.0, 1e-3, 1.0, 1e-3], [2.001, 1e-3, 1.0, 1e-3], [1.0, 1e-3, 2.0, 1e-3]]
    problem = Problem([known(rows), known(rows, 2, 3)], feasible=[(0.0, 0.0)], told=[archs[0]])
    chosen = propose(problem, archs[1:4], 2, rng=np.random.default_rng(0), name="qlognehvi")
    assert archs[3] in chosen
    assert len(chosen) == 2


def test_where_one_direction_has_one_value_the_other_decides(known: Make, archs: list[Architecture]) -> None:
    rows = [[0.0, 1e-3, 0.0, 1e-3], [1.0, 1e-3, 5.0, 1e-3], [3.0, 1e-3, 5.0, 1e-3], [2.0, 1e-3, 5.0, 1e-3]]
    flat = known(rows, 2, 3)
    flat.power = 0  # every score is the value 1
    problem = Problem([known(rows), flat], feasible=[(0.0, 1.0), (1.0, 1.0)], told=archs[:2])
    assert propose(problem, archs[1:4], 1, rng=np.random.default_rng(0), name="qlognehvi") == [archs[2]]


@pytest.mark.parametrize("name", [name for name in ACQUISITIONS if name != "qlognehvi"])
def test_every_function_chooses_a_batch_of_different_candidates(
    known: Make, archs: list[Architecture], rows: Floats, name: str
) -> None:
    problem = Problem([known(rows)], [Constraint(known(rows, 2, 3), at_most("metric2", 1.0))], feasible=[(0.4,)])
    one, same = (propose(problem, archs, 4, rng=np.random.default_rng(1), name=name) for _ in range(2))
    assert len(set(one)) == 4
    assert one == same


@pytest.mark.parametrize("name", ["logei", "ucb"])
def test_an_analytic_function_gives_its_best_points(
    known: Make, archs: list[Architecture], rows: Floats, name: str
) -> None:
    problem = Problem([known(rows)], feasible=[(0.4,)])
    chosen = propose(problem, archs, 3, rng=np.random.default_rng(1), name=name)
    best = values(name, problem, archs).argsort()[::-1][:3]
    assert chosen == [archs[i] for i in best]


def test_architectures_of_equal_features_count_each(known: Make, archs: list[Architecture]) -> None:
    problem = Problem([known([[1.0, 0.5]] * 3 + [[-9.0, 0.5]])], feasible=[(0.4,)])
    assert set(propose(problem, archs[:4], 3, rng=np.random.default_rng(1), name="ucb")) == set(archs[:3])


def test_mistakes_are_told(known: Make, archs: list[Architecture], rows: Floats) -> None:
    one, two = Problem([known(rows)]), Problem([known(rows), known(rows, 2, 3)], told=archs)
    with pytest.raises(UnknownName, match="acquisition function 'qlogie': did you mean 'qlogei'"):
        make_acquisition("qlogie", one, seed=0)
    for name in ("logei", "qlogei", "ucb", "qucb", "thompson"):
        with pytest.raises(ArchgenError, match="takes one objective, got 2; qlognehvi takes several"):
            make_acquisition(name, two, seed=0)
    with pytest.raises(ArchgenError, match="at least 2 objectives"):
        make_acquisition("qlognehvi", one, seed=0)
    assert math.isfinite(values("qlognehvi", two, archs).max())
