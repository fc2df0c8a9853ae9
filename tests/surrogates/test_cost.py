"""Improvement per second of evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.predictors.base import Floats
from archgen.surrogates import Cost, Problem, cooled, fit_log_cost, make_acquisition, propose


def seconds(x: torch.Tensor) -> torch.Tensor:
    return (1.0 + 2.0 * x[:, 0] - x[:, 1]).exp()


@pytest.fixture(scope="module")
def data() -> torch.Tensor:
    return torch.rand(40, 2, generator=torch.Generator().manual_seed(0)).double()


def test_the_logarithm_of_the_cost_is_learnt(data: torch.Tensor) -> None:
    cost = Cost(fit_log_cost(data[:30], seconds(data[:30]).tolist()), 1.0)
    with torch.no_grad():
        found = cost.log_seconds(data[30:, None])[:, 0]
    assert torch.allclose(found, seconds(data[30:]).log(), atol=0.1)


def test_equal_costs_change_no_order(data: torch.Tensor) -> None:
    cost = Cost(fit_log_cost(data, [3.0] * len(data)), 1.0)
    with torch.no_grad():
        assert torch.allclose(cost.log_seconds(data[:, None]), torch.tensor(3.0).double().log(), atol=0.1)


@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("name", ["logei", "qlogei"])
def test_the_improvement_is_divided_by_a_power_of_the_cost(
    known: Callable[..., Any], archs: list[Architecture], rows: Floats, name: str, exponent: float
) -> None:
    problem = Problem([known(rows)], feasible=[(0.4,)])
    x = problem.objective.features(archs)
    cost = Cost(fit_log_cost(x, np.linspace(1, 9, len(archs)).tolist()), exponent)
    with torch.no_grad():
        plain = make_acquisition(name, problem, seed=0)(x[:, None])
        divided = make_acquisition(name, problem, seed=0, cost=cost)(x[:, None])
        assert torch.allclose(plain - divided, exponent * cost.log_seconds(x[:, None])[:, 0])


def test_of_two_equal_candidates_the_cheap_one_is_taken(known: Callable[..., Any], archs: list[Architecture]) -> None:
    rows = [[0.5, 0.5, float(dear)] for dear in (1, 0, 1)]
    problem = Problem([known(rows)], feasible=[(0.4,)])
    x = problem.objective.features(archs[:3])
    model = fit_log_cost(x, [100.0, 1.0, 90.0])
    chosen = propose(problem, archs[:3], 1, rng=np.random.default_rng(0), name="logei", cost=Cost(model, 1.0))
    assert chosen == [archs[1]]


def test_the_cost_counts_fully_at_first_and_not_at_the_end() -> None:
    assert [cooled(110.0, spent, 10.0) for spent in (10.0, 60.0, 110.0, 500.0, 0.0)] == [1.0, 0.5, 0.0, 0.0, 1.0]
    assert cooled(5.0, 10.0, 10.0) == 0.0


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cost_that_is_no_time_is_refused(data: torch.Tensor, wrong: float) -> None:
    with pytest.raises(ArchgenError, match="positive number of seconds"):
        fit_log_cost(data[:3], [1.0, wrong, 2.0])


def test_a_bound_on_confidence_is_not_divided(
    known: Callable[..., Any], archs: list[Architecture], rows: Floats
) -> None:
    problem = Problem([known(rows)])
    model = fit_log_cost(problem.objective.features(archs), [1.0] * len(archs))
    for name in ("ucb", "qucb", "thompson"):
        with pytest.raises(ArchgenError, match=f"divides an expected improvement .*, got '{name}'"):
            make_acquisition(name, problem, seed=0, cost=Cost(model, 1.0))
