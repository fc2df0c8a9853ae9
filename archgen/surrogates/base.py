"""Surrogates: predictors that have a BoTorch posterior, so that every BoTorch acquisition function applies."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from botorch.models.model import Model
from botorch.posteriors import Posterior
from jaxtyping import Float
from torch import Tensor

from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.predictors.base import Floats, Predictor
from archgen.predictors.free_labels import FreeLabels
from archgen.spaces import SearchSpace


class Surrogate(Predictor):
    """A predictor whose belief is a BoTorch model over `features`.

    The model lives in the *normalised* scale of the targets (see the member): larger is larger, but units are
    gone. `predict` speaks in the metric's unit.
    """

    @classmethod
    def for_wishes(
        cls, space: SearchSpace, wishes: Sequence[Objective], free_labels: FreeLabels | None = None
    ) -> Sequence[Surrogate]:
        """A surrogate of each wish's metric, all with the same features, not fitted yet.

        Args:
            space: The search space.
            wishes: Objectives and bounds.
            free_labels: For surrogates that take them.
        """
        extra = {"free_labels": free_labels} if cls.takes_free_labels else {}
        return [cls(space, wish.metric, **extra) for wish in wishes]

    @property
    @abstractmethod
    def model(self) -> Model:
        """The fitted BoTorch model over `features`; raises `ArchgenError` before `fit`."""

    @abstractmethod
    def features(self, archs: Sequence[Architecture]) -> Float[Tensor, "b d"]:
        """The model's input for each architecture."""

    @abstractmethod
    def normalise(self, values: Sequence[float]) -> list[float]:
        """Values in the metric's unit to the model's scale; monotone."""

    @abstractmethod
    def denormalise(self, scores: Floats) -> Floats:
        """Values of the model's scale, of any shape, in the metric's unit: the inverse of `normalise`."""

    @abstractmethod
    def predict_normalised(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the noise-free value in the model's scale, `b` each."""

    def update(self, archs: Sequence[Architecture], y: Floats) -> Surrogate:
        """Learn from `b` architectures and their values, more cheaply than by `fit` where a member can; fitted before.

        Args:
            archs: All architectures to learn from, those of the last fit among them.
            y: Their values, `b`.
        """
        self.fit(archs, y)
        return self

    def posterior(self, archs: Sequence[Architecture]) -> Posterior:
        """Joint posterior over the architectures, in the normalised scale."""
        return self.model.posterior(self.features(archs))
