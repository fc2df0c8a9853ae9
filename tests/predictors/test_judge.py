"""The figures of a predictor, against their definitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau, norm, spearmanr
from torch import Tensor

from archgen.graph import Architecture
from archgen.predictors import Prediction, Predictor, judge
from archgen.predictors.base import Floats
from archgen.spaces import SearchSpace


class Fixed(Predictor):
    """Says what it was given, whatever it is asked about."""

    def __init__(self, space: SearchSpace, mean: Sequence[float], std: float) -> None:
        super().__init__(space, "m")
        self.said = Prediction(np.array(mean, dtype=float), np.full(len(mean), std))

    def fit(self, archs: Sequence[Architecture], y: Floats) -> Predictor:
        return self

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        return self.said

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        raise NotImplementedError

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Predictor:
        raise NotImplementedError


Y = np.array([1.0, 2.0, 4.0, 8.0, 16.0])


def test_figures_are_those_of_their_definitions(space: SearchSpace) -> None:
    archs = space.sample(5, np.random.default_rng(0))
    mean = np.array([1.5, 2.0, 9.0, 8.0, 12.0])
    figures = judge(Fixed(space, mean, 2.0), archs, Y)
    assert figures["kendall_tau"] == pytest.approx(kendalltau(mean, Y).statistic) == pytest.approx(0.8)
    assert figures["spearman_rho"] == pytest.approx(spearmanr(mean, Y).statistic) == pytest.approx(0.9)
    assert figures["mae"] == pytest.approx(np.mean([0.5, 0.0, 5.0, 0.0, 4.0]))
    assert figures["median_relative_error"] == pytest.approx(25.0)
    assert 4.0 > norm.ppf(0.95) * 2.0 > 0.5  # the two far ones are outside
    assert figures["coverage_90"] == pytest.approx(60.0)


def test_a_constant_prediction_ranks_nothing(space: SearchSpace) -> None:
    figures = judge(Fixed(space, [3.0] * 5, 1.0), space.sample(5, np.random.default_rng(0)), Y)
    assert figures["kendall_tau"] == figures["spearman_rho"] == 0.0
