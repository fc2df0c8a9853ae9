"""Predictions are written beside what was measured, never over it and never beside a failure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from archgen.evaluators import Annotated, Evaluator, Measurement
from archgen.graph import Architecture
from archgen.predictors.counts import Count
from archgen.spaces import SearchSpace


class Told(Evaluator):
    """Answers with the measurements that it was given and notes the questions."""

    def __init__(self, metrics: Sequence[str], *measurements: Measurement) -> None:
        self._metrics, self.measurements = tuple(metrics), list(measurements)
        self.asked: list[tuple[list[Architecture], int]] = []

    @property
    def metrics(self) -> tuple[str, ...]:
        return self._metrics

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        self.asked.append((list(archs), seed))
        return self.measurements[: len(archs)]

    def can_evaluate(self, arch: Architecture) -> bool:
        return "avg_pool_3x3" not in arch.ops


@pytest.fixture
def archs(space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
    return space.sample(3, rng)


def test_each_architecture_gets_its_own_prediction(space: SearchSpace, archs: list[Architecture]) -> None:
    told = Told(["val_acc"], *[Measurement({"val_acc": float(i)}, 0.5 + i) for i in range(3)])
    params, flops = Count(space, "params"), Count(space, "flops")
    annotated = Annotated(told, {"params": params, "flops": flops})
    assert annotated.metrics == ("val_acc", "params", "flops")
    measured = annotated.evaluate(archs, seed=7)
    assert told.asked == [(archs, 7)]
    for i, (m, p, f) in enumerate(zip(measured, params.predict(archs).mean, flops.predict(archs).mean, strict=True)):
        assert m == Measurement({"val_acc": float(i), "params": p, "flops": f}, 0.5 + i)
        assert list(m.values) == list(annotated.metrics)
        assert all(type(value) is float for value in m.values.values())


def test_what_was_measured_is_not_overwritten(space: SearchSpace, archs: list[Architecture]) -> None:
    told = Told(["val_acc", "params"], *[Measurement({"val_acc": 1.0, "params": -5.0}, 0.0)] * 3)
    annotated = Annotated(told, {"params": Count(space, "params"), "flops": Count(space, "flops")})
    assert annotated.metrics == ("val_acc", "params", "flops")
    assert [m.values["params"] for m in annotated.evaluate(archs, seed=0)] == [-5.0] * 3


def test_a_failure_stays_as_it_is(space: SearchSpace, archs: list[Architecture]) -> None:
    failed = Measurement({}, 0.25, "it diverged")
    told = Told(["val_acc"], Measurement({"val_acc": 1.0}, 0.0), failed, Measurement({"val_acc": 2.0}, 0.0))
    measured = Annotated(told, {"params": Count(space, "params")}).evaluate(archs, seed=0)
    assert measured[1] is failed
    assert [sorted(m.values) for m in measured] == [["params", "val_acc"], [], ["params", "val_acc"]]


def test_the_given_measurements_are_not_changed(space: SearchSpace, archs: list[Architecture]) -> None:
    told = Told(["val_acc"], *[Measurement({"val_acc": 1.0}, 0.0) for _ in archs])
    Annotated(told, {"params": Count(space, "params")}).evaluate(archs, seed=0)
    assert [m.values for m in told.measurements] == [{"val_acc": 1.0}] * 3


def test_without_predictors_nothing_changes(archs: list[Architecture]) -> None:
    told = Told(["val_acc"], *[Measurement({"val_acc": 1.0}, 0.0)] * 3)
    annotated = Annotated(told, {})
    assert annotated.metrics == ("val_acc",)
    assert annotated.evaluate(archs, seed=0) == told.measurements
    assert annotated.evaluate([], seed=0) == []


def test_what_can_be_evaluated_is_for_the_wrapped_one_to_say(space: SearchSpace) -> None:
    annotated = Annotated(Told(["val_acc"]), {"params": Count(space, "params")})
    cells = space.sample(50, np.random.default_rng(0))
    assert [annotated.can_evaluate(a) for a in cells] == ["avg_pool_3x3" not in a.ops for a in cells]
