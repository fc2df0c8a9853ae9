"""Predictors: estimate a metric without paying for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from archgen import artifacts
from archgen.artifacts import Checkpoint
from archgen.errors import ArchgenError, InvalidCheckpoint
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.registry import Registry
from archgen.spaces import SearchSpace

PREDICTORS: Registry[type[Predictor]] = Registry("predictor")

Floats = NDArray[np.float64]


class Prediction(NamedTuple):
    """What a predictor says of `b` architectures."""

    mean: Floats
    """`b` estimates, in the metric's unit."""
    std: Floats
    """`b` standard deviations of the error of the estimate, in the metric's unit; 0 for an exact count."""


class Predictor(ABC):
    """Estimates one metric of architectures of one space.

    Args:
        space: The space whose architectures it is for.
        metric: Name of the metric.
    """

    takes_free_labels: ClassVar[bool] = False
    """Whether its constructor has an argument `free_labels`, of `FreeLabels`."""

    def __init__(self, space: SearchSpace, metric: str) -> None:
        self.space, self.metric = space, metric

    @property
    def needs_labels(self) -> bool:
        """Whether `fit` refuses to learn from no labels at all."""
        return True

    @abstractmethod
    def fit(self, archs: Sequence[Architecture], y: Floats) -> Predictor:
        """Learn from `b` architectures and their values; returns itself."""

    @abstractmethod
    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        """Mean and standard deviation for each architecture."""

    def log_probability(self, archs: Sequence[Architecture], objective: Objective) -> Floats:
        """Log-probability that each architecture meets a bound, for a Gaussian error; 0 or -inf where exact.

        Args:
            archs: `b` architectures.
            objective: An `at_least` or `at_most` of this predictor's metric.
        """
        assert objective.bound is not None
        mean, std = self.predict(archs)
        margin = objective.sign * (mean - objective.bound)
        with np.errstate(divide="ignore"):
            certain = np.log((margin >= 0).astype(float))
        return np.where(std > 0, norm.logcdf(margin / np.where(std > 0, std, 1.0)), certain)

    def limit(self, archs: Sequence[Architecture], objective: Objective, confidence: float) -> Floats:
        """The value on whose safe side the truth lies with probability `confidence`; here for a Gaussian error.

        Args:
            archs: `b` architectures.
            objective: An `at_least` (a lower limit is given) or `at_most` (an upper one) of this metric.
            confidence: In (0, 1).

        Raises:
            ArchgenError: `confidence` is not between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise ArchgenError(f"a confidence must be between 0 and 1, got {confidence}")
        mean, std = self.predict(archs)
        limit: Floats = mean - objective.sign * norm.ppf(confidence) * std
        return limit

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Config (JSON types) and tensors of a checkpoint."""

    @classmethod
    @abstractmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Predictor:
        """The fitted predictor of a `state`."""

    def check_fit(self, archs: Sequence[Architecture], y: Floats) -> None:
        """Raise `ArchgenError` unless there is at least one value an architecture and all are finite."""
        if len(archs) != len(y) or len(archs) == 0:
            raise ArchgenError(f"expected as many values of {self.metric} as architectures, got {len(y)}, {len(archs)}")
        if not np.isfinite(y).all():
            raise ArchgenError(f"{self.metric} has {int((~np.isfinite(y)).sum())} NaN or infinite values; drop them")


def save_predictor(predictor: Predictor, name: str, folder: Path, card: str) -> None:
    """Write a fitted predictor, registered as `name`, to a checkpoint folder with its card."""
    config, tensors = predictor.state()
    config = {"space": predictor.space.name, "metric": predictor.metric, **config}
    artifacts.save_checkpoint(folder, Checkpoint("predictor", name, config, tensors), card)


def load_predictor(folder: Path, space: SearchSpace) -> Predictor:
    """Rebuild a predictor from its checkpoint.

    Raises:
        InvalidCheckpoint: No predictor there, one for another space, or a truncated one.
    """
    checkpoint = artifacts.load_checkpoint(folder, "predictor")
    config = dict(checkpoint.config)
    origin, metric = config.pop("space", None), config.pop("metric", None)
    if origin != space.name or not isinstance(metric, str):
        raise InvalidCheckpoint(f"{folder} is a predictor for space '{origin}', expected '{space.name}'")
    try:
        return PREDICTORS[checkpoint.name].restore(space, metric, config, checkpoint.tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InvalidCheckpoint(f"{folder} is not a whole {checkpoint.name} checkpoint ({error!r})") from None
