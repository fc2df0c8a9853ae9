"""What is optimised on surrogates: objectives, bounds, and what is known of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from botorch.models import ModelListGP, SingleTaskGP
from botorch.models.model import Model, ModelList
from botorch.posteriors import GPyTorchPosterior, Posterior
from gpytorch.distributions import MultitaskMultivariateNormal
from torch import Tensor

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.surrogates.base import Surrogate

WORST = -3.0
"""Normal score below which hardly any value lies: with nothing feasible yet, any feasible point improves on it."""


class Constraint(NamedTuple):
    """A bound and the surrogate of its metric, fitted to the values as they are."""

    surrogate: Surrogate
    wish: Objective


@dataclass(frozen=True)
class Problem:
    """What an acquisition function is made from. All surrogates have the same features.

    Args:
        objectives: Surrogates fitted to values whose sign is such that more is better.
        constraints: The bounds.
        feasible: Of each architecture so far that meets the bounds, the values that the objectives were fitted to.
        told: All architectures evaluated so far; needed where there are several objectives.
    """

    objectives: Sequence[Surrogate]
    constraints: Sequence[Constraint] = ()
    feasible: Sequence[Sequence[float]] = ()
    told: Sequence[Architecture] = ()

    @property
    def model(self) -> Model:
        """Independent outputs: the objectives, then the constraints."""
        models = [surrogate.model for surrogate in (*self.objectives, *(c.surrogate for c in self.constraints))]
        if len(models) == 1:
            return models[0]
        gaussian = all(isinstance(model, SingleTaskGP) for model in models)
        return ModelListGP(*models) if gaussian else IndependentModels(*models)

    @property
    def objective(self) -> Surrogate:
        """The only objective; raises `ArchgenError` where there are several."""
        if len(self.objectives) != 1:
            raise ArchgenError(
                f"this acquisition function takes one objective, got {len(self.objectives)}; qlognehvi takes several"
            )
        return self.objectives[0]

    @property
    def scores(self) -> list[list[float]]:
        """Of each objective, what is feasible so far, in the scale of its model."""
        columns = list(zip(*self.feasible, strict=True)) or [()] * len(self.objectives)
        return [surrogate.normalise(column) for surrogate, column in zip(self.objectives, columns, strict=True)]

    @property
    def best(self) -> float:
        """The best feasible score of the only objective."""
        assert self.objective
        return max(self.scores[0], default=WORST)

    @property
    def violations(self) -> list[Callable[[Tensor], Tensor]]:
        """The bounds in BoTorch's form: of samples of the model's outputs, negative where met."""
        return [_violation(c, i) for i, c in enumerate(self.constraints, len(self.objectives))]

    def log_feasible(self, X: Tensor) -> Tensor:
        """Log-probability of `q` points, `... x q x d`, to meet each bound on its own."""
        total = torch.zeros(X.shape[:-2]).to(X)
        for surrogate, wish in self.constraints:
            assert wish.bound is not None
            posterior = surrogate.model.posterior(X)
            margin = wish.sign * (posterior.mean - surrogate.normalise([wish.bound])[0]) / posterior.variance.sqrt()
            total = total + torch.special.log_ndtr(margin).sum((-2, -1))
        return total


class IndependentModels(ModelList):  # type: ignore[misc]
    """Models of one output each as one of several: `ModelListGP`, for models that are not Gaussian processes."""

    @property
    def batch_shape(self) -> torch.Size:
        return torch.Size()

    def posterior(self, X: Tensor, *args: object, **kwargs: object) -> Posterior:
        """The joint Gaussian over points and outputs, `... x q x m`."""
        transform = kwargs.pop("posterior_transform", None)
        parts = super().posterior(X, *args, **kwargs).posteriors
        normals = [part.distribution for part in parts]
        joined = normals[0] if len(normals) == 1 else MultitaskMultivariateNormal.from_independent_mvns(normals)
        posterior = GPyTorchPosterior(joined)
        return posterior if not callable(transform) else transform(posterior)


def _violation(constraint: Constraint, output: int) -> Callable[[Tensor], Tensor]:
    surrogate, wish = constraint
    assert wish.bound is not None
    (bound,) = surrogate.normalise([wish.bound])
    return partial(_excess, bound=bound, sign=wish.sign, output=output)


def _excess(y: Tensor, *, bound: float, sign: int, output: int) -> Tensor:
    """How far samples of an output lie on the wrong side of a bound, in the scale of the surrogate."""
    return sign * (bound - y[..., output])
