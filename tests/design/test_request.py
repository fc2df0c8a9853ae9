"""Requests: the common language, and what makes no sense."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace

import pytest

from archgen.design import EFFORTS, DesignRequest
from archgen.errors import InvalidObjective, InvalidOption
from archgen.objectives import at_most, maximize, minimize


@pytest.mark.parametrize("name", ["budget", "batch", "epochs", "finetune_epochs", "networks", "threads", "measured"])
def test_numbers_that_make_no_sense_are_refused(name: str) -> None:
    with pytest.raises(InvalidObjective, match=name if name != "measured" else "at least 12 measured"):
        DesignRequest("digits", "nasbench201", {}, **{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_time_limit_is_positive(seconds: float) -> None:
    with pytest.raises(InvalidObjective, match="expected a time limit above 0 seconds"):
        DesignRequest("digits", "nasbench201", {}, time_limit=seconds)


@pytest.mark.parametrize(
    "changes",
    [{"time_limit": float("nan")}, {"budget": 1.5}, {"threads": True}, {"network": {"cells": "2"}}, {"seed": -1}],
)
def test_each_field_is_of_its_type(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidOption, match=f"expected .*{next(iter(changes))}"):
        DesignRequest("digits", "nasbench201", {}, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"at_most": {"params": 1e5, "latency_ms": -1.0}}, "bound of 'latency_ms' must be at least 0, got -1"),
        ({"at_most": {}, "at_most_percent": {"flops": 0.0}}, "bound of 'flops' must be above 0 % and below 100 %"),
        ({"at_most": {}, "at_most_percent": {"flops": 100.0}}, "below 100 %, got 100 %"),
    ],
)
def test_a_bound_that_nothing_or_everything_meets_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidObjective, match=message):
        DesignRequest("digits", "nasbench201", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"at_most": {"val_acc": 90.0}},
        {"at_most": {}, "at_most_percent": {"val_acc": 90.0}},
        {"at_most": {}, "minimize": ("val_acc",)},
    ],
)
def test_the_accuracy_is_not_a_cost(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidObjective, match="the accuracy is what a design maximizes"):
        DesignRequest("digits", "nasbench201", **changes)  # type: ignore[arg-type]


def test_the_wishes_of_a_request_are_written_in_the_common_language() -> None:
    request = DesignRequest("digits", "nasbench201", {"latency_ms": 2.0, "flops": 1e6}, minimize=("params",))
    bounds = [at_most("latency_ms", 2.0), at_most("flops", 1e6)]
    assert request.objectives == [maximize("val_acc"), minimize("params"), *bounds]
    assert request.directions == [maximize("val_acc"), minimize("params")]
    assert request.metrics == ("params", "latency_ms", "flops")
    assert replace(request, at_most_percent={"memory_mb": 40.0}).metrics == (*request.metrics, "memory_mb")


def test_a_request_survives_json() -> None:
    request = DesignRequest("digits", "nasbench201", {"params": 1e5}, minimize=("latency_ms",), network={"cells": 2})
    request = replace(request, at_most_percent={"flops": 30.0})
    assert DesignRequest(**json.loads(json.dumps(asdict(request)))) == request


def test_each_effort_is_a_request_and_costs_more_than_the_one_before() -> None:
    requests = [DesignRequest("digits", "nasbench201", {}, **numbers) for numbers in EFFORTS.values()]
    for less, more in itertools.pairwise(requests):
        for name in ("budget", "epochs", "finetune_epochs", "measured"):
            assert getattr(less, name) < getattr(more, name)
