"""Acquisition functions of BoTorch over surrogates, by name, with bounds and costs; and a batch chosen by one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from botorch.acquisition import AcquisitionFunction
from botorch.acquisition.analytic import AnalyticAcquisitionFunction, LogExpectedImprovement, UpperConfidenceBound
from botorch.acquisition.logei import qLogExpectedImprovement
from botorch.acquisition.monte_carlo import qUpperConfidenceBound
from botorch.acquisition.multi_objective import logei as multi_objective_logei
from botorch.acquisition.multi_objective.objective import MCMultiOutputObjective
from botorch.acquisition.objective import GenericMCObjective
from botorch.models import ModelListGP
from botorch.optim import optimize_acqf_discrete
from botorch.sampling import IIDNormalSampler, SobolQMCNormalSampler
from linear_operator.utils.warnings import NumericalWarning
from torch import Tensor

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.pareto import corner_below
from archgen.registry import Registry
from archgen.surrogates.cost import Cost
from archgen.surrogates.problem import WORST, Problem

SAMPLES = 128
"""Of the posterior, for an acquisition function that is a mean over them."""
KAPPA = 0.5
"""Standard deviations of an upper confidence bound, as in FlexiBERT's code (arXiv 2205.11656)."""
CHUNK = 512
"""Candidates that are weighed at a time, but for Thompson draws."""


class Settings(NamedTuple):
    """What an acquisition function needs beside the problem."""

    seed: int
    kappa: float = KAPPA


ACQUISITIONS: Registry[Callable[[Problem, Settings], AcquisitionFunction]] = Registry("acquisition function")


def make_acquisition(
    name: str, problem: Problem, *, seed: int, kappa: float = KAPPA, cost: Cost | None = None
) -> AcquisitionFunction:
    """A BoTorch acquisition function over the surrogates' features; larger is better.

    Args:
        name: `logei`, `qlogei`, `ucb`, `qucb`, `thompson`, or `qlognehvi` for several objectives, whose hypervolume
            is one in the metrics' units. Bounds enter `qlogei` and `qlognehvi` as feasibility-weighted samples,
            `thompson` as draws of their own, and the others by their log-probability, which makes of `logei` the
            constrained improvement.
        problem: Its surrogates must be fitted.
        seed: Of the samples.
        kappa: Standard deviations of the upper confidence bounds.
        cost: Divides an expected improvement by the predicted cost.

    Raises:
        UnknownName: No such acquisition function.
        ArchgenError: One objective for several or the other way round, or a cost where there is no improvement.
    """
    acquisition = ACQUISITIONS[name](problem, Settings(seed, kappa))
    if cost is None:
        return acquisition
    if not acquisition._log:
        raise ArchgenError(f"a cost divides an expected improvement (logei, qlogei, qlognehvi), got '{name}'")
    return Adjusted(acquisition, lambda X: -cost.exponent * cost.log_seconds(X).sum(-1))


def propose(
    problem: Problem,
    pool: Sequence[Architecture],
    n: int,
    *,
    rng: np.random.Generator,
    name: str = "qlogei",
    kappa: float = KAPPA,
    cost: Cost | None = None,
) -> list[Architecture]:
    """The batch of a pool that an acquisition function chooses, one after the other.

    Where the function knows of pending points these push the next one away, so the batch is diverse.

    Args:
        problem, name, kappa, cost: As in `make_acquisition`.
        pool: Candidates, more than `n`.
        n: Size of the batch.
        rng: Seeds the samples.
    """
    choices, seed = problem.objectives[0].features(pool), int(rng.integers(2**31))
    with torch.no_grad(), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # qLogNEHVI prunes its baseline by draws of torch's own generator
        # architectures that compute the same have a singular joint covariance; the jitter that is announced mends it
        warnings.simplefilter("ignore", NumericalWarning)
        acquisition = make_acquisition(name, problem, seed=seed, kappa=kappa, cost=cost)
        together = len(pool) if isinstance(acquisition, ThompsonDraw) else CHUNK
        chosen, _ = optimize_acqf_discrete(acquisition, q=n, choices=choices, max_batch_size=together, unique=True)
    archs: list[Architecture] = []
    for x in chosen:  # equal features may belong to several architectures: take one that is not taken yet
        matches = (choices == x).all(1).nonzero()[:, 0].tolist()
        archs.append(next((pool[i] for i in matches if pool[i] not in archs), pool[matches[0]]))
    return list(dict.fromkeys(archs))


@ACQUISITIONS.register("qlogei")
def _q_log_ei(problem: Problem, settings: Settings) -> AcquisitionFunction:
    return qLogExpectedImprovement(
        model=problem.model,
        best_f=problem.best,
        objective=GenericMCObjective(lambda y, X=None: y[..., 0]),
        constraints=problem.violations or None,
        sampler=_sampler(settings),
    )


@ACQUISITIONS.register("logei")
def _log_ei(problem: Problem, settings: Settings) -> AcquisitionFunction:
    return Adjusted(LogExpectedImprovement(problem.objective.model, best_f=problem.best), problem.log_feasible)


@ACQUISITIONS.register("ucb")
def _ucb(problem: Problem, settings: Settings) -> AcquisitionFunction:
    return Adjusted(UpperConfidenceBound(problem.objective.model, beta=settings.kappa**2), problem.log_feasible)


