"""Wishes as log-weights of architectures, in a scale that means the same for every metric and space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from botorch.utils.multi_objective.box_decompositions.non_dominated import FastNondominatedPartitioning
from numpy.typing import NDArray

from archgen.graph import Architecture
from archgen.objectives import Objective, bounds, directions
from archgen.predictors import Predictor

Floats = NDArray[np.float64]
TradeOff = Literal["sum", "weights", "hypervolume"]
TRADE_OFFS: tuple[TradeOff, ...] = ("sum", "weights", "hypervolume")
MISSED = 30.0
"""Log-weight that a bound costs where it is missed, beside all that directions may be worth."""
SPAN = 8.0
"""Standard deviations between the worst and the best of a direction; hardly any space has more."""
REFERENCE = -4.0
"""Reference point of the hypervolume in every direction, in standard deviations over the space."""


class Reward:
    """Log-weight of architectures: `strength` for each standard deviation of a direction, a penalty for a missed bound.

    Several directions trade off by `trade_off`: `sum` adds them; `weights` adds them with weights that `redraw` draws
    uniformly from the simplex, so that many redraws cover a front; `hypervolume` rewards what adds to the
    hypervolume that the architectures given to `extend` dominate (its `m`-th root, so that the unit stays
    a standard deviation; a tenth of the sum shows the way where nothing is added).

    Args:
        wishes: Directions and bounds.
        predictor: From a metric to its predictor.
        scale: From a metric to its median and standard deviation over the space.
        strength: Log-weight of a standard deviation.
        trade_off: How several directions are joined.
        confidence: Bounds are to be met by the predictor's one-sided interval at this level; None: by its mean.
    """

    def __init__(
        self,
        wishes: Sequence[Objective],
        predictor: Callable[[str], Predictor],
        scale: Callable[[str], tuple[float, float]],
        strength: float,
        trade_off: TradeOff = "sum",
        confidence: float | None = None,
    ) -> None:
        self.directions, self.bounds = directions(wishes), bounds(wishes)
        self.predictor, self.scale = predictor, scale
        self.strength, self.trade_off, self.confidence = strength, trade_off, confidence
        self._weights = np.ones(len(self.directions))
        self._archive = np.empty((0, len(self.directions)))

    def __call__(self, archs: Sequence[Architecture]) -> Floats:
        """Log-weights of `b` architectures."""
        total = np.zeros(len(archs))
        worth = SPAN * len(self.directions)
        for wish, values in zip(self.bounds, self._bounded(archs), strict=True):
            assert wish.bound is not None
            _, spread = self.scale(wish.metric)
            gap = wish.sign * (wish.bound - values) / spread  # shows the way to the bound, before all directions
            total -= np.where(gap > 0, MISSED + self.strength * (worth + (1 + worth) * gap), 0.0)
        if not self.directions:
            return total
        scores = self.scores(archs)
        if self.trade_off == "hypervolume" and len(self.directions) > 1:
            gain = self.improvement(scores) ** (1 / len(self.directions))
            return np.asarray(total + self.strength * (gain + 0.1 * scores.sum(1)))
        weighted: Floats = np.asarray(total + self.strength * (scores @ self._weights))
        return weighted

    def scores(self, archs: Sequence[Architecture]) -> Floats:
        """`b x m`: how good each architecture is in each direction, in standard deviations from the median."""
        columns = []
        for wish in self.directions:
            centre, spread = self.scale(wish.metric)
            columns.append(wish.sign * (self.predictor(wish.metric).predict(archs).mean - centre) / spread)
        return np.stack(columns, 1) if columns else np.empty((len(archs), 0))

    def redraw(self, rng: np.random.Generator) -> None:
        """New weights of the directions, where the trade-off has any; they sum to the number of directions."""
        if self.trade_off == "weights" and len(self.directions) > 1:
            self._weights = rng.dirichlet(np.ones(len(self.directions))) * len(self.directions)

    @property
    def changes(self) -> bool:
        """Whether the reward differs from round to round."""
        return len(self.directions) > 1 and self.trade_off != "sum"

    def extend(self, archs: Sequence[Architecture]) -> None:
        """Add architectures to the set whose hypervolume counts."""
        if self.trade_off == "hypervolume" and archs:
            self._archive = np.vstack([self._archive, self.scores(archs)])

    def improvement(self, scores: Floats) -> Floats:
        """Hypervolume that each of `b` points adds to what the archive dominates above the reference point."""
        reference = torch.full((len(self.directions),), REFERENCE, dtype=torch.double)
        inside = self._archive[(self._archive > REFERENCE).all(1)]
        front = torch.from_numpy(inside) if len(inside) else reference[None]
        cells = FastNondominatedPartitioning(reference, front).get_hypercell_bounds()  # 2 x cells x m
        low, high = cells.clamp(max=1e6)
        point = torch.from_numpy(scores)[:, None]
        added = (torch.minimum(point, high) - low).clamp(min=0.0).prod(-1).sum(-1).numpy()
        return np.asarray(added, dtype=float)

    def feasible(self, archs: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Which architectures meet every bound as predicted; with a confidence, by the predictor's interval."""
        good = np.ones(len(archs), dtype=bool)
        for wish, values in zip(self.bounds, self._bounded(archs), strict=True):
            good &= np.array([wish.met(value) for value in values.tolist()], dtype=bool)
        return good

    def _bounded(self, archs: Sequence[Architecture]) -> list[Floats]:
        """For each bound, the values that have to meet it."""
        if self.confidence is None:
            return [self.predictor(wish.metric).predict(archs).mean for wish in self.bounds]
        return [self.predictor(wish.metric).limit(archs, wish, self.confidence) for wish in self.bounds]
