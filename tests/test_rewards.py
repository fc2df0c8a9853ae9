"""Wishes as log-weights: scales, trade-offs, bounds, and the hypervolume against BoTorch's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from botorch.utils.multi_objective.hypervolume import Hypervolume
from botorch.utils.multi_objective.pareto import is_non_dominated
from scipy.stats import norm
from torch import Tensor

from archgen.graph import Architecture
from archgen.objectives import Objective, at_least, at_most, maximize, minimize
from archgen.predictors import Predictor
from archgen.predictors.base import Floats, Prediction
from archgen.rewards import MISSED, REFERENCE, Reward
from archgen.spaces import SearchSpace

STD = {"acc": 2.0, "ms": 0.5, "mj": 3.0, "params": 0.0}
"""Standard deviation of each predictor's error; `params` is exact."""
SCALE = {"acc": (90.0, 4.0), "ms": (5.0, 2.0), "mj": (10.0, 5.0), "params": (100.0, 10.0)}


class Table(Predictor):
    """Values by position: an "architecture" here is a number that stands for a row."""

    def __init__(self, space: SearchSpace, metric: str, values: Floats) -> None:
        super().__init__(space, metric)
        self.values = values

    def fit(self, archs: Sequence[Architecture], y: Floats) -> Table:
        return self

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        return Prediction(self.values[np.array(archs, dtype=int)], np.full(len(archs), STD[self.metric]))

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {}, {}

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Table:
        raise NotImplementedError


ROWS: Any = list(range(40))


@pytest.fixture
def values(rng: np.random.Generator) -> dict[str, Floats]:
    return {metric: rng.normal(centre, spread, 40) for metric, (centre, spread) in SCALE.items()}


@pytest.fixture
def make(space: SearchSpace, values: dict[str, Floats]) -> Any:
    def make(wishes: list[Objective], trade_off: Any = "sum", **options: Any) -> Reward:
        predictors = {metric: Table(space, metric, y) for metric, y in values.items()}
        return Reward(wishes, predictors.__getitem__, SCALE.__getitem__, 3.0, trade_off, **options)

    return make


# -- directions -------------------------------------------------------------------------------------------------


def test_a_direction_weighs_its_strength_a_standard_deviation(make: Any, values: dict[str, Floats]) -> None:
    up, down = make([maximize("acc")])(ROWS), make([minimize("ms")])(ROWS)
    assert up == pytest.approx(3.0 * (values["acc"] - 90) / 4)
    assert down == pytest.approx(-3.0 * (values["ms"] - 5) / 2)
    assert make([])(ROWS).tolist() == [0.0] * 40


def test_directions_add_up_and_start_with_equal_weights(make: Any) -> None:
    parts = make([maximize("acc")])(ROWS) + make([minimize("ms")])(ROWS)
    for trade_off in ("sum", "weights"):
        assert make([maximize("acc"), minimize("ms")], trade_off)(ROWS) == pytest.approx(parts)


def test_redrawn_weights_are_uniform_on_the_simplex_and_keep_their_sum(make: Any) -> None:
    """The share of the first of three is Beta(1, 2): mean 1/3, and above 1/2 in a quarter of the draws."""
    reward = make([maximize("acc"), minimize("ms"), minimize("mj")], "weights")
    assert reward.changes
    scores, rng = reward.scores(ROWS), np.random.default_rng(0)
    shares = []
    for _ in range(2_000):
        reward.redraw(rng)
        weights, *_ = np.linalg.lstsq(scores, reward(ROWS) / 3.0, rcond=None)
        assert weights.sum() == pytest.approx(3.0)
        assert (weights >= 0).all()
        shares.append(weights[0] / 3)
    assert np.mean(shares) == pytest.approx(1 / 3, abs=0.03)  # five standard errors
    assert np.mean(np.array(shares) > 0.5) == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize(
    "case", [(["acc"], "weights"), (["acc"], "hypervolume"), (["acc", "ms"], "sum"), ([], "weights")]
)
def test_one_direction_or_a_sum_never_changes(make: Any, case: tuple[list[str], str]) -> None:
    metrics, trade_off = case
    reward = make([maximize(metric) for metric in metrics], trade_off)
    before = reward(ROWS)
    reward.redraw(np.random.default_rng(0))
    reward.extend(ROWS[:5])
    assert not reward.changes
    assert reward(ROWS).tolist() == before.tolist()


