"""Gaps to the optimum by hand, and hypervolume against counting cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from botorch.utils.multi_objective.hypervolume import infer_reference_point

from archgen.errors import ArchgenError, InvalidObjective
from archgen.gaps import find_gaps, hypervolume, hypervolume_curve, infer_reference
from archgen.metrics import pareto_front
from archgen.objectives import at_most, maximize, minimize
from archgen.runs import Runs


def runs(**strategies: Sequence[Sequence[float]]) -> Runs:
    """Accuracies of each strategy, a row a seed; latencies are 10 less the accuracy."""
    rows = [
        {"strategy": name, "seed": seed, "trial": i, "acc": value, "lat": 10 - value}
        for name, values in strategies.items()
        for seed, run in enumerate(values)
        for i, value in enumerate(run)
    ]
    return Runs(pd.DataFrame(rows))


def test_regret_is_the_distance_of_the_best_so_far_from_the_best_of_all_runs() -> None:
    gaps = find_gaps(runs(a=[[1.0, 3.0, 2.0]], b=[[4.0, 1.0, 5.0]]), [maximize("acc")])
    assert (gaps.name, gaps.best) == ("regret", 5.0)
    assert gaps.values["a"].tolist() == [[4.0, 2.0, 2.0]]
    assert gaps.values["b"].tolist() == [[1.0, 1.0, 0.0]]


def test_regret_of_a_minimised_metric_and_a_known_optimum() -> None:
    gaps = find_gaps(runs(a=[[1.0, 3.0, 2.0]]), [minimize("lat")], best=6.0)
    assert gaps.values["a"].tolist() == [[3.0, 1.0, 1.0]]


def test_what_breaks_a_bound_is_an_evaluation_that_finds_nothing() -> None:
    gaps = find_gaps(runs(a=[[1.0, 3.0, 2.0]], b=[[9.0, 9.0, 1.0]]), [maximize("acc"), at_most("lat", 7.5)])
    assert gaps.best == 9.0
    assert gaps.values["a"].tolist() == [[np.inf, 6.0, 6.0]]


def test_an_optimum_that_a_run_beats_is_refused() -> None:
    with pytest.raises(ArchgenError, match=r"optimum is said to be 4\.9, but a run is beyond it by 0\.1"):
        find_gaps(runs(a=[[5.0]]), [maximize("acc")], best=4.9)
    assert find_gaps(runs(a=[[5.0]]), [maximize("acc")], best=4.9, tolerance=0.11).values["a"] == pytest.approx(-0.1)
    with pytest.raises(ArchgenError, match="the best hypervolume is said to be 1, but"):
        find_gaps(runs(a=[[5.0]]), [maximize("acc"), minimize("lat")], best=1.0, reference_point=(0.0, 10.0))


def test_a_comparison_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidObjective, match="needs something to maximize or minimize"):
        find_gaps(runs(a=[[1.0]]), [at_most("lat", 1.0)])
    with pytest.raises(ArchgenError, match="no trial of any run succeeded and meets the bounds"):
        find_gaps(runs(a=[[1.0]]), [maximize("acc"), at_most("lat", 1.0)])
    with pytest.raises(ArchgenError, match="beyond the reference point"):
        find_gaps(runs(a=[[1.0]]), [maximize("acc"), minimize("lat")], reference_point=(1.0, 9.0))
    for best in (np.inf, np.nan, -1.0):
        with pytest.raises(ArchgenError, match="--optimum"):
            find_gaps(runs(a=[[1.0]]), [maximize("acc"), minimize("lat")], best=best)


def test_missed_hypervolume_is_a_share_of_the_best() -> None:
    """Points (1, 9), (3, 7), (2, 8) beyond (0, 10) dominate 1, 9, 4 squares; (3, 7) alone is the front."""
    wishes = [maximize("acc"), minimize("lat")]
    gaps = find_gaps(runs(a=[[1.0, 3.0, 2.0]], b=[[2.0, 2.0, 2.0]]), wishes, reference_point=(0.0, 10.0))
    assert (gaps.name, gaps.best, gaps.reference_point) == ("missed_hypervolume", 9.0, (0.0, 10.0))
    np.testing.assert_allclose(gaps.values["a"], [[8 / 9, 0.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(gaps.values["b"], [[5 / 9, 5 / 9, 5 / 9]])
    assert find_gaps(runs(a=[[3.0]]), wishes, best=18.0, reference_point=(0.0, 10.0)).values["a"] == pytest.approx(0.5)


@pytest.mark.parametrize("m", [2, 3])
def test_hypervolume_counts_the_cells_that_points_dominate(m: int) -> None:
    rng = np.random.default_rng(m)
    side = 6
    cells = np.stack(np.meshgrid(*[np.arange(side)] * m, indexing="ij"), -1).reshape(-1, m)
    for _ in range(5):
        points = rng.integers(0, side + 1, size=(8, m)).astype(float)
        signs = rng.choice([-1, 1], size=m).tolist()
        inside = (points[:, None] >= cells[None] + 1).all(-1).any(0).sum()
        moved = np.where(np.array(signs) > 0, points, -points)
        assert hypervolume(moved, signs, [0.0] * m) == pytest.approx(float(inside))
        curve = hypervolume_curve(moved, signs, [0.0] * m)
        assert curve.tolist() == pytest.approx([hypervolume(moved[: i + 1], signs, [0.0] * m) for i in range(8)])


def test_points_with_nan_and_those_worse_than_the_reference_add_nothing() -> None:
    points = [[np.nan, 1.0], [-1.0, 9.0], [2.0, 3.0], [0.0, 5.0]]
    assert hypervolume(points, [1, 1], [0.0, 0.0]) == pytest.approx(6.0)
    assert hypervolume_curve(points, [1, 1], [0.0, 0.0]).tolist() == [0.0, 0.0, 6.0, 6.0]
    assert hypervolume([[np.nan, 1.0]], [1, 1], [0.0, 0.0]) == 0.0


def test_the_inferred_reference_lies_a_tenth_of_the_fronts_range_beyond_its_worst() -> None:
    points = [[70.0, 10.0], [50.0, 5.0], [40.0, 50.0], [np.nan, 0.0]]  # the third is dominated
    assert infer_reference(points, [1, -1]) == pytest.approx((48.0, 10.5))
    assert infer_reference([[70.0, 10.0], [60.0, 10.0]], [1, -1]) == pytest.approx((63.0, 11.0))
    assert infer_reference([[0.0, -5.0]], [1, 1]) == pytest.approx((-0.1, -5.5))


def test_the_inferred_reference_is_botorchs() -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))
    front = torch.from_numpy(points[pareto_front(points, [1, 1, 1])])
    assert infer_reference(points, [1, 1, 1]) == pytest.approx(infer_reference_point(front).tolist())
