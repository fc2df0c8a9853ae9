"""Bayesian optimisation over a list: a Gaussian process, an acquisition function, and nothing that generates."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from archgen.errors import InvalidObjective
from archgen.graph import Architecture
from archgen.objectives import Objective, all_met
from archgen.pareto import Floats
from archgen.predictors.distinct import distinct
from archgen.predictors.free_labels import FreeLabels
from archgen.spaces import SearchSpace
from archgen.strategies.base import LISTED, STRATEGIES, Screen, SearchStrategy
from archgen.strategies.improvement import log_gain
from archgen.strategies.start import first
from archgen.study import Trial
from archgen.surrogates import GaussianProcess, Refits

Acquisition = Literal["ucb", "logei"]
INCUMBENTS = 5
"""Best trials whose neighbours are candidates in a space that is not listed."""
SHORT = 256
"""Candidates, the best by the first acquisition, that the later places of a batch are chosen from."""


@STRATEGIES.register("bayes")
class Bayes(SearchStrategy):
    r"""The plain control of every model-based strategy: all candidates are ranked, the best ones are asked for.

    A Gaussian process (`archgen.surrogates.GaussianProcess`) for each metric, by ranks; hyperparameters are fitted anew
    when there are 15 % more evaluations. Candidates are all architectures of a space of at most 20,000, else random
    ones and the neighbours of the best.

    One direction: the upper confidence bound :math:`\mu + \kappa \sigma` (Srinivas et al., arXiv 0912.3995) or the
    logarithm of expected improvement (arXiv 2310.20708). Several: expected hypervolume improvement, in closed form,
    over the front of what was told (arXiv 1904.12672), in the metrics' units (`improvement`).

    Bounds are independent of the value: improvements are multiplied by the probability to meet them (Gardner et al.,
    "Bayesian optimization with inequality constraints", 2014); an upper confidence bound counts where they are met as
    likely as not, and below all of these the likelier to meet them is better.

    A batch is chosen one by one, the earlier ones told as what the process believes of them: its mean stays and its
    uncertainty shrinks (GP-BUCB, arXiv 1206.6402). No acquisition can grow by that, so the later places are looked for
    among the best candidates of the first.

    Args:
        free_labels: Features of the surrogates, and what the first architectures are chosen by, as in `Generative`;
            none by default.
        acquisition: `ucb` or `logei`, for one direction.
        kappa: :math:`\kappa`, at least 0; of `ucb`.
        initial: Architectures before the first fit, at least 2.
        pool: Random candidates where the space is not listed.
        space, objectives, seed, screen, key: As in `SearchStrategy`.
    """

    several_directions = True

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int = 0,
        screen: Screen | None = None,
        key: Callable[[Architecture], Hashable] | None = None,
        free_labels: FreeLabels | None = None,
        acquisition: Acquisition = "ucb",
        kappa: float = 0.5,
        initial: int = 10,
        pool: int = 1000,
    ) -> None:
        super().__init__(space, objectives, seed=seed, screen=screen, key=key)
        if acquisition not in get_args(Acquisition):
            raise InvalidObjective(f"expected acquisition ucb or logei, got '{acquisition}'")
        if kappa < 0 or initial < 2 or pool < 1:
            raise InvalidObjective(
                f"expected kappa >= 0, initial >= 2 and pool >= 1, got {kappa:g}, {initial} and {pool}"
            )
        self.acquisition: Acquisition = acquisition
        self.kappa, self.initial, self.pool = kappa, initial, pool
        self.free_labels = free_labels
        surrogates = GaussianProcess.for_wishes(space, [*self.directions, *self.bounds], free_labels)
        self._values, self._limits = surrogates[: len(self.directions)], surrogates[len(self.directions) :]
        self._refits = Refits()
        self._listed: tuple[list[Architecture], NDArray[np.int64]] | None = None

    def ask(self, n: int) -> list[Architecture]:
        rng = self.rng()
        told = self.usable
        if len(told) < self.initial:
            want = self.opening(n, self.initial)
            return self.fresh(
                want,
                lambda m: first(
                    want if self.free_labels else m,
                    lambda k: list(self.unseen(self.space.sample(k, rng))),
                    self.free_labels,
                ),
                rng,
            )
        archs, values = [trial.arch for trial in told], self.signed_values(told)
        limits = [np.array([trial.values[wish.metric] for trial in told]) for wish in self.bounds]
        surrogates = [*self._values, *self._limits]
        self._refits.learn(archs, list(zip(surrogates, [*values.T, *limits], strict=True)))
        picks = self._batch(*self._candidates(told, rng), values, [all_met(self.bounds, t.values) for t in told], n)
        return self.fresh(n, lambda m: picks, rng)

    def _candidates(
        self, told: Sequence[Trial], rng: np.random.Generator
    ) -> tuple[list[Architecture], NDArray[np.int64]]:
        """Architectures, and for each the position of the first with equal features: the same belief serves all."""
        if self.space.size <= LISTED:
            if self._listed is None:
                self._listed = self._with_twins(self.space.enumerate())
            return self._listed
        best = [told[i] for i in itertools.chain.from_iterable(self.fronts(told))][:INCUMBENTS]
        near = [arch for trial in best for arch in self.space.neighbours(trial.arch)]
        return self._with_twins(list(dict.fromkeys(near + self.space.sample(self.pool, rng))))

    def _with_twins(self, archs: list[Architecture]) -> tuple[list[Architecture], NDArray[np.int64]]:
        which = distinct(self._values[0].features(archs).numpy())[1]
        return archs, np.unique(which, return_index=True)[1][which]

    def _batch(
        self,
        candidates: Sequence[Architecture],
        twins: NDArray[np.int64],
        told: Floats,
        met: Sequence[bool],
        n: int,
    ) -> list[Architecture]:
        """The best new candidate, then the best of the short list given those before it.

        Args:
            candidates: `b` architectures.
            twins: For each the position of the first with equal features, `b`.
            told: Values that were told, `t x m`, larger is better.
            met: Whether each of the told meets every bound, `t`.
            n: How many.
        """
        rows, which = np.unique(twins, return_inverse=True)
        gain = self._gain([candidates[i] for i in rows.tolist()], [], told, met)[which]
        ranking = self.unseen(candidates[i] for i in np.argsort(-gain, kind="stable").tolist())
        short = list(itertools.islice(ranking, 1 if n == 1 else max(SHORT, n)))
        picks = short[:1]
        while len(picks) < min(n, len(short)):
            rest = [arch for arch in short if arch not in picks]
            picks.append(rest[int(np.argmax(self._gain(rest, picks, told, met)))])
        return picks

    def _gain(
        self, archs: Sequence[Architecture], pending: Sequence[Architecture], told: Floats, met: Sequence[bool]
    ) -> Floats:
        """The acquisition of each architecture, larger is better, while others are pending."""
        values = [surrogate.believing(pending) if pending else surrogate for surrogate in self._values]
        likely = np.zeros(len(archs))
        for surrogate, wish in zip(self._limits, self.bounds, strict=True):
            likely = likely + surrogate.log_probability(archs, wish)
        if len(self.directions) > 1 or self.acquisition == "logei":
            if pending:
                means = [s.denormalise(s.predict_normalised(pending)[0]) for s in self._values]
                told, met = np.vstack([told, np.stack(means, 1)]), [*met, *([True] * len(pending))]
            return log_gain(values, archs, told, met) + likely
        mean, std = values[0].predict_normalised(archs)
        bound = mean + self.kappa * std
        return np.where(likely >= np.log(0.5), bound, bound.min() + likely)
