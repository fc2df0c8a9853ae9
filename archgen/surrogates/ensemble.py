"""Predictors joined by weights from cross-validation (stacking: Wolpert, Neural Networks 5, 1992).

It lives here because the Gaussian process is a member, and predictors never import surrogates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from archgen.graph import Architecture
from archgen.predictors.base import PREDICTORS, Floats, Predictor
from archgen.predictors.free_labels import PREFIX, FreeLabels, join_free_labels, split_free_labels
from archgen.predictors.gbdt import calibrated_std
from archgen.predictors.normal_scores import NormalScorePredictor, NormalScores
from archgen.spaces import SearchSpace

FOLDS = 5
FEWEST = 15
"""Labels below which members count alike: there is too little to tell them apart by."""
FLOOR = 1e-6


@PREDICTORS.register("ensemble")
class Ensemble(NormalScorePredictor):
    """A convex combination of predictors, weighed by what they say of labels that they have not seen.

    Each member predicts each fifth of the labels from the other four. Weights, positive and of sum 1, are those of the
    least squared rank error, in normal scores (Breiman, Machine Learning 24, 1996: stacked regressions). Weights that
    would be fitted to four fifths and tried on the last must beat the best single member on it, summed over all
    fifths; else that member has all the weight, so that joining can cost no more than the noise of the comparison.
    The spread is the members' own, by weight, times the factor at which 90 % intervals hold 90 % of the labels left
    out.

    Args:
        space: The space.
        metric: Name of the metric.
        members: Registered predictors.
        free_labels: Given to the members that take them.
    """

    takes_free_labels = True

    def __init__(
        self,
        space: SearchSpace,
        metric: str,
        members: Sequence[str] = ("gp", "gbdt"),
        free_labels: FreeLabels | None = None,
    ) -> None:
        super().__init__(space, metric)
        self.names, self.free_labels = tuple(members), free_labels
        self.members: list[Predictor] = [self._member(name) for name in self.names]
        self.weights: Floats = np.full(len(self.names), 1 / len(self.names))
        """Of each member."""
        self.errors: Floats = np.full(len(self.names), np.nan)
        """Mean squared rank error of each member on labels that it had not seen, in normal scores."""
        self._factor = 1.0

    def _member(self, name: str) -> Predictor:
        kind = PREDICTORS[name]
        extra = {"free_labels": self.free_labels} if kind.takes_free_labels else {}
        return kind(self.space, self.metric, **extra)

    def fit(self, archs: Sequence[Architecture], y: Floats) -> Ensemble:
        """Weigh the members by cross-validation, then fit each to all values.

        Raises:
            ArchgenError: No values, or a value is not finite.
        """
        y = np.asarray(y, dtype=float)
        self.check_fit(archs, y)
        self._normal = NormalScores(y)
        self.weights, self._factor = np.full(len(self.names), 1 / len(self.names)), 1.0
        if len(y) >= FEWEST and np.ptp(y) > 0:
            self._weigh(archs, y)
        self.members = [self._member(name) for name in self.names]
        for member in self._used():
            member.fit(archs, y)
        return self

    def _weigh(self, archs: Sequence[Architecture], y: Floats) -> None:
        truth = self.normal.scores
        mean, std = np.zeros((2, len(y), len(self.names)))
        fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
        for out in (fold == k for k in range(FOLDS)):
            kept, left = ([archs[i] for i in np.flatnonzero(rows).tolist()] for rows in (~out, out))
            for i, name in enumerate(self.names):
                mean[out, i], std[out, i] = self.normal.belief(self._member(name).fit(kept, y[~out]).predict(left))
        self.errors = ((mean - truth[:, None]) ** 2).mean(0)
        nested = np.zeros(len(y))
        for out in (fold == k for k in range(FOLDS)):
            nested[out] = mean[out] @ least_squares_weights(mean[~out], truth[~out])
        best = int(self.errors.argmin())
        if np.mean((nested - truth) ** 2) < self.errors[best]:
            self.weights = least_squares_weights(mean, truth)
        else:
            self.weights = np.eye(len(self.names))[best]
            nested = mean[:, best]
        spread = np.sqrt(np.maximum(std**2 @ self.weights, FLOOR**2))
        self._factor = calibrated_std((truth - nested) / spread)

    def _used(self) -> list[Predictor]:
        return [member for member, weight in zip(self.members, self.weights, strict=True) if weight > 0]

    def predict_scores(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats]:
        weights = self.weights[self.weights > 0]
        mean, std = np.stack([self.normal.belief(member.predict(archs)) for member in self._used()], -1)
        spread: Floats = self._factor * np.sqrt(std**2 @ weights)
        return mean @ weights, np.maximum(spread, FLOOR)

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        config: dict[str, Any] = {
            "members": list(self.names),
            "weights": self.weights.tolist(),
            "factor": self._factor,
            "states": {},
        }
        tensors = {"y": torch.from_numpy(self.normal.y.copy())}
        for name, member, weight in zip(self.names, self.members, self.weights, strict=True):
            if weight > 0:
                own, weights = member.state()
                own.pop("free_labels", None)  # the ensemble's own, stored once
                config["states"][name] = own
                tensors |= {f"{name}/{key}": t for key, t in weights.items() if not key.startswith(PREFIX)}
        return join_free_labels(self.free_labels, config, tensors)

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Ensemble:
        self = cls(space, metric, config["members"], split_free_labels(space, config, tensors))
        self.weights, self._factor = np.array(config["weights"]), float(config["factor"])
        self._normal = NormalScores(tensors["y"].numpy().astype(float))
        for i, name in enumerate(self.names):
            if name in config["states"]:
                own = {key.removeprefix(f"{name}/"): t for key, t in tensors.items() if key.startswith(f"{name}/")}
                kind, state = PREDICTORS[name], config["states"][name]
                if kind.takes_free_labels:
                    state, own = join_free_labels(self.free_labels, state, own)
                self.members[i] = kind.restore(space, metric, state, own)
        return self


def least_squares_weights(predictions: Floats, truth: Floats) -> Floats:
    """Weights, positive and of sum 1, of the combination with the least squared error.

    Args:
        predictions: `b x m`.
        truth: `b`.
    """
    heavy = 1e3 * np.sqrt(len(truth))  # a row that makes any other sum than 1 dear
    rows = np.vstack([predictions, np.full((1, predictions.shape[1]), heavy)])
    found: Floats = nnls(rows, np.append(truth, heavy))[0]
    weights: Floats = found / found.sum()
    return weights
