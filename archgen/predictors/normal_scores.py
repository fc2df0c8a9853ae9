"""Values as normal scores of their ranks, and back through their quantiles: the rank-normal map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm, rankdata

from archgen.errors import ArchgenError
from archgen.objectives import Objective
from archgen.predictors.base import Floats, Prediction


class NormalScores:
    """A monotone map between a metric's unit and a scale in which the values that it was made from are normal.

    The score of the value of rank `r` among `n` is `Phi^-1((r - 3/8) / (n + 1/4))` (Blom), equal values sharing their
    mean rank; between values it is interpolated. A few broken architectures of 10 % accuracy are then no further from
    the others than ranks say.

    Args:
        y: Finite values, `n`; of none nothing can be mapped.
    """

    def __init__(self, y: Floats) -> None:
        self.y = y
        self.scores: Floats = norm.ppf((rankdata(y) - 0.375) / (len(y) + 0.25))
        """Of each value, `n`."""
        self._ys, index = np.unique(y, return_index=True)
        self._quantiles = self.scores[index]

    def normalise(self, values: Sequence[float] | Floats) -> Floats:
        """Scores of values; linear with the mean slope beyond the known range, so better stays better."""
        ys, scores = self._ys, self._quantiles
        slope = (scores[-1] - scores[0]) / (ys[-1] - ys[0]) if len(ys) > 1 else 1.0
        v = np.asarray(values, dtype=float)
        beyond = slope * (np.maximum(v - ys[-1], 0.0) + np.minimum(v - ys[0], 0.0))
        normalised: Floats = np.interp(v, ys, scores) + beyond
        return normalised

    def values(self, scores: Floats) -> Floats:
        """Values of scores, in the metric's unit; never outside the known range."""
        values: Floats = np.interp(scores, self._quantiles, self._ys)
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
