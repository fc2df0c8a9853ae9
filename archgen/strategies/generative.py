"""The generative strategy: acquisition to condition to guided sampling to a batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial

import numpy as np
import torch

from archgen.errors import ArchgenError
from archgen.generators import Generator, ImportanceGuidance
from archgen.graph import Architecture
from archgen.objectives import Objective, all_met
from archgen.predictors import PREDICTORS
from archgen.predictors.base import Floats
from archgen.spaces import SearchSpace
from archgen.strategies.base import STRATEGIES, Screen, SearchStrategy
from archgen.strategies.conditions import CONDITIONS, LogTilt
from archgen.study import Trial
from archgen.surrogates import ACQUISITIONS, Constraint, Cost, Problem, Surrogate, cooled, fit_log_cost, propose


@STRATEGIES.register("generative")
class Generative(SearchStrategy):
    r"""Bayesian optimisation whose inner optimiser is a generator instead of a list.

    Each `ask`:

    1. fits a Gaussian process to the objective, and one to each bounded metric, by ranks;
    2. proposes conditions "objective at least :math:`\tau_\kappa`": :math:`\tau_\kappa` is the largest
       :math:`\mu + \kappa \sigma` over fresh samples and the neighbours of the incumbents, for several values of
       :math:`\kappa` (`conditions.OPTIMISM`);
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
        surrogate: Of the objective and the bounds, a registered predictor that is a `Surrogate`.
        acquisition: What chooses the batch, a name in `surrogates.ACQUISITIONS` that takes one objective.
        condition: What the conditions are made of, a name in `conditions.CONDITIONS`: `candidates` as in step 2, or
            `gobi`, which adds similarity to BOSHNAS's optimum in the space of embeddings.
        budget_seconds: Of all evaluations; the expected improvement is then counted per second of evaluation, less and
            less so as the budget is used up (arXiv 2003.10870).
        space, objectives, seed, screen, key: As in `SearchStrategy`.

    Raises:
        UnknownName: No such surrogate, acquisition function or condition.
        ArchgenError: A predictor that is no surrogate, or a budget that is not positive.
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
        surrogate: str = "gp",
        acquisition: str = "qlogei",
        condition: str = "candidates",
        budget_seconds: float | None = None,
    ) -> None:
        super().__init__(space, objectives, seed=seed, screen=screen, key=key)
        kind = PREDICTORS[surrogate]
        if not issubclass(kind, Surrogate):
            raise ArchgenError(f"expected a predictor with a posterior (gp, boshnas), got '{surrogate}'")
        if budget_seconds is not None and budget_seconds <= 0:
            raise ArchgenError(f"expected a positive budget_seconds, got {budget_seconds}")
        self.generator, self.initial, self.pool, self.steps = generator, initial, pool, steps
        self.acquisition, self.budget_seconds = acquisition, budget_seconds
        _ = ACQUISITIONS[acquisition]
        self._tilts_of = CONDITIONS[condition]
        self._objective: Surrogate = kind(space, self.objective.metric)
        self._bounds = [Constraint(kind(space, wish.metric), wish) for wish in self.bounds]

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
        tilts = self._tilts_of(self._problem, candidates, noise)
        guided = [arch for tilt in tilts for arch in self._draw(self.pool, noise, tilt)]
        pool = self._new(candidates + guided)
        if len(pool) <= n:
            return self.fresh(n, lambda m: [*pool, *self._draw(m, noise)], rng)
        return propose(self._problem, pool, n, rng=rng, name=self.acquisition, cost=self._cost(told))

    def _fit(self, told: Sequence[Trial]) -> None:
        archs = [trial.arch for trial in told]

        def values(metric: str, sign: int) -> Floats:
            return np.array([sign * trial.values[metric] for trial in told])

        self._objective.fit(archs, values(self.objective.metric, self.objective.sign))
        for surrogate, wish in self._bounds:
            surrogate.fit(archs, values(wish.metric, 1))

    @property
    def _problem(self) -> Problem:
        feasible = [t for t in self.complete if all_met(self.bounds, t.values)]
        scores = [(self.objective.sign * t.values[self.objective.metric],) for t in feasible]
        return Problem([self._objective], self._bounds, scores)

    def _cost(self, told: Sequence[Trial]) -> Cost | None:
        """What an evaluation is predicted to cost, where a budget in seconds is given."""
        if self.budget_seconds is None:
            return None
        features = self._objective.features([trial.arch for trial in told])
        spent = [trial.cost_seconds for trial in self.trials]
        exponent = cooled(self.budget_seconds, sum(spent), sum(spent[: self.initial]))
        return Cost(fit_log_cost(features, [trial.cost_seconds for trial in told]), exponent)

    def _draw(self, n: int, noise: torch.Generator, tilt: LogTilt | None = None) -> list[Architecture]:
        """Samples of the generator; under a condition, the bounds and the screen where there is one."""
        tilts = [] if tilt is None else [ImportanceGuidance(self.space.decode, partial(self._screened, tilt=tilt))]
        projector = None if self.space.free else self.space.project
        batch = self.generator.sample(max(n, 1), guidance=tilts, projector=projector, steps=self.steps, generator=noise)
        return [arch for arch in self.space.decode(batch) if arch is not None]

    def _screened(self, archs: Sequence[Architecture], tilt: LogTilt) -> Floats:
        total = tilt(archs)
        for surrogate, wish in self._bounds:
            total = total + surrogate.log_probability(archs, wish)
        return np.where(self._screen(archs), total, total - 10.0)  # discouraged, not forbidden: it may lead somewhere

    def _new(self, pool: Sequence[Architecture]) -> list[Architecture]:
        unseen = {self._key(a): a for a in pool if self._key(a) not in self._seen}
        allowed = self._screen(list(unseen.values())) if unseen else []
        return [arch for arch, good in zip(unseen.values(), allowed, strict=True) if good]
