"""Gradient-boosted trees (after GBDT-NAS, arXiv 2007.04785)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from scipy.stats import norm, t
from torch import Tensor

from archgen.encoders.paths import PathEncoder
from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.predictors.base import PREDICTORS, Floats
from archgen.predictors.choice_features import ChoiceEncoder
from archgen.predictors.distinct import distinct
from archgen.predictors.free_labels import FreeLabels, join_free_labels, split_free_labels
from archgen.predictors.normal_scores import NormalScorePredictor, NormalScores
from archgen.spaces import SearchSpace

if TYPE_CHECKING:
    from lightgbm import Booster

Features = Literal["paths", "choices"]
FOLDS = 5
"""Each member leaves one fold of the labels out; every label is left out by as many members as there are repeats."""
REPEATS = 2
LEVEL = 0.9
"""Two-sided level at which intervals are calibrated."""
FLOOR = 1e-9


@PREDICTORS.register("gbdt")
class GradientBoosting(NormalScorePredictor):
    """An ensemble of LightGBM regressors on path features, each fitted to 80 % of the labels.

    Like GBDT-NAS it predicts accuracy by boosted regression trees on a table of what an architecture is made of. We
    differ where it made the predictions better on validation accuracies of NAS-Bench-201: features are those of
    `PathEncoder` instead of one-hot choices (`features="choices"` gives the paper's); targets are normal scores of
    ranks instead of standardised accuracies; trees are smaller and see a fifth of the features a split.

    The error is Gaussian in the scale of the scores, with one standard deviation for all architectures: such that 90 %
    of the labels lie in the interval around what the members predict that have *not* seen them (cross-conformal, with
    the finite-sample rank of conformal prediction). A single label, or equal ones, say nothing of an error: it is 1e-9.

    Args:
        space: The space.
        metric: Name of the metric.
        features: `paths`, or `choices`: one-hot choice of each variable as written, which is what can be pruned.
        seed: Of the folds and of the features that a split sees.
        free_labels: Further features that cost no training; a part of the checkpoint.

    Example:
        >>> space = spaces.load("nasbench201")
        >>> archs = space.sample(40, np.random.default_rng(0))
        >>> y = np.array([arch.ops.count("nor_conv_3x3") for arch in archs], dtype=float)
        >>> GradientBoosting(space, "val_acc").fit(archs, y).predict(archs).mean.shape
        (40,)
    """

    takes_free_labels = True

    def __init__(
        self,
        space: SearchSpace,
        metric: str,
        features: Features = "paths",
        seed: int = 0,
        free_labels: FreeLabels | None = None,
    ) -> None:
        super().__init__(space, metric)
        if features not in ("paths", "choices"):
            raise ArchgenError(f"features of a gbdt must be 'paths' or 'choices', got '{features}'")
        self.features: Features = features
        self.seed, self.free_labels = seed, free_labels
        self.encoder = PathEncoder(space) if features == "paths" else ChoiceEncoder(space)
        self.members: list[Booster] = []
        """Fitted regressors of the scores; none where all labels are equal."""
        self._std = 0.0

    def encode(self, archs: Sequence[Architecture]) -> Floats:
        """Features, `b x p`, free labels last."""
        rows: Floats = self.encoder(archs).numpy()
        if self.free_labels is None:
            return rows
        return np.hstack([rows, self.free_labels(archs)])

    def fit(self, archs: Sequence[Architecture], y: Floats) -> GradientBoosting:
        """Fit two members to each of five splits of the labels; deterministic.

        Raises:
            ArchgenError: No values, or a value is not finite.
        """
        y = np.asarray(y, dtype=float)
        self.check_fit(archs, y)
        self._normal, self.members, self._std = NormalScores(y), [], 0.0
        if np.ptp(y) == 0:
            return self
        rows, z = self.encode(archs), self._normal.scores
        residuals = np.zeros(len(z))
        for repeat in range(REPEATS):
            fold = np.random.default_rng([self.seed, repeat]).permutation(len(z)) % min(FOLDS, len(z))
            for left_out in range(min(FOLDS, len(z))):
                out = fold == left_out
                member = boost(rows[~out], z[~out], seed=self.seed + len(self.members))
                residuals[out] += (z[out] - _predict(member, rows[out])) / REPEATS
                self.members.append(member)
        self._std = calibrated_std(residuals)
        return self

    def predict_scores(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats]:
        level = self.normal
        if not self.members or not archs:
            mean = np.full(len(archs), level.scores[0])
        else:
            rows, which = distinct(self.encode(archs))  # many architectures compute the same
            mean = np.mean([_predict(member, rows) for member in self.members], 0)[which]
        return mean, np.full(len(archs), max(self._std, FLOOR))

    def contributions(self, archs: Sequence[Architecture]) -> Floats:
        """`shap_values` of each feature in each member for `b` architectures, `members x b x (p + 1)`."""
        rows = self.encode(archs)
        found = [shap_values(member, rows) for member in self.members]
        return np.array(found).reshape(len(self.members), len(archs), rows.shape[1] + 1)

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        config: dict[str, Any] = {"features": self.features, "seed": self.seed, "members": len(self.members)}
        tensors = {"y": torch.from_numpy(self.normal.y.copy()), "std": torch.tensor(self._std, dtype=torch.double)}
        for i, member in enumerate(self.members):  # LightGBM's own text format
            tensors[f"member.{i}"] = torch.tensor(bytearray(member.model_to_string().encode()), dtype=torch.uint8)
        return join_free_labels(self.free_labels, config, tensors)

    @classmethod
    def restore(
        cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]
    ) -> GradientBoosting:
        from lightgbm import Booster
        from lightgbm.basic import LightGBMError

        free = split_free_labels(space, config, tensors)
        predictor = cls(space, metric, config["features"], config["seed"], free)
        predictor._normal = NormalScores(tensors["y"].numpy().astype(float))
        predictor._std = float(tensors["std"])
        width = predictor.encode([]).shape[1]
        for i in range(config["members"]):
            text = tensors[f"member.{i}"].numpy().tobytes().decode()
            try:
                member = Booster(model_str=text)
            except LightGBMError as error:
                raise ValueError(f"member {i}: {error}") from None
            if member.num_feature() != width:
                raise ValueError(f"member {i} reads {member.num_feature()} features, {space.name} has {width}")
            predictor.members.append(member)
        return predictor


def boost(rows: Floats, z: Floats, *, seed: int) -> Booster:
    """One LightGBM regressor with parameters for as many labels as there are; deterministic, on one thread.

    Args:
        rows: Features, `n x p`.
        z: Targets of about unit variance, `n`.
        seed: Of the features that a split sees.
    """
    import lightgbm

    n = len(z)
    parameters = {
        "objective": "regression",
        "learning_rate": 0.2,  # half the rate with twice the trees gains 0.0015 of Kendall tau and halves the speed
        # the smallest of few labels must split at all; from about a thousand on, larger trees find interactions
        "num_leaves": 12 if n < 600 else 31,
        "min_data_in_leaf": 1 if n < 16 else 2 if n < 32 else 3,
        "feature_fraction_bynode": 0.2,
        "min_data_in_bin": 1,
        "feature_pre_filter": False,
        "seed": seed,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(rows, z, params=parameters, free_raw_data=True)
    return lightgbm.train(parameters, data, num_boost_round=75 if n < 600 else 60)


def shap_values(member: Booster, rows: Floats) -> Floats:
    """SHAP values by LightGBM's own exact TreeSHAP (Lundberg et al., arXiv 1802.03888).

    Args:
        member: A fitted regressor.
        rows: Features, `b x p`.

    Returns:
        `b x (p + 1)`, in normal scores; the last column is the mean prediction, and a row's sum is its prediction.
    """
    found: Floats = np.asarray(member.predict(rows, pred_contrib=True, num_threads=1), dtype=float)
    return found.reshape(len(rows), rows.shape[1] + 1)


def calibrated_std(residuals: Floats) -> float:
    """Standard deviation whose Gaussian 90 % interval is the conformal one of left-out residuals.

    Half its width is the residual of rank `0.9 (n + 1)` by size; with fewer than nine of them there is none, and
    Student's interval for their root mean square takes its place.

    Args:
        residuals: What was left out less its prediction, `n`, at least one.
    """
    n = len(residuals)
    rank = math.ceil(LEVEL * (n + 1))
    if rank <= n:
        half = float(np.sort(np.abs(residuals))[rank - 1])
    else:
        half = float(np.sqrt(np.mean(residuals**2)) * t.ppf((1 + LEVEL) / 2, max(n - 1, 1)) * math.sqrt(1 + 1 / n))
    return half / float(norm.ppf((1 + LEVEL) / 2))


def _predict(member: Booster, rows: Floats) -> Floats:
    predicted: Floats = np.asarray(member.predict(rows, num_threads=1), dtype=float)
    return predicted
