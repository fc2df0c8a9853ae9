"""Values as normal scores of their ranks, and back through their quantiles: the rank-normal map."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm, rankdata

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.predictors.base import Floats, Prediction, Predictor


class NormalScores:
    """A monotone map between a metric's unit and a scale in which the values that it was made from are normal.

    The score of the value of rank `r` among `n` is `Phi^-1((r - 3/8) / (n + 1/4))` (Blom), equal values sharing their
    mean rank; between values it is interpolated. A few broken architectures of 10 % accuracy are then no further from
    the others than ranks say. Beyond the least and the greatest value the map goes on with the mean slope from the
    median to that end: a limit may lie outside what was seen, by as much as the values on that side spread.

    Args:
        y: Finite values, `n`; of none nothing can be mapped.
        scores: Of each value, `n`, where they are known: they rise with it. None: those of the ranks.
    """

    def __init__(self, y: Floats, scores: Floats | None = None) -> None:
        self.y = np.asarray(y, dtype=float)
        self.scores: Floats = norm.ppf(plotting_positions(self.y)) if scores is None else scores
        """Of each value, `n`."""
        self._ys, index = np.unique(self.y, return_index=True)
        self._quantiles = self.scores[index]
        middle = float(np.median(self.y))
        centre = float(np.interp(middle, self._ys, self._quantiles))
        self._slopes = [self._slope(end, middle, centre) for end in (0, -1)]

    def _slope(self, end: int, middle: float, centre: float) -> float:
        """Values a unit of score between the median and an end; of the whole range where half of all values tie."""
        rise, run = self._ys[end] - middle, self._quantiles[end] - centre
        if rise == 0 or run == 0:
            rise, run = self._ys[-1] - self._ys[0], self._quantiles[-1] - self._quantiles[0]
        return float(rise / run) if run else 0.0

    def normalise(self, values: Sequence[float] | Floats) -> Floats:
        """Scores of values: the inverse of `values` wherever that rises."""
        v = np.asarray(values, dtype=float)
        scores: Floats = np.interp(v, self._ys, self._quantiles)
        beyond = np.minimum(v - self._ys[0], 0.0), np.maximum(v - self._ys[-1], 0.0)
        for distance, slope in zip(beyond, self._slopes, strict=True):
            scores = scores + (distance / slope if slope else distance)
        return scores

    def values(self, scores: Floats) -> Floats:
        """Values of scores, in the metric's unit, monotone; all equal where the known ones are."""
        below = np.minimum(scores - self._quantiles[0], 0.0) * self._slopes[0]
        above = np.maximum(scores - self._quantiles[-1], 0.0) * self._slopes[1]
        values: Floats = np.interp(scores, self._quantiles, self._ys) + below + above
        return values

    def prediction(self, mean: Floats, std: Floats) -> Prediction:
        """A Gaussian belief in scores as mean and standard deviation in the metric's unit.

        The mean is the value of the mean score, which is the median of the belief; the standard deviation is half the
        distance between the values one standard deviation either side.

        Args:
            mean: Scores, `b`.
            std: Of the error of the scores, `b`, positive.
        """
        low, middle, high = (self.values(mean + z * std) for z in (-1.0, 0.0, 1.0))
        return Prediction(middle, np.maximum((high - low) / 2, 1e-9))

    def belief(self, prediction: Prediction) -> tuple[Floats, Floats]:
        """Mean and standard deviation in scores, `b` each, of what a predictor says in the metric's unit."""
        mean, std = prediction
        low, middle, high = (self.normalise(mean + k * std) for k in (-1.0, 0.0, 1.0))
        return middle, (high - low) / 2

    def log_probability(self, mean: Floats, std: Floats, objective: Objective) -> Floats:
        """Log-probability of a Gaussian belief in scores, `b`, to meet a bound in the metric's unit."""
        assert objective.bound is not None
        (bound,) = self.normalise([objective.bound])
        log_p: Floats = norm.logcdf(objective.sign * (mean - bound) / std)
        return log_p

    def limit(self, mean: Floats, std: Floats, objective: Objective, confidence: float) -> Floats:
        """The value on whose safe side the truth lies with probability `confidence`; see `Predictor.limit`.

        Raises:
            ArchgenError: `confidence` is not between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise ArchgenError(f"a confidence must be between 0 and 1, got {confidence}")
        return self.values(mean - objective.sign * norm.ppf(confidence) * std)


def plotting_positions(y: Floats) -> Floats:
    """Blom's estimate of the share of the population below each of `n` values, `(r - 3/8) / (n + 1/4)`."""
    positions: Floats = (rankdata(y) - 0.375) / (len(y) + 0.25)
    return positions


class NormalScorePredictor(Predictor):
    """A predictor whose belief is Gaussian in the scale of normal scores, and is told in the metric's unit."""

    _normal: NormalScores | None = None

    @property
    def normal(self) -> NormalScores:
        """The map of the fitted values; raises `ArchgenError` before `fit`."""
        if self._normal is None:
            raise ArchgenError(f"the predictor of {self.metric} has seen no values yet; call fit first")
        return self._normal

    def normalise(self, values: Sequence[float]) -> list[float]:
        """Normal scores of values, beyond the fitted range too (`NormalScores.normalise`), so better stays better."""
        return [float(x) for x in self.normal.normalise(values)]

    def denormalise(self, scores: Floats) -> Floats:
        """Values of normal scores, of any shape (`NormalScores.values`)."""
        return self.normal.values(scores)

    @abstractmethod
    def predict_scores(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Mean score of each architecture, and the standard deviation by which a measured one may differ, positive."""

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        return self.normal.prediction(*self.predict_scores(archs))

    def log_probability(self, archs: Sequence[Architecture], objective: Objective) -> Floats:
        """In the scale of scores, where the error is Gaussian."""
        return self.normal.log_probability(*self.predict_scores(archs), objective)

    def limit(self, archs: Sequence[Architecture], objective: Objective, confidence: float) -> Floats:
        """The quantile in the scale of scores, where the error is Gaussian, as a value of the metric."""
        return self.normal.limit(*self.predict_scores(archs), objective, confidence)
