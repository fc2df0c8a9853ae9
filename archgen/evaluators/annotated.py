"""A wrapper that writes predicted metrics beside the measured ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archgen.evaluators.base import Change, Evaluator, Wrapper
from archgen.graph import Architecture
from archgen.predictors.base import Predictor


class Annotated(Wrapper):
    """Adds what predictors say (a latency, an exact count) to each successful measurement of another evaluator.

    Args:
        evaluator: Measures.
        predictors: By the name of the metric; a metric that `evaluator` measures itself is left as measured.
    """

    def __init__(self, evaluator: Evaluator, predictors: Mapping[str, Predictor]) -> None:
        super().__init__(evaluator)
        self.predictors = {m: p for m, p in predictors.items() if m not in evaluator.metrics}

    @property
    def metrics(self) -> tuple[str, ...]:
        return (*self.evaluator.metrics, *self.predictors)

    def change(self, archs: Sequence[Architecture], seed: int) -> Change:
        predicted = {metric: predictor.predict(archs).mean for metric, predictor in self.predictors.items()}
        return lambda i, values: {**values, **{metric: float(mean[i]) for metric, mean in predicted.items()}}
