"""The language of wishes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archgen.errors import InvalidObjective
from archgen.objectives import (
    Objective,
    all_met,
    at_least,
    at_most,
    bounds,
    check,
    directions,
    maximize,
    minimize,
    parse_bound,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE, FINITE)
def test_bounds_are_met_up_to_and_with_their_value(bound: float, value: float) -> None:
    assert at_most("m", bound).met(value) == (value <= bound)
    assert at_least("m", bound).met(value) == (value >= bound)
    assert at_most("m", bound).met(bound)
    assert at_least("m", bound).met(bound)


def test_nan_meets_no_bound_and_any_direction() -> None:
    assert not at_most("m", 1.0).met(math.nan)
    assert not at_least("m", 1.0).met(math.nan)
    assert maximize("m").met(math.nan)


@pytest.mark.parametrize(
    ("objective", "sign", "is_bound", "text"),
    [
        (maximize("acc"), 1, False, "maximize('acc')"),
        (minimize("acc"), -1, False, "minimize('acc')"),
        (at_least("acc", 2), 1, True, "at_least('acc', 2.0)"),
        (at_most("acc", 2.5), -1, True, "at_most('acc', 2.5)"),
    ],
)
def test_each_wish_knows_its_sign_and_reads_as_it_is_written(
    objective: Objective, sign: int, is_bound: bool, text: str
) -> None:
    assert (objective.sign, objective.is_bound, repr(objective)) == (sign, is_bound, text)


@pytest.mark.parametrize("name", ["", " acc", "acc "])
def test_a_metric_needs_a_name_without_spaces_around_it(name: str) -> None:
    for make in (maximize, minimize, lambda m: at_most(m, 1.0), lambda m: at_least(m, 1.0)):
        with pytest.raises(InvalidObjective, match="name must be non-empty"):
            make(name)


@pytest.mark.parametrize("bound", [math.nan, math.inf, -math.inf])
def test_a_bound_must_be_finite(bound: float) -> None:
    with pytest.raises(InvalidObjective, match="finite number"):
        at_most("m", bound)
    with pytest.raises(InvalidObjective, match="finite number"):
        at_least("m", bound)


def test_parse_bound_reads_metric_and_value() -> None:
    assert parse_bound("latency_ms@pixel3=1.5", "at_most") == at_most("latency_ms@pixel3", 1.5)
    assert parse_bound("acc=9e1", "at_least") == at_least("acc", 90)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency_ms", "expected METRIC=VALUE for --at-most, got 'latency_ms'"),
        ("latency_ms=fast", "must be a number, got 'fast'"),
        ("latency_ms=", "must be a number"),
        ("latency_ms=nan", "finite"),
        ("latency_ms=inf", "finite"),
        ("=3", "name must be non-empty"),
    ],
)
def test_parse_bound_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(InvalidObjective, match=message):
        parse_bound(text, "at_most")


def test_contradicting_wishes_are_refused() -> None:
    with pytest.raises(InvalidObjective, match="both maximized and minimized"):
        check([maximize("acc"), minimize("acc")])
    with pytest.raises(InvalidObjective, match="at least 2 and at most 1"):
        check([at_least("acc", 2), at_most("acc", 1)])
    with pytest.raises(InvalidObjective, match="at least 3 and at most 1"):
        check([at_least("acc", 0), at_most("acc", 5), at_least("acc", 3), at_most("acc", 1)])


@pytest.mark.parametrize(
    "wishes",
    [
        [],
        [maximize("acc"), minimize("latency")],
        [maximize("acc"), at_least("acc", 1), at_most("acc", 1)],
        [at_least("acc", 2), at_most("latency", 1)],
    ],
)
def test_wishes_that_can_be_met_together_pass(wishes: list[Objective]) -> None:
    check(wishes)


def test_directions_and_bounds_split_the_wishes_in_order() -> None:
    wishes = [at_most("b", 1), maximize("a"), at_least("c", 2), minimize("d")]
    assert directions(wishes) == [maximize("a"), minimize("d")]
    assert bounds(wishes) == [at_most("b", 1), at_least("c", 2)]


def test_all_met_needs_every_bounded_metric() -> None:
    wishes = [maximize("acc"), at_most("latency", 1.0), at_least("acc", 90.0)]
    assert all_met(wishes, {"latency": 1.0, "acc": 90.0})
    assert not all_met(wishes, {"latency": 1.1, "acc": 95.0})
    assert not all_met(wishes, {"acc": 95.0})
    assert all_met([maximize("acc")], {})
