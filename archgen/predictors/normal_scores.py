"""Targets as normal scores of their ranks, and back."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm, rankdata

from archgen.predictors.base import Floats


class NormalScores:
    """The map between values and the normal scores of their ranks, `Phi^-1((r - 3/8) / (n + 1/4))` (Blom).

    Between training values it is linear; beyond the least and the greatest it goes on with the mean slope from the
    median to that end, so that a limit may lie outside what was seen, by as much as the values on that side spread.

    Args:
        y: Training values, `n`, at least one.
    """

    def __init__(self, y: Floats) -> None:
        self.y = np.asarray(y, dtype=float)
        self.scores: Floats = norm.ppf((rankdata(self.y) - 0.375) / (len(self.y) + 0.25))
        """Of each training value, `n`."""
        self._ys, index = np.unique(self.y, return_index=True)
        self._zs = self.scores[index]
        middle = float(np.median(self.y))
        centre = float(np.interp(middle, self._ys, self._zs))
        self._slopes = [self._slope(end, middle, centre) for end in (0, -1)]

    def _slope(self, end: int, middle: float, centre: float) -> float:
        """Values a unit of score between the median and an end; of the whole range where half of all values tie."""
        rise, run = self._ys[end] - middle, self._zs[end] - centre
        if rise == 0 or run == 0:
            rise, run = self._ys[-1] - self._ys[0], self._zs[-1] - self._zs[0]
        return float(rise / run) if run else 0.0

    def to_values(self, scores: Floats) -> Floats:
        """Values of normal scores, monotone; all equal to the training values where those are all equal."""
        below = np.minimum(scores - self._zs[0], 0.0) * self._slopes[0]
        above = np.maximum(scores - self._zs[-1], 0.0) * self._slopes[1]
        values: Floats = np.interp(scores, self._zs, self._ys) + below + above
        return values

    def to_scores(self, values: Floats) -> Floats:
        """Normal scores of values: the inverse of `to_values` wherever that rises."""
        v = np.asarray(values, dtype=float)
        off = [np.minimum(v - self._ys[0], 0.0), np.maximum(v - self._ys[-1], 0.0)]
        scores: Floats = np.interp(v, self._ys, self._zs)
        for beyond, slope in zip(off, self._slopes, strict=True):
            scores = scores + (beyond / slope if slope else beyond)
        return scores
