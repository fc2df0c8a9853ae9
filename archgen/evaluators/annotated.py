"""A wrapper that writes predicted metrics beside the measured ones."""

from __future__ import annotations

from collections.abc import Mapping

from archgen.evaluators.base import Evaluator, Values, Wrapper
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

    def change(self, arch: Architecture, values: Values, seed: int) -> Values:
        return {**values, **{metric: float(p.predict([arch]).mean[0]) for metric, p in self.predictors.items()}}
