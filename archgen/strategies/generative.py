"""The generative strategy: acquisition to condition to guided sampling to a batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial

import numpy as np
import torch

from archgen.errors import ArchgenError, InvalidObjective
from archgen.generators import Generator, Guidance, SideBySide
from archgen.generators.guidance import LogTilt
from archgen.graph import Architecture
from archgen.objectives import Objective, all_met
from archgen.pareto import crowding_distance
from archgen.predictors import PREDICTORS
from archgen.predictors.base import Floats
from archgen.predictors.free_labels import FreeLabels
from archgen.spaces import SearchSpace
from archgen.strategies.base import LISTED, STRATEGIES, Screen, SearchStrategy
from archgen.strategies.conditions import CONDITIONS
from archgen.strategies.improvement import log_gain
from archgen.strategies.start import first
from archgen.study import Trial
from archgen.surrogates import (
    ACQUISITIONS,
    Constraint,
    Cost,
    GaussianProcess,
    Problem,
    Refits,
    Surrogate,
    cooled,
    fit_log_cost,
    propose,
)

INCUMBENTS = 3
"""Best architectures whose neighbours are candidates."""
IMPROVEMENTS = ("logei", "qlogei", "qlognehvi")
"""Acquisition functions that a cost divides."""
HEAVIEST = 64
"""Of the architectures weighed under a condition, so many of the largest weight become candidates."""
CLIMBERS, CLIMBS = 8, 8
"""Best candidates whose neighbours become candidates too, and how often at most."""
SHORT = 64
"""Candidates, those of the largest gain, that a batch is chosen from by samples of the joint posterior."""
SAMPLED = 16
"""Largest batch that is chosen so: its time grows with the square of it, and takes minutes for 64."""
UPDATES = 32
"""Times at most that a larger batch is chosen given what was chosen before."""


@STRATEGIES.register("generative")
class Generative(SearchStrategy):
    r"""Bayesian optimisation whose inner optimiser is a generator instead of a list.

    Each `ask`:

    1. fits a Gaussian process to each objective and to each bounded metric, by ranks; hyperparameters anew only
       when there are 15 % more evaluations;
    2. proposes conditions "objective at least :math:`\tau_\kappa`": :math:`\tau_\kappa` is the largest
       :math:`\mu + \kappa \sigma` over fresh samples and the neighbours of the incumbents, for several values of
       :math:`\kappa`; with several objectives a trade-off that would add much hypervolume (`conditions`);
    3. samples the generator under each condition and the bounds: by Bayes the architectures that meet a condition
       are distributed as :math:`p(x) P(y(x) \ge \tau \mid D) \prod_c P(c(x) \mid D)`, which is exactly a guidance
       weight; the best that were weighed on the way are candidates too;
    4. chooses among the candidates: one by expected improvement in closed form (of the hypervolume, with several
       objectives), a batch out of the best of these by BoTorch's qLogEI or qLogNEHVI (sequential greedy: pending
       points push the next one away, so the batch is diverse), one of more than `SAMPLED` by the improvement given that
       the process believes its own mean of those before (GP-BUCB's way, arXiv 1206.6402). With several objectives,
       whose improvement has many narrow peaks, and in spaces too large to be listed it climbs from the best candidates
       to better neighbours first. With one objective in a small space that costs evaluations (on NAS-Bench-201 the
       median to the best rises from 19.5 to 24.5, 14 seeds): what the generator finds likely is the better guess while
       the surrogate knows little. In Once-for-All's space it finds within 300 evaluations what is .15 points better (6
       seeds).

    The first architectures are unguided samples; with free labels the best of groups of them (`start`).

    Args:
        generator: Trained on the space.
        free_labels: Features of the surrogates, and what the first architectures are chosen by; none without. No
            accuracy is behind them.
        initial: Architectures before the first fit.
        pool: Samples for each condition.
        steps: Solver steps of the guided sampling.
        surrogate: Of the objective and the bounds, a registered predictor that is a `Surrogate`.
        acquisition: What chooses the batch, a name in `surrogates.ACQUISITIONS`; as in step 4 by default.
        condition: What the conditions are made of, a name in `conditions.CONDITIONS`: `candidates` as in step 2, or
            `gobi`, which adds similarity to BOSHNAS's optimum in the space of embeddings.
        budget_seconds: Of all evaluations; the expected improvement is then counted per second of evaluation, less and
            less so as the budget is used up (arXiv 2003.10870).
        space, objectives, seed, screen, key: As in `SearchStrategy`.

    Raises:
        UnknownName: No such surrogate, acquisition function or condition.
        ArchgenError: A predictor that is no surrogate, or a budget that is not positive.
        InvalidObjective: Several directions for `gobi`, an acquisition function for another number of directions, or
            one that a budget in seconds does not go with.
    """

    several_directions = True

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        generator: Generator,
        seed: int = 0,
        screen: Screen | None = None,
        key: Callable[[Architecture], Hashable] | None = None,
        free_labels: FreeLabels | None = None,
        initial: int = 5,
        pool: int = 16,
        steps: int = 10,
        surrogate: str = "gp",
        acquisition: str | None = None,
        condition: str = "candidates",
        budget_seconds: float | None = None,
    ) -> None:
        super().__init__(space, objectives, seed=seed, screen=screen, key=key)
        kind = PREDICTORS[surrogate]
        if not issubclass(kind, Surrogate):
            raise ArchgenError(f"expected a predictor with a posterior (gp, boshnas), got '{surrogate}'")
        if budget_seconds is not None and budget_seconds <= 0:
            raise ArchgenError(f"expected a positive budget_seconds, got {budget_seconds}")
        if min(initial, pool, steps) < 1:
            raise ArchgenError(f"expected initial, pool and steps of at least 1, got {initial}, {pool} and {steps}")
        if acquisition is not None and (acquisition == "qlognehvi") != (len(self.directions) > 1):
            raise InvalidObjective(
                f"acquisition '{acquisition}' takes {'several' if acquisition == 'qlognehvi' else 'one'} of the "
                f"directions, got {self.directions}"
            )
        if budget_seconds is not None and acquisition not in (None, *IMPROVEMENTS):
            raise InvalidObjective(f"a budget in seconds divides {', '.join(IMPROVEMENTS)}, got '{acquisition}'")
        if condition == "gobi" and len(self.directions) > 1:
            raise InvalidObjective(f"condition 'gobi' takes one direction, got {self.directions}; use 'candidates'")
        _ = ACQUISITIONS[acquisition or "logei"]
        self.generator, self.initial, self.pool, self.steps = generator, initial, pool, steps
        self.acquisition, self.budget_seconds = acquisition, budget_seconds
        self.free_labels = free_labels
        self._tilts_of = CONDITIONS[condition]
        surrogates = kind.for_wishes(space, [*self.directions, *self.bounds], free_labels)
        self._objectives: Sequence[Surrogate] = surrogates[: len(self.directions)]
        self._limits = [Constraint(*pair) for pair in zip(surrogates[len(self.directions) :], self.bounds, strict=True)]
        self._refits = Refits()

    def ask(self, n: int) -> list[Architecture]:
        rng = self.rng()
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        told = self.usable
        if len(told) < self.initial:
            want = self.opening(n, self.initial)
            return self.fresh(
                want,
                lambda m: first(
                    want if self.free_labels else m, lambda k: list(self.unseen(self._draw(k, noise))), self.free_labels
                ),
                rng,
            )
        self._fit(told)
        near = [arch for best in self._incumbents(told) for arch in self.space.neighbours(best)]
        candidates = self._draw(self.pool, noise) + near
        candidates += self._guided(self._tilts_of(self._problem, candidates, noise), noise)
        pool = list(self.unseen(candidates))
        if len(self.directions) > 1 or self.space.size > LISTED:
            pool = self._climbed(pool, told)
        if len(pool) <= n:
            return self.fresh(n, lambda m: [*pool, *self._draw(m, noise)], rng)
        if self.acquisition is None and self.budget_seconds is None:
            ranked = [pool[i] for i in np.argsort(-self._gain(pool, told), kind="stable").tolist()]
            if n == 1:
                return ranked[:1]
            believers = [each for each in self._objectives if isinstance(each, GaussianProcess)]
            if n > SAMPLED and len(believers) == len(self._objectives):
                return self._believed(ranked[: max(SHORT, 4 * n)], told, believers, n)
            pool = ranked[: max(SHORT, 4 * n)]
        name = self.acquisition or ("qlogei" if len(self.directions) == 1 else "qlognehvi")
        return propose(self._problem, pool, n, rng=rng, name=name, cost=self._cost(told))

    def _climbed(self, pool: list[Architecture], told: Sequence[Trial]) -> list[Architecture]:
        """The candidates, and neighbours of those of the largest gain, until none of these is any better."""
        gains: dict[Architecture, float] = {}
        expanded: set[Architecture] = set()
        for _ in range(CLIMBS):
            if pool:
                gains.update(zip(pool, self._gain(pool, told).tolist(), strict=True))
            best = [a for a in sorted(gains, key=gains.__getitem__, reverse=True)[:CLIMBERS] if a not in expanded]
            if not best:
                break
            expanded.update(best)
            near = dict.fromkeys(other for arch in best for other in self.space.neighbours(arch))
            pool = [arch for arch in self.unseen(near) if arch not in gains]
        return list(self.unseen(gains))  # neighbours may compute what a candidate does

    def _believed(
        self, ranked: Sequence[Architecture], told: Sequence[Trial], believers: Sequence[GaussianProcess], n: int
    ) -> list[Architecture]:
        """A batch of `n`: the first of the ranking, then the best of the rest given those before, a few at a time."""
        few = -(-n // UPDATES)
        picks, rest = list(ranked[:few]), list(ranked[few:])
        while len(picks) < n:
            gain = self._gain(rest, told, [each.believing(picks) for each in believers], picks)
            best = np.argsort(-gain, kind="stable")[: min(few, n - len(picks))].tolist()
            picks += [rest[i] for i in best]
            rest = [arch for i, arch in enumerate(rest) if i not in best]
        return picks

    def _gain(
        self,
        archs: Sequence[Architecture],
        told: Sequence[Trial],
        objectives: Sequence[Surrogate] | None = None,
        pending: Sequence[Architecture] = (),
    ) -> Floats:
        """The expected improvement, in closed form, and the probability to meet the bounds; logarithms, `b`.

        Args:
            archs: `b` candidates.
            told: `t` trials.
            objectives: Surrogates of the `m` directions in place of the strategy's, which believe `pending`.
            pending: Architectures that count as told, with their predicted means and within the bounds.
        """
        met, values = [all_met(self.bounds, trial.values) for trial in told], self.signed_values(told)
        if pending:
            means = [each.denormalise(each.predict_normalised(pending)[0]) for each in self._objectives]
            values, met = np.vstack([values, np.stack(means, 1)]), [*met, *([True] * len(pending))]
        total = log_gain(objectives or self._objectives, archs, values, met)
        for surrogate, wish in self._limits:
            total = total + surrogate.log_probability(archs, wish)
        return total

    def _incumbents(self, told: Sequence[Trial]) -> list[Architecture]:
        """The best, as many for each direction; of a front those first that have no near neighbours on it."""
        values, ranking = self.signed_values(told), []
        for front in self.fronts(told):
            ranking += [front[i] for i in np.argsort(-crowding_distance(values[front]), kind="stable")]
        return [told[i].arch for i in ranking[: INCUMBENTS * len(self.directions)]]

    def _fit(self, told: Sequence[Trial]) -> None:
        values = [*zip(self._objectives, self.signed_values(told).T, strict=True)]
        for surrogate, wish in self._limits:
            values.append((surrogate, np.array([trial.values[wish.metric] for trial in told])))
        self._refits.learn([trial.arch for trial in told], values)

    @property
    def _problem(self) -> Problem:
        told = self.usable
        feasible = [trial for trial in told if all_met(self.bounds, trial.values)]
        values = self.signed_values(feasible).tolist()
        return Problem(self._objectives, self._limits, values, [trial.arch for trial in told])

    def _cost(self, told: Sequence[Trial]) -> Cost | None:
        """What an evaluation is predicted to cost, where a budget in seconds is given."""
        if self.budget_seconds is None:
            return None
        timed = [trial for trial in told if trial.cost_seconds > 0]  # what is pending has cost nothing yet
        features = self._objectives[0].features([trial.arch for trial in timed])
        spent = [trial.cost_seconds for trial in self.trials]
        exponent = cooled(self.budget_seconds, sum(spent), sum(spent[: self.initial]))
        return Cost(fit_log_cost(features, [trial.cost_seconds for trial in timed]), exponent)

    def _draw(self, n: int, noise: torch.Generator, guidance: Sequence[Guidance] = ()) -> list[Architecture]:
        projector = None if self.space.free else self.space.project
        batch = self.generator.sample(
            max(n, 1), guidance=guidance, projector=projector, steps=self.steps, generator=noise
        )
        return [arch for arch in self.space.decode(batch) if arch is not None]

    def _guided(self, tilts: Sequence[LogTilt], noise: torch.Generator) -> list[Architecture]:
        """Samples under each condition, the bounds and the screen; and the best that were weighed on the way there."""
        guidance = SideBySide(self.space.decode, [partial(self._screened, tilt=tilt) for tilt in tilts])
        return self._draw(self.pool * len(tilts), noise, [guidance]) + guidance.heaviest(HEAVIEST)

    def _screened(self, archs: Sequence[Architecture], tilt: LogTilt) -> Floats:
        total = tilt(archs)
        for surrogate, wish in self._limits:
            total = total + surrogate.log_probability(archs, wish)
        return np.where(self._screen(archs), total, total - 10.0)  # discouraged, not forbidden: it may lead somewhere
