"""Scales of property vectors: normal scores that rise with the value, both ways, and say where they end."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, rankdata

from archgen.conditions import KNOTS, Conditions
from archgen.errors import ArchgenWarning, UnknownMetric

SAMPLES = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=200)


@pytest.fixture
def conditions(rng: np.random.Generator) -> Conditions:
    return Conditions.fit({"acc": 90 - rng.exponential(3, 3_000), "ms": rng.lognormal(1, 0.5, 3_000)})


@given(SAMPLES)
def test_scores_do_not_fall_and_the_way_back_gives_the_value(values: list[float]) -> None:
    y = np.array(values)
    conditions = Conditions.fit({"m": y})
    scores = conditions.normalise("m", np.sort(y))
    assert np.isfinite(scores).all()
    assert (np.diff(scores) >= 0).all()
    scale = max(np.ptp(y), abs(y).max() * 1e-9, 1e-300)
    assert conditions.restore("m", scores) == pytest.approx(np.sort(y), abs=1e-6 * scale)
    assert conditions.range("m") == (y.min(), y.max())


def test_scores_are_the_normal_quantiles_of_ranks(conditions: Conditions, rng: np.random.Generator) -> None:
    """Blom's, to what interpolation between the knots leaves; and for fresh values the true normal score."""
    y = 90 - rng.exponential(3, 3_000)
    fitted = Conditions.fit({"acc": y})
    expected = norm.ppf((rankdata(y) - 0.375) / (len(y) + 0.25))
    inside = np.abs(expected) < 2.5
    assert fitted.normalise("acc", y)[inside] == pytest.approx(expected[inside], abs=0.06)
    probabilities = np.array([0.05, 0.5, 0.9])
    quantiles = 90 + 3 * np.log(probabilities)  # of 90 minus an exponential
    assert conditions.normalise("acc", quantiles) == pytest.approx(norm.ppf(probabilities), abs=0.15)


def test_metrics_of_all_units_get_the_same_scale(conditions: Conditions, rng: np.random.Generator) -> None:
    ms = rng.lognormal(1, 0.5, 3_000)
    scores = conditions.normalise("ms", np.clip(ms, *conditions.range("ms")))
    assert scores.mean() == pytest.approx(0.0, abs=0.1)
    assert scores.std() == pytest.approx(1.0, abs=0.1)


def test_ties_share_their_mean_rank_and_are_told_from_their_neighbours() -> None:
    y = np.repeat([1.0, 2.0, 5.0], [50, 30, 20])
    scores = Conditions.fit({"m": y}).normalise("m", [1.0, 2.0, 5.0])
    ranks = np.array([25.5, 65.5, 90.5])
    assert scores == pytest.approx(norm.ppf((ranks - 0.375) / 100.25), abs=0.02)


def test_a_constant_is_in_the_middle() -> None:
    conditions = Conditions.fit({"m": np.full(40, 3.5)})
    assert conditions.normalise("m", [3.5]).tolist() == [0.0]
    assert conditions.restore("m", [-2.0, 0.0, 2.0]).tolist() == [3.5, 3.5, 3.5]
    assert conditions.range("m") == (3.5, 3.5)


def test_tails_are_resolved_as_well_as_steep_middles(rng: np.random.Generator) -> None:
    """Half of the values within a thousandth of the range, one far away: neither end loses its order."""
    y = np.concatenate([rng.normal(0, 0.001, 2_000), rng.uniform(-5, 5, 2_000), [1_000.0]])
    conditions = Conditions.fit({"m": y})
    scores = norm.ppf((rankdata(y) - 0.375) / (len(y) + 0.25))
    error = np.abs(conditions.normalise("m", y) - scores)
    assert np.quantile(error, 0.95) < 0.1
    assert conditions.values.shape == conditions.scores.shape == (1, 2 * KNOTS)


def test_outside_the_trained_range_the_end_is_used_and_the_warning_names_the_range(conditions: Conditions) -> None:
    low, high = conditions.range("acc")
    with pytest.warns(ArchgenWarning, match=f"acc = 99 is outside .* {low:.6g} to {high:.6g}; the nearest end is used"):
        (score,) = conditions.normalise("acc", [99.0])
    assert score == conditions.scores[0, -1]
    with pytest.warns(ArchgenWarning, match="acc = -7 is outside"):
        assert conditions.normalise("acc", [80.0, -7.0])[1] == conditions.scores[0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conditions.normalise("acc", [low, high])


def test_the_vector_holds_what_is_given_and_leaves_the_rest_open(conditions: Conditions) -> None:
    vector = conditions.vector({"ms": 3.0})
    assert np.isnan(vector).tolist() == [True, False]
    assert vector[1] == conditions.normalise("ms", [3.0])[0]
    assert np.isnan(conditions.vector({})).all()
    assert not np.isnan(conditions.vector({"ms": 3.0, "acc": 85.0})).any()


@pytest.mark.parametrize("call", ["normalise", "restore", "range", "row", "vector"])
def test_a_property_that_it_was_not_trained_on_gets_a_hint(conditions: Conditions, call: str) -> None:
    arguments = {"vector": [{"accc": 1.0}], "range": ["accc"], "row": ["accc"]}.get(call, ["accc", [1.0]])
    with pytest.raises(UnknownMetric, match="unknown metric 'accc': did you mean 'acc'"):
        getattr(conditions, call)(*arguments)


def test_json_brings_it_back_to_seven_digits(conditions: Conditions) -> None:
    again = Conditions.from_json(json.loads(json.dumps(conditions.to_json(), allow_nan=False)))
    assert again.metrics == conditions.metrics
    np.testing.assert_allclose(again.values, conditions.values, rtol=1e-6)
    np.testing.assert_allclose(again.scores, conditions.scores, rtol=1e-6, atol=1e-12)
    assert (np.diff(again.values) >= 0).all()
    assert (np.diff(again.scores) >= 0).all()
    assert again.to_json() == conditions.to_json()


@pytest.mark.parametrize(
    "broken",
    [
        {"metrics": ["a"]},
        {"metrics": ["a"], "values": [[1.0, 2.0]], "scores": [[1.0]]},
        {"metrics": ["a", "b"], "values": [[1.0, 2.0]], "scores": [[1.0, 2.0]]},
        {"metrics": ["a"], "values": [1.0, 2.0], "scores": [1.0, 2.0]},
        {"metrics": ["a"], "values": [["x", 2.0]], "scores": [[1.0, 2.0]]},
    ],
)
def test_what_is_not_whole_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError)):
        Conditions.from_json(broken)