@ACQUISITIONS.register("qucb")
def _q_ucb(problem: Problem, settings: Settings) -> AcquisitionFunction:
    bound = qUpperConfidenceBound(problem.objective.model, beta=settings.kappa**2, sampler=_sampler(settings))
    return Adjusted(bound, problem.log_feasible)


@ACQUISITIONS.register("thompson")
def _thompson(problem: Problem, settings: Settings) -> AcquisitionFunction:
    return ThompsonDraw(problem, settings.seed)


@ACQUISITIONS.register("qlognehvi")
def _q_log_nehvi(problem: Problem, settings: Settings) -> AcquisitionFunction:
    m = len(problem.objectives)
    if m < 2 or not problem.told:
        raise ArchgenError(f"qlognehvi needs at least 2 objectives and some evaluations, got {m}, {len(problem.told)}")
    model = problem.model
    # BoTorch would run a C++ compiler here for minutes; its Python is quick enough and the same on every machine
    multi_objective_logei._load_attempted = True
    return multi_objective_logei.qLogNoisyExpectedHypervolumeImprovement(
        model=model,
        ref_point=torch.zeros(m).double(),
        X_baseline=problem.objectives[0].features(problem.told),
        objective=_Units(problem),
        constraints=problem.violations or None,
        sampler=_sampler(settings),
        prune_baseline=True,
        cache_root=isinstance(model, ModelListGP),
    )


class _Units(MCMultiOutputObjective):  # type: ignore[misc]
    """Samples of the objectives in the metrics' units, in which a hypervolume is one, from 0 below all to about 1.

    The acquisition function smooths by absolute amounts, so units are divided by the range of what was told. It has no
    gradient, and a list of candidates needs none.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        usual = np.stack([s.denormalise(np.array([WORST, -WORST])) for s in problem.objectives], 1)
        points = np.array(problem.feasible, dtype=float).reshape(-1, usual.shape[1])
        if not len(points) or not np.ptp(points, 0).all():  # no range of their own
            points = np.vstack([points, usual])
        self._objectives = problem.objectives
        low = corner_below(points)
        self._low = np.where(points.max(0) > low, low, low - 1)  # where all are equal the other directions decide
        self._range = points.max(0) - self._low

    def forward(self, samples: Tensor, X: Tensor | None = None) -> Tensor:
        """Of samples of the model's outputs, `... x m`."""
        columns = [s.denormalise(samples[..., i].detach().numpy()) for i, s in enumerate(self._objectives)]
        return torch.from_numpy((np.stack(columns, -1) - self._low) / self._range)


class Adjusted(AcquisitionFunction):  # type: ignore[misc]
    """An acquisition function plus another function of the new points.

    Args:
        base: An analytic one, which knows of no pending points, gives a batch of the best points.
        term: Points `... x q x d` to what is added, `...`.
    """

    def __init__(self, base: AcquisitionFunction, term: Callable[[Tensor], Tensor]) -> None:
        super().__init__(base.model)
        self.base, self._term = base, term
        self._pending: Tensor | None = None
        self._log = base._log

    @property
    def X_pending(self) -> Tensor | None:  # noqa: N802  BoTorch's name
        """Points that are chosen already."""
        return self._pending

    def set_X_pending(self, X_pending: Tensor | None = None) -> None:  # noqa: N802
        """Tell the base, where it listens."""
        self._pending = X_pending
        inner = self.base.base if isinstance(self.base, Adjusted) else self.base
        if not isinstance(inner, AnalyticAcquisitionFunction):
            self.base.set_X_pending(X_pending)

    def forward(self, X: Tensor) -> Tensor:
        """The sum at each of the points `... x q x d`."""
        total: Tensor = self.base(X) + self._term(X)
        return total


class ThompsonDraw(AcquisitionFunction):  # type: ignore[misc]
    """A joint draw of the objective at all points of one call; infeasible draws come last, nearest first.

    Each call draws from the same normal numbers, so draws of two calls are neither of one function nor independent:
    give it all candidates at once. That takes time that grows with the cube of their number. For each pending point
    the draw is a new one, so that a batch is one of independent draws.

    Args:
        problem: Of one objective.
        seed: Of the draws.
    """

    def __init__(self, problem: Problem, seed: int) -> None:
        super().__init__(problem.objective.model)
        self._problem, self._seed = problem, seed
        self.set_X_pending(None)

    def forward(self, X: Tensor) -> Tensor:
        """Draws at points `b x 1 x d`, `b`."""
        pending = 0 if self.X_pending is None else len(self.X_pending)
        surrogates = [self._problem.objective, *(c.surrogate for c in self._problem.constraints)]
        draws = []
        for i, surrogate in enumerate(surrogates):
            sampler = IIDNormalSampler(torch.Size([1]), seed=self._seed + 7919 * (pending * len(surrogates) + i))
            draws.append(sampler(surrogate.model.posterior(X[:, 0]))[0, :, 0])
        outputs = torch.stack(draws, -1)
        excess = torch.zeros_like(outputs[:, 0])
        for violation in self._problem.violations:
            excess = excess + violation(outputs).clamp(min=0.0)
        return torch.where(excess > 0, outputs[:, 0].min() - 1 - excess, outputs[:, 0])


def _sampler(settings: Settings) -> SobolQMCNormalSampler:
    return SobolQMCNormalSampler(torch.Size([SAMPLES]), seed=settings.seed)
