"""GBDT-NAS with pruning (Accuracy Prediction with Gradient Boosting Decision Trees, arXiv 2007.04785)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from archgen.errors import InvalidObjective, InvalidSpace
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.predictors import GradientBoosting
from archgen.predictors.choice_pruning import FEWEST, kept_values, prune
from archgen.spaces import RestrictedSpace, SearchSpace
from archgen.strategies.base import STRATEGIES, Screen, SearchStrategy
from archgen.study import Trial

RESAMPLES = 10
"""Of the labels, to tell what is reliably bad: fewer than `archgen prune` takes, for a round should be quick."""


@STRATEGIES.register("successive")
class Successive(SearchStrategy):
    """Rounds of boosted trees, each fitted to all before it, that rank samples of an ever smaller space.

    GBDT-NAS with its pruned variant (GBDT-NAS-3S in the published code): after `initial` random architectures, each
    round fits `GradientBoosting` to all labels, prunes the space by the SHAP values of its choices, draws `pool`
    architectures from what is left, and asks for the `top` that the trees like best.

    Against the paper: trees and pruning are those of `archgen.predictors` (path features, normal scores, an ensemble;
    only what is reliably bad is dropped, of the first order); what to prune is decided anew in each round by all
    labels, so that a value can come back. Bounds are predicted too, and their predicted violation comes first.

    Args:
        initial: Random architectures of the first round, N in the paper.
        top: Architectures of each later round, K.
        pool: Samples that are ranked, M.
        keep: Least share of each variable's values that pruning leaves, in (0, 1]; 1 prunes nothing.
        space, objectives, seed, screen, key: As in `SearchStrategy`.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int = 0,
        screen: Screen | None = None,
        key: Callable[[Architecture], Hashable] | None = None,
        initial: int = 20,
        top: int = 10,
        pool: int = 1000,
        keep: float = 0.5,
    ) -> None:
        super().__init__(space, objectives, seed=seed, screen=screen, key=key)
        if initial < 2 or top < 1 or pool < top or not 0 < keep <= 1:
            raise InvalidObjective(
                f"expected initial >= 2, 1 <= top <= pool and keep in (0, 1], got {initial}, {top}, {pool} and {keep:g}"
            )
        self.initial, self.top, self.pool, self.keep = initial, top, pool, keep
        self._ranking: tuple[int, list[Architecture]] = (0, [])

    def ask(self, n: int) -> list[Architecture]:
        rng = self.rng()
        count = len(self.trials)
        if count < self.initial:
            return self.fresh(min(n, self.initial - count), lambda m: self.space.sample(m, rng), rng)
        into = (count - self.initial) % self.top
        ranking = self._round(count - into)
        picks = list(itertools.islice(self.unseen(ranking), min(n, self.top - into)))
        return self.fresh(min(n, self.top - into), lambda m: picks, rng)

    def _round(self, start: int) -> list[Architecture]:
        """The ranking of the round that began when `start` trials were told; kept, for a round has many asks."""
        if self._ranking[0] != start:
            told = [t for t in self.trials[:start] if np.isfinite(self.violation(t))]
            rng = np.random.default_rng([self.seed, start, 1])
            self._ranking = (start, self._rank(told, rng) if len(told) > 1 else [])
        return self._ranking[1]

    def _rank(self, told: Sequence[Trial], rng: np.random.Generator) -> list[Architecture]:
        archs = [trial.arch for trial in told]
        candidates = list(dict.fromkeys(self._pruned(told).sample(self.pool, rng)))
        predicted = {}
        for metric in dict.fromkeys(wish.metric for wish in (self.objective, *self.bounds)):
            labels = np.array([trial.values[metric] for trial in told])
            trees = GradientBoosting(self.space, metric, seed=self.seed).fit(archs, labels)
            predicted[metric] = trees.predict(candidates).mean
        return self.ranked(candidates, predicted)

    def _pruned(self, told: Sequence[Trial]) -> SearchSpace:
        """The space without the choices that the objective's labels show to be worse."""
        y = self.objective.sign * np.array([trial.values[self.objective.metric] for trial in told])
        if self.keep == 1 or len(told) < FEWEST or np.ptp(y) == 0:
            return self.space
        kept = kept_values(
            prune(self.space, [t.arch for t in told], y, keep=self.keep, seed=self.seed, resamples=RESAMPLES)
        )
        try:
            return RestrictedSpace(self.space, kept) if kept else self.space
        except InvalidSpace:  # no two architectures would be left
            return self.space
