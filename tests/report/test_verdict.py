"""What the report says in words, against closed forms and a hand-made result."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from scipy.stats import binomtest

from archgen.report.facts import Facts
from archgen.report.verdict import seconds_in_words, verdict, wilson_interval


def bound(latency: float) -> dict[str, Any]:
    return {"metric": "latency_ms", "sense": "at_most", "bound": 0.06, "value": latency, "met": latency <= 0.06}


def result(latency: float) -> dict[str, Any]:
    limit = bound(latency)
    winner = {"arch": "a", "val_acc": 98.0, "test_acc": 97.5, "latency_ms": latency, "latency_interval": [0.05, 0.058]}
    return {
        "winner": winner,
        "met": limit["met"],
        "constraints": [limit],
        "evaluations": 10,
        "data": {"name": "d", "test": 400},
    }


def test_wilsons_interval_is_scipys() -> None:
    low, high = wilson_interval(97.5, 400)
    exact = binomtest(390, 400).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((100 * exact.low, 100 * exact.high), abs=1e-2)


def test_seconds_are_said_in_the_units_that_fit() -> None:
    assert [seconds_in_words(s) for s in (41, 280, 7500)] == ["41 s", "4 min 40 s", "2 h 5 min"]


@pytest.mark.parametrize(("latency", "met"), [(0.055, True), (0.07, False)])
def test_the_verdict_follows_the_measured_bound(latency: float, met: bool) -> None:
    said = verdict(Facts(result(latency), pd.DataFrame()))
    assert said.met is met
    assert said.headline != verdict(Facts(result(0.125 - latency), pd.DataFrame())).headline


@pytest.mark.parametrize(("now", "told"), [(0.0407, "1.40 times as fast"), (0.114, "0.50 times as fast"), (0.06, "")])
def test_a_machine_whose_speed_changed_is_told(now: float, told: str) -> None:
    drifted = {**result(0.05), "reference": {"then_ms": 0.0571, "now_ms": now}}
    sure = dict(verdict(Facts(drifted, pd.DataFrame())).answers)["How sure"]
    assert (told in sure) if told else ("times as fast" not in sure)


def test_a_bound_by_percentage_says_so() -> None:
    answers = dict(
        verdict(Facts(result(0.05) | {"constraints": [bound(0.05) | {"percent": 40.0}]}, pd.DataFrame())).answers
    )
    assert "at most 0.06 ms (40 % of random architectures meet it)" in answers["Asked"]


def test_a_pareto_set_is_not_called_the_most_accurate() -> None:
    asked = dict(verdict(Facts({**result(0.05), "minimized": ["latency_ms", "params"]}, pd.DataFrame())).answers)
    assert asked["Asked"].startswith(
        "Architectures for d that trade accuracy against latency and parameters best: a Pareto set, with latency"
    )
    assert not asked["Time"]


def test_a_time_limit_and_what_it_cut_are_told() -> None:
    request = {"time_limit": 3600.0, "epochs": 600, "budget": 10, "measured": 60}
    cut = {**result(0.05), "request": request, "plan": {"epochs": 27, "budget": 10, "measured": 60}}
    answers = dict(verdict(Facts(cut, pd.DataFrame())).answers)
    assert answers["Asked"].endswith(", within 1 h 0 min.")
    assert "asked for: 27 of 600 epochs of the supernet planned. Fine-tuning" in answers["Time"]
    answers = dict(verdict(Facts({**cut, "evaluations": 7}, pd.DataFrame())).answers)
    assert "planned, 7 of 10 evaluations made." in answers["Time"]
    whole = {**cut, "plan": {"epochs": 600, "budget": 10, "measured": 60}}
    assert dict(verdict(Facts(whole, pd.DataFrame())).answers)["Time"].startswith("All epochs and evaluations")