# -- hypervolume ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("archived", [0, 1, 12])
def test_the_improvement_is_the_difference_of_two_hypervolumes(make: Any, m: int, archived: int) -> None:
    wishes = [maximize("acc"), minimize("ms"), maximize("mj")][:m]
    reward = make(wishes, "hypervolume")
    reward.extend(ROWS[:archived])
    scores = reward.scores(ROWS)
    volume = Hypervolume(torch.full((m,), REFERENCE, dtype=torch.double))

    def dominated(points: np.ndarray) -> float:
        front = torch.from_numpy(points)
        return float(volume.compute(front[is_non_dominated(front)])) if len(points) else 0.0

    before = dominated(scores[:archived])
    expected = [dominated(np.vstack([scores[:archived], point])) - before for point in scores]
    assert reward.improvement(scores) == pytest.approx(expected, abs=1e-8)
    assert reward.improvement(scores[:archived]) == pytest.approx(np.zeros(archived), abs=1e-9)


def test_points_below_the_reference_neither_count_nor_improve(make: Any) -> None:
    reward = make([maximize("acc"), minimize("ms")], "hypervolume")
    reward._archive = np.array([[REFERENCE - 1, 50.0], [REFERENCE, 3.0]])
    points = np.array([[REFERENCE - 0.1, 9.0], [9.0, REFERENCE - 0.1], [REFERENCE + 1, REFERENCE + 2]])
    assert reward.improvement(points) == pytest.approx([0.0, 0.0, 2.0])


def test_what_adds_to_the_front_is_rewarded_in_standard_deviations(make: Any) -> None:
    """The root of the added area: a point a standard deviation ahead in both directions gains about one each."""
    reward = make([maximize("acc"), minimize("ms")], "hypervolume")
    assert reward.changes
    scores = reward.scores(ROWS)
    assert reward(ROWS) == pytest.approx(3.0 * (np.sqrt((scores - REFERENCE).prod(1)) + 0.1 * scores.sum(1)))
    best = int(np.argmax(reward(ROWS)))
    reward.extend([ROWS[best]])
    again = reward(ROWS)
    assert again[best] == pytest.approx(0.3 * scores[best].sum())
    dominated = (scores <= scores[best]).all(1)
    assert again[dominated] == pytest.approx(0.3 * scores[dominated].sum(1))


def test_extending_by_nothing_is_no_error(make: Any) -> None:
    reward = make([maximize("acc"), minimize("ms")], "hypervolume")
    reward.extend([])
    assert reward.improvement(np.zeros((0, 2))).shape == (0,)


# -- bounds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", [at_most("ms", 5.0), at_least("acc", 91.0), at_most("params", 100.0)])
def test_a_missed_bound_costs_more_the_farther_it_is_and_a_met_one_nothing(
    make: Any, values: dict[str, Floats], wish: Objective
) -> None:
    reward = make([wish])
    met = np.array([wish.met(value) for value in values[wish.metric]])
    assert 5 < met.sum() < 35
    cost = reward(ROWS)
    assert cost[met].tolist() == [0.0] * int(met.sum())
    assert (cost[~met] < -MISSED).all()
    distance = wish.sign * (wish.bound - values[wish.metric][~met]) / SCALE[wish.metric][1]
    assert cost[~met] == pytest.approx(-MISSED - 3.0 * distance)
    assert reward.feasible(ROWS).tolist() == met.tolist()


def test_no_direction_outweighs_a_bound(make: Any) -> None:
    """The best architecture beyond the bound weighs less than the worst within it."""
    wishes = [maximize("acc"), minimize("ms"), at_most("params", 100.0)]
    reward = make(wishes)
    cost, good = reward(ROWS), reward.feasible(ROWS)
    assert cost[~good].max() < cost[good].min()


def test_all_bounds_count_and_directions_do_not_make_infeasible(make: Any) -> None:
    bounds = [at_most("ms", 5.0), at_least("acc", 88.0)]
    both = make([*bounds, maximize("mj")]).feasible(ROWS)
    assert both.tolist() == (make(bounds[:1]).feasible(ROWS) & make(bounds[1:]).feasible(ROWS)).tolist()
    assert make([maximize("mj")]).feasible(ROWS).all()
    assert make(bounds).feasible([]).shape == (0,)
    assert make(bounds)([]).shape == (0,)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_with_a_confidence_the_one_sided_limit_must_meet_the_bound(
    make: Any, values: dict[str, Floats], confidence: float
) -> None:
    z = norm.ppf(confidence)
    wishes = [at_most("ms", 5.5), at_least("acc", 88.0), at_most("params", 105.0)]
    reward = make(wishes, confidence=confidence)
    expected = (values["ms"] + 0.5 * z <= 5.5) & (values["acc"] - 2.0 * z >= 88.0) & (values["params"] <= 105.0)
    assert 1 <= expected.sum() < make(wishes).feasible(ROWS).sum()
    assert reward.feasible(ROWS).tolist() == expected.tolist()
    assert ((reward(ROWS) == 0) == expected).all()
