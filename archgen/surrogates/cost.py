"""What evaluations cost, and improvement per second of it (cost-aware Bayesian optimisation, arXiv 2003.10870)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from botorch.exceptions.errors import ModelFittingError
from botorch.exceptions.warnings import InputDataWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Normalize, Standardize
from gpytorch.mlls import ExactMarginalLogLikelihood
from jaxtyping import Float
from torch import Tensor

from archgen.errors import ArchgenError


@dataclass(frozen=True)
class Cost:
    r"""A model of the logarithm of the seconds an evaluation takes, and how much it counts.

    EI-cool of the paper is :math:`\mathrm{EI}(x) / c(x)^\alpha`; in logarithms
    :math:`\log \mathrm{EI}(x) - \alpha \log c(x)` with :math:`\log c` the mean of this model.

    Args:
        model: BoTorch's Gaussian process over a surrogate's features.
        exponent: :math:`\alpha`, in [0, 1]; see `cooled`.
    """

    model: SingleTaskGP
    exponent: float

    def log_seconds(self, X: Float[Tensor, "*b q d"]) -> Float[Tensor, "*b q"]:
        """Mean of the logarithm of the cost of each point, in log-seconds."""
        mean: Tensor = self.model.posterior(X).mean[..., 0]
        return mean


def fit_log_cost(features: Float[Tensor, "b d"], seconds: Sequence[float]) -> SingleTaskGP:
    """A Gaussian process on the logarithm of the seconds that evaluations took.

    Args:
        features: A surrogate's, of at least one architecture.
        seconds: What the evaluation of each cost, positive.

    Raises:
        ArchgenError: A cost that is not positive and finite.
    """
    cost = torch.tensor(list(seconds)).double()
    if len(cost) == 0 or not bool((cost.isfinite() & (cost > 0)).all()):
        raise ArchgenError(
            "a model of the cost needs evaluations that took a positive number of seconds; an evaluator that tells no "
            "cost (a table without one) allows no cost-aware search"
        )

    def make() -> SingleTaskGP:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputDataWarning)  # costs that are all equal have no spread to scale by
            return SingleTaskGP(
                features,
                cost.log()[:, None],
                input_transform=Normalize(features.shape[1]),
                outcome_transform=Standardize(1),
            )

    model = make()
    try:
        with torch.random.fork_rng(devices=[]):  # a restart draws from torch's own generator
            torch.manual_seed(0)
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    except ModelFittingError:  # all restarts failed: the priors' modes are a usable model
        model = make()
    return model.eval()


def cooled(budget: float, spent: float, initial: float) -> float:
    r"""The exponent of the cost, :math:`\alpha = (\tau - \tau_k) / (\tau - \tau_{init})`: 1 at first, 0 at the end.

    Args:
        budget: :math:`\tau`, seconds in all, positive.
        spent: :math:`\tau_k`, seconds that all evaluations took so far.
        initial: :math:`\tau_{init}`, seconds that the evaluations before the first model took.
    """
    left = budget - initial
    return min(max((budget - spent) / left, 0.0), 1.0) if left > 0 else 0.0
