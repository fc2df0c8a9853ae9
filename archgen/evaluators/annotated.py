"""A wrapper that writes predicted metrics beside the measured ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from archgen.evaluators.base import Evaluator, Measurement
from archgen.graph import Architecture
from archgen.predictors.base import Predictor


class Annotated(Evaluator):
    """Adds what predictors say (a latency, an exact count) to each successful measurement of another evaluator.

    Args:
        evaluator: Measures.
        predictors: By the name of the metric; a metric that `evaluator` measures itself is left as measured.
    """

    def __init__(self, evaluator: Evaluator, predictors: Mapping[str, Predictor]) -> None:
        self.evaluator = evaluator
        self.predictors = {m: p for m, p in predictors.items() if m not in evaluator.metrics}

    @property
    def metrics(self) -> tuple[str, ...]:
        return (*self.evaluator.metrics, *self.predictors)

    def can_evaluate(self, arch: Architecture) -> bool:
        return self.evaluator.can_evaluate(arch)

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        measured = self.evaluator.evaluate(archs, seed=seed)
        predicted = {metric: predictor.predict(archs).mean for metric, predictor in self.predictors.items()}
        return [
            replace(m, values={**m.values, **{metric: float(mean[i]) for metric, mean in predicted.items()}})
            if m.error is None
            else m
            for i, m in enumerate(measured)
        ]
