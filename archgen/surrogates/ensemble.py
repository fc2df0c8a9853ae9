"""Predictors joined by weights from cross-validation (stacking: Wolpert, Neural Networks 5, 1992).

It lives here because the Gaussian process is a member, and predictors never import surrogates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from archgen.graph import Architecture
from archgen.predictors.base import PREDICTORS, Floats, Predictor
from archgen.predictors.cross_fitted import CrossFitted
from archgen.predictors.free_labels import FreeLabels, drop_free_labels, join_free_labels, split_free_labels
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

    Each member predicts each fifth of the labels from the other four; one that is an ensemble over folds itself
    (`CrossFitted`) has done so in its only fit, by a single network where all will predict, and counts as less wrong by
    as much as their disagreement explains. Weights, positive and of sum 1, are those of the least squared rank error,
    in normal scores (Breiman, Machine Learning 24, 1996: stacked regressions). Weights that would be fitted to four
    fifths and tried on the last must beat the best single member on it, summed over all fifths; else that member has
    all the weight, so that joining can cost no more than the noise of the comparison. The spread is the members' own,
    by weight, times the factor at which 90 % intervals hold 90 % of the labels left out.

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
        for member in self.members:
            if isinstance(member, CrossFitted):  # one fit gives its left-out predictions too
                member.fit(archs, y)
        if len(y) >= FEWEST and np.ptp(y) > 0:
            self._weigh(archs, y)
        for member in self._used():
            if not isinstance(member, CrossFitted):
                member.fit(archs, y)
        return self

    def _weigh(self, archs: Sequence[Architecture], y: Floats) -> None:
        mean, std, excess = self._left_out(archs, y)
        wrong = mean - self.normal.scores[:, None]
        self.errors = (wrong**2).mean(0) - excess
        nested = np.zeros_like(wrong)
        for out in _folds(len(y)):
            nested[out] = least_squares_weights(wrong[~out], excess)
        best = int(self.errors.argmin())
        if _squared_error(wrong, nested, excess) < self.errors[best]:
            self.weights = least_squares_weights(wrong, excess)
        else:
            self.weights = np.eye(len(self.names))[best]
            nested[:] = self.weights
        joint = (nested * wrong).sum(1)
        spread = np.sqrt(np.maximum(std**2 @ self.weights, FLOOR**2))
        surer = max(_squared_error(wrong, nested, excess) / max(float((joint**2).mean()), FLOOR), 0.25)
        self._factor = calibrated_std(joint / spread) * math.sqrt(surer)

    def _left_out(self, archs: Sequence[Architecture], y: Floats) -> tuple[Floats, Floats, Floats]:
        """What each member says of labels that it has not seen, in scores.

        Returns:
            Means and standard deviations, `b x m`; by how much more these means are wrong than the fitted member, `m`
            squared errors.
        """
        mean, std = np.zeros((2, len(y), len(self.names)))
        excess = np.zeros(len(self.names))
        for i, member in enumerate(self.members):
            if isinstance(member, CrossFitted):
                assert member.left_out is not None
                mean[:, i], std[:, i], excess[i] = member.left_out
                continue
            for out in _folds(len(y)):
                kept, left = ([archs[j] for j in np.flatnonzero(rows).tolist()] for rows in (~out, out))
                again = self._member(self.names[i]).fit(kept, y[~out])
                mean[out, i], std[out, i] = self.normal.belief(again.predict(left))
        return mean, std, excess

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
                own, weights = drop_free_labels(*member.state())  # the ensemble's own, stored once
                config["states"][name] = own
                tensors |= {f"{name}/{key}": t for key, t in weights.items()}
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


def least_squares_weights(errors: Floats, excess: Floats) -> Floats:
    """Weights, positive and of sum 1, of the combination with the least squared error.

    Args:
        errors: Of each of `m` members on each of `b` labels, `b x m`.
        excess: Part of the mean squared errors that the members will not make in the end, independent of what the
            others get wrong, `m`.
    """
    variances, directions = np.linalg.eigh(errors.T @ errors / len(errors) - np.diag(excess))
    root = np.sqrt(np.maximum(variances, 0.0))[:, None] * directions.T
    heavy = 1e3  # a row that makes any other sum than 1 dear
    rows = np.vstack([root, np.full((1, len(root)), heavy)])
    found: Floats = nnls(rows, np.append(np.zeros(len(root)), heavy))[0]
    weights: Floats = found / found.sum()
    return weights


def _squared_error(errors: Floats, weights: Floats, excess: Floats) -> float:
    """Mean squared error of combinations, each label's of its own weights, `b x m`, less what is in excess."""
    return float(((errors * weights).sum(1) ** 2).mean() - (weights**2 @ excess).mean())


def _folds(n: int) -> Iterator[NDArray[np.bool_]]:
    """Which of `n` labels each fold leaves out."""
    fold = np.random.default_rng(0).permutation(n) % FOLDS
    return (fold == k for k in range(FOLDS))
