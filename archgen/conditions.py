"""Property vectors that generators are conditioned on: metrics, and the scale in which a generator sees them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from archgen.errors import ArchgenWarning, UnknownMetric

Floats = NDArray[np.float64]
KNOTS = 65


@dataclass(frozen=True)
class Conditions:
    """Metrics of a property vector and the normal score of each value, learnt from a sample of the space.

    A value's normal score is the standard normal quantile of its rank among architectures of the space: 2 says
    "better (larger) than 97.7 % of them", for every metric, unit and space.

    Args:
        metrics: Names, `c` of them.
        values: Knots `c x q` of each metric, not descending.
        scores: Their normal scores, `c x q`, not descending.
    """

    metrics: tuple[str, ...]
    values: Floats
    scores: Floats

    @classmethod
    def fit(cls, properties: Mapping[str, Floats]) -> Conditions:
        """Learn the scales from the properties of `b` architectures of the space."""
        values, scores = [], []
        for y in properties.values():
            distinct, index = np.unique(y, return_index=True)
            score = norm.ppf((rankdata(y) - 0.375) / (len(y) + 0.25))[index]
            knots = np.unique(np.linspace(0, len(distinct) - 1, KNOTS).round().astype(int))
            spaced = np.interp(np.linspace(score[0], score[-1], KNOTS), score, distinct)
            merged = np.unique(np.concatenate([distinct[knots], spaced]))
            values.append(np.interp(np.linspace(0, len(merged) - 1, 2 * KNOTS), np.arange(len(merged)), merged))
            scores.append(np.interp(values[-1], distinct, score))
        return cls(tuple(properties), np.array(values), np.array(scores))

    def normalise(self, metric: str, values: Sequence[float] | Floats) -> Floats:
        """Normal scores of values; beyond the trained range the score of its end, with a warning.

        Raises:
            UnknownMetric: The generator is not conditioned on it.
        """
        row = self.row(metric)
        low, high = self.range(metric)
        array = np.asarray(values, dtype=float)
        if ((array < low) | (array > high)).any():
            outside = array[(array < low) | (array > high)][0]
            message = (
                f"{metric} = {outside:g} is outside what the generator was trained on, {low:.6g} to {high:.6g}; "
                "the nearest end is used"
            )
            warnings.warn(message, ArchgenWarning, stacklevel=2)
        scores: Floats = np.interp(array, self.values[row], self.scores[row])
        return scores

    def restore(self, metric: str, scores: Sequence[float] | Floats) -> Floats:
        """Values of normal scores: the inverse of `normalise` inside the trained range."""
        row = self.row(metric)
        values: Floats = np.interp(np.asarray(scores, dtype=float), self.scores[row], self.values[row])
        return values

    def range(self, metric: str) -> tuple[float, float]:
        """Smallest and largest value that the generator was trained on."""
        row = self.row(metric)
        return float(self.values[row, 0]), float(self.values[row, -1])

    def row(self, metric: str) -> int:
        """Place of a metric in the property vector; raises `UnknownMetric`."""
        if metric not in self.metrics:
            raise UnknownMetric(metric, self.metrics)
        return self.metrics.index(metric)

    def vector(self, condition: Mapping[str, float]) -> Floats:
        """The property vector `c` of given values; NaN where none is given."""
        vector = np.full(len(self.metrics), np.nan)
        for metric, value in condition.items():
            vector[self.row(metric)] = self.normalise(metric, [value])[0]
        return vector

    def to_json(self) -> dict[str, Any]:
        """As JSON types, knots to 7 digits; `from_json` is its inverse."""
        knots = {name: [[float(f"{x:.7g}") for x in row] for row in table.tolist()] for name, table in self._tables}
        return {"metrics": list(self.metrics), **knots}

    @property
    def _tables(self) -> tuple[tuple[str, Floats], tuple[str, Floats]]:
        return ("values", self.values), ("scores", self.scores)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Conditions:
        """Rebuild from `to_json`; raises `ValueError` or `KeyError` when something is missing or of another shape."""
        values, scores = np.array(value["values"], dtype=float), np.array(value["scores"], dtype=float)
        if values.shape != scores.shape or values.ndim != 2 or len(values) != len(value["metrics"]):
            raise ValueError(f"expected one row of knots a metric, got {values.shape} and {scores.shape}")
        return cls(tuple(map(str, value["metrics"])), values, scores)
