"""The generative strategy: acquisition to condition to guided sampling to a batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from functools import partial

import numpy as np
import torch
from botorch.acquisition.logei import qLogExpectedImprovement
from botorch.acquisition.objective import GenericMCObjective
from botorch.models import ModelListGP
from botorch.optim import optimize_acqf_discrete
from botorch.sampling import SobolQMCNormalSampler
from linear_operator.utils.warnings import NumericalWarning
from scipy.stats import norm

from archgen.generators import Generator, ImportanceGuidance
from archgen.graph import Architecture
from archgen.objectives import Objective, all_met
from archgen.predictors.base import Floats
from archgen.spaces import SearchSpace
from archgen.strategies.base import STRATEGIES, Screen, SearchStrategy
from archgen.study import Trial
from archgen.surrogates import GaussianProcess

OPTIMISM = (0.0, 1.0, 2.0)
"""Standard deviations above the surrogate's mean at which the conditions are set, from cautious to curious."""


@STRATEGIES.register("generative")
class Generative(SearchStrategy):
    r"""Bayesian optimisation whose inner optimiser is a generator instead of a list.

    Each `ask`:

    1. fits a Gaussian process to the objective, and one to each bounded metric, by ranks;
    2. proposes conditions "objective at least :math:`\tau_\kappa`": :math:`\tau_\kappa` is the largest
       :math:`\mu + \kappa \sigma` over fresh samples and the neighbours of the incumbents, for `OPTIMISM` values
       of :math:`\kappa`;
    3. samples the generator under each condition and the bounds: by Bayes the architectures that meet a condition
       are distributed as :math:`p(x) P(y(x) \ge \tau \mid D) \prod_c P(c(x) \mid D)`, which is exactly a guidance
       weight;
    4. chooses the batch among these samples by constrained qLogEI (BoTorch, sequential greedy: pending points
       push the next one away, so the batch is diverse).

    Args:
        generator: Trained on the space.
        initial: Unguided samples before the first fit.
        pool: Samples for each condition.
        steps: Solver steps of the guided sampling.
        space, objectives, seed, screen, key: As in `SearchStrategy`.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        generator: Generator,
        seed: int = 0,
        screen: Screen | None = None,
        key: Callable[[Architecture], Hashable] | None = None,
        initial: int = 10,
        pool: int = 48,
        steps: int = 8,
    ) -> None:
        super().__init__(space, objectives, seed=seed, screen=screen, key=key)
        self.generator, self.initial, self.pool, self.steps = generator, initial, pool, steps
        self._objective = GaussianProcess(space, self.objective.metric)
        self._bounds = [GaussianProcess(space, wish.metric) for wish in self.bounds]

    def ask(self, n: int) -> list[Architecture]:
        rng = self.rng()
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        told = [t for t in self.complete if all(np.isfinite(t.values.get(w.metric, np.nan)) for w in self.bounds)]
        if len(told) < self.initial:
            want = min(n, max(self.initial - len(self.trials), 1))
            return self.fresh(want, lambda m: self._draw(m, noise), rng)
        self._fit(told)
        best = sorted(told, key=self.merit, reverse=True)[:3]
        near = [arch for trial in best for arch in self.space.neighbours(trial.arch)]
        candidates = self._draw(self.pool, noise) + near
        guided = [arch for tau in self._conditions(candidates) for arch in self._draw(self.pool, noise, tau)]
        pool = self._new(candidates + guided)
        if len(pool) <= n:
            return self.fresh(n, lambda m: [*pool, *self._draw(m, noise)], rng)
        return self._choose(pool, n, rng)

    def _fit(self, told: Sequence[Trial]) -> None:
        archs = [trial.arch for trial in told]

        def values(metric: str, sign: int) -> Floats:
            return np.array([sign * trial.values[metric] for trial in told])

        self._objective.fit(archs, values(self.objective.metric, self.objective.sign))
        for surrogate, wish in zip(self._bounds, self.bounds, strict=True):
            surrogate.fit(archs, values(wish.metric, 1))

    def _draw(self, n: int, noise: torch.Generator, tau: float | None = None) -> list[Architecture]:
        """Samples of the generator; under "objective at least `tau`" and the bounds when there is a condition."""
        tilts = [] if tau is None else [ImportanceGuidance(self.space.decode, partial(self._tilt, tau=tau))]
        projector = None if self.space.free else self.space.project
        batch = self.generator.sample(max(n, 1), guidance=tilts, projector=projector, steps=self.steps, generator=noise)
        return [arch for arch in self.space.decode(batch) if arch is not None]

    def _tilt(self, archs: Sequence[Architecture], tau: float) -> Floats:
        mean, std = self._objective.predict_normalised(archs)
        total: Floats = norm.logcdf((mean - tau) / std)
        for surrogate, wish in zip(self._bounds, self.bounds, strict=True):
            total = total + surrogate.log_probability(archs, wish)
        return np.where(self._screen(archs), total, total - 10.0)  # discouraged, not forbidden: it may lead somewhere

    def _conditions(self, candidates: Sequence[Architecture]) -> list[float]:
        mean, std = self._objective.predict_normalised(candidates)
        weight = np.zeros(len(candidates))
        for surrogate, wish in zip(self._bounds, self.bounds, strict=True):
            weight = weight + surrogate.log_probability(candidates, wish)
        likely = weight >= min(np.log(0.5), weight.max())
        return [float((mean + kappa * std)[likely].max()) for kappa in OPTIMISM]

    def _new(self, pool: Sequence[Architecture]) -> list[Architecture]:
        unseen = {self._key(a): a for a in pool if self._key(a) not in self._seen}
        allowed = self._screen(list(unseen.values())) if unseen else []
        return [arch for arch, good in zip(unseen.values(), allowed, strict=True) if good]

    def _choose(self, pool: Sequence[Architecture], n: int, rng: np.random.Generator) -> list[Architecture]:
        feasible = [t for t in self.complete if all_met(self.bounds, t.values)]
        scores = self._objective.normalise([self.objective.sign * t.values[self.objective.metric] for t in feasible])
        constraints = [
            _violation(s, wish, i) for i, (s, wish) in enumerate(zip(self._bounds, self.bounds, strict=True), 1)
        ]
        models = [self._objective.model, *(surrogate.model for surrogate in self._bounds)]
        acquisition = qLogExpectedImprovement(
            model=ModelListGP(*models) if self._bounds else models[0],
            best_f=max(scores, default=-3.0),  # nothing feasible yet: any feasible point improves
            objective=GenericMCObjective(lambda y, X=None: y[..., 0]),
            constraints=constraints or None,
            sampler=SobolQMCNormalSampler(torch.Size([128]), seed=int(rng.integers(2**31))),
        )
        choices = self._objective.features(pool)
        with torch.no_grad(), warnings.catch_warnings():
            # candidates that compute the same have a singular joint covariance; the jitter that is announced mends it
            warnings.simplefilter("ignore", NumericalWarning)
            chosen, _ = optimize_acqf_discrete(acquisition, q=n, choices=choices, max_batch_size=512, unique=True)
        archs: list[Architecture] = []
        for x in chosen:  # equal features may belong to several architectures: take one that is not taken yet
            matches = (choices == x).all(1).nonzero()[:, 0].tolist()
            archs.append(next((pool[i] for i in matches if pool[i] not in archs), pool[matches[0]]))
        return list(dict.fromkeys(archs))


def _violation(surrogate: GaussianProcess, wish: Objective, output: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """BoTorch's form of a bound: negative where met, in the normalised scale of the surrogate."""
    assert wish.bound is not None
    (bound,) = surrogate.normalise([wish.bound])
    sign = wish.sign
    return lambda y: sign * (bound - y[..., output])
