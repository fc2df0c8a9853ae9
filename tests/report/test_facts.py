"""What the report reads of a result, whatever it lacks."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from archgen.report.facts import Facts, number
from archgen.spaces import load


@pytest.mark.parametrize("value", [None, "1", math.nan, math.inf, [1]])
def test_only_finite_numbers_are_numbers(value: object) -> None:
    assert number(value) is None
    assert number(1.5) == 1.5


def test_a_winner_whose_dead_operations_were_cut_off_is_found_among_the_trials() -> None:
    space = load("nasbench201")
    dead = "|none~0|+|avg_pool_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_1x1~1|skip_connect~2|"
    cut = space.format(space.simplify(space.parse(dead)))
    assert cut != dead
    table = pd.DataFrame({"arch": [space.format(arch) for arch in space.sample(8, np.random.default_rng(0))]})
    table.loc[5, "arch"] = dead
    table.loc[6, "arch"] = "not of the space"
    facts = Facts({"winner": {"arch": cut}, "space": "nasbench201"}, table)
    assert facts.winner_row == 5
    assert Facts({"winner": {"arch": cut}, "space": "unheard of"}, table).winner_row is None


def test_a_result_that_lacks_everything_has_no_facts() -> None:
    facts = Facts({}, pd.DataFrame())
    assert (facts.data, facts.run, facts.winner, facts.winner_row) == ("your data", "", None, None)
    assert (facts.latency, facts.interval, facts.inherited, facts.table, facts.test_images) == (None,) * 5
    assert (facts.constraints, facts.minimized, facts.networks, facts.stages) == ([], [], [], {})
    assert (facts.cost_metric, facts.met, facts.total_seconds) == ("latency_ms", False, None)


def test_a_winner_given_by_its_number_is_that_trial() -> None:
    trials = pd.DataFrame({"trial": [4, 5], "arch": ["a", "b"], "latency_ms": [1.0, 2.0]})
    facts = Facts({"winner": 5}, trials)
    assert (facts.winner_row, facts.latency) == (1, 2.0)
    assert Facts({"winner": 6}, trials).winner is None


def test_trials_are_feasible_within_every_bound_that_can_be_read() -> None:
    trials = pd.DataFrame({"val_acc": [90.0, 80.0, 95.0], "latency_ms": [1.0, 1.0, 3.0], "params": [1, 1, 1]})
    bounds = [
        {"metric": "latency_ms", "sense": "at_most", "bound": 2.0},
        {"metric": "val_acc", "sense": "at_least", "bound": 85.0},
        {"metric": "params", "sense": "about", "bound": 0.0},
        {"metric": "params", "sense": "at_most", "bound": "few"},
        "latency_ms",
    ]
    facts = Facts({"constraints": bounds}, trials)
    assert [c["metric"] for c in facts.constraints] == ["latency_ms", "val_acc"]
    np.testing.assert_array_equal(facts.feasible, [True, False, False])


def test_seconds_are_those_of_the_stages_where_no_total_is_told() -> None:
    assert Facts({"seconds": {"search": 2.0, "final": 3.0, "plan": None}}, pd.DataFrame()).total_seconds == 5.0
    assert Facts({"seconds": {"search": 2.0, "total": 9.0}}, pd.DataFrame()).total_seconds == 9.0
