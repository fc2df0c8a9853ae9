"""BOSHNAS: Bayesian optimisation by second-order gradients on a heteroscedastic surrogate (arXiv 2205.11656)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cached_property
from itertools import chain, repeat

import numpy as np
import torch
from torch import Tensor

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.predictors.base import Floats
from archgen.spaces import SearchSpace
from archgen.strategies.base import LISTABLE, STRATEGIES, Screen, SearchStrategy
from archgen.study import Trial
from archgen.surrogates import Boshnas, Constraint, Problem, Refits, Surrogate, UncertaintyBound, ascend

_Candidates = tuple[list[Architecture], list[Hashable], Tensor]
"""Architectures, their keys, and their features."""


@STRATEGIES.register("boshnas")
class BoshnasSearch(SearchStrategy):
    r"""The loop of BOSHNAS (FlexiBERT, arXiv 2205.11656) over a list of architectures, after the published code.

    After some random architectures, each next one is, by a draw,

    - with probability :math:`1 - \alpha - \beta` an optimum: the bound :math:`\mu + k_1 \sigma + k_2 \xi` of the
      surrogate is ascended in the space of embeddings from several random candidates (GOBI: AdaHessian on the input),
      and the candidate nearest to the best end is taken, of those that are predicted to meet the bounds;
    - with probability :math:`\alpha` an uncertain one: of all candidates that with the largest
      :math:`k_1 \sigma + k_2 \xi`;
    - with probability :math:`\beta` a random one, for diversity.

    Against the paper: an architecture is never evaluated twice, so the candidate is the nearest *new* one; bounds add
    their log-probability to what is ascended, each with a surrogate of its own; weights are not transferred between
    neighbours, which is the evaluator's business. Candidates are all architectures of a space of up to 100,000, else a
    random pool, drawn anew each time.

    Args:
        initial: Random architectures before the first fit.
        alpha: Probability of uncertainty sampling.
        beta: Probability of diversity sampling; 0.1 each in the paper's code.
        aleatoric, epistemic: :math:`k_1` and :math:`k_2`.
        embedding: What the surrogate sees; `distances` is the paper's (`surrogates.EMBEDDINGS`).
        heteroscedastic: Whether the surrogate has the natural-parameter network.
        second_order: Whether the ascent uses AdaHessian; else Adam.
        restarts: Starts of the ascent.
        ascent: Steps of it, at most.
        pool: Candidates in a space that is too large to list.
        steps: Of the surrogate's training, at most.
        space, objectives, seed, screen, key: As in `SearchStrategy`.

    Raises:
        ArchgenError: `alpha` or `beta` no probability, or a number of anything below 1.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int = 0,
        screen: Screen | None = None,
        key: Callable[[Architecture], Hashable] | None = None,
        initial: int = 10,
        alpha: float = 0.1,
        beta: float = 0.1,
        aleatoric: float = 0.5,
        epistemic: float = 0.5,
        embedding: str = "paths",
        heteroscedastic: bool = True,
        second_order: bool = True,
        restarts: int = 10,
        ascent: int = 100,
        pool: int = 2000,
        steps: int = 200,
    ) -> None:
        super().__init__(space, objectives, seed=seed, screen=screen, key=key)
        if alpha < 0 or beta < 0 or alpha + beta > 1:
            raise ArchgenError(f"expected alpha >= 0, beta >= 0 and alpha + beta <= 1, got {alpha} and {beta}")
        if min(initial, restarts, ascent, pool) < 1:
            raise ArchgenError(
                "expected initial, restarts, ascent and pool of at least 1, "
                f"got {initial}, {restarts}, {ascent}, {pool}"
            )
        self.initial, self.alpha, self.beta, self.restarts, self.pool = initial, alpha, beta, restarts, pool
        self.aleatoric, self.epistemic, self.second_order = aleatoric, epistemic, second_order
        self.ascent = ascent

        def surrogate(metric: str) -> Boshnas:
            return Boshnas(space, metric, embedding=embedding, heteroscedastic=heteroscedastic, steps=steps, seed=seed)

        self._refits = Refits()
        self._objective = surrogate(self.objective.metric)
        self._bounds = [Constraint(surrogate(wish.metric), wish) for wish in self.bounds]

    def ask(self, n: int) -> list[Architecture]:
        rng = self.rng()
        told = self.usable
        if len(told) < self.initial:
            return self.fresh(n, lambda m: self.space.sample(m, rng), rng)
        self._fit(told)
        candidates, features = self._candidates(rng)
        picks = self._picks(n, candidates, features, rng) if candidates else []
        return self.fresh(n, lambda m: picks, rng)

    def _fit(self, told: Sequence[Trial]) -> None:
        archs, sign = [trial.arch for trial in told], self.objective.sign
        values: list[tuple[Surrogate, Floats]] = [
            (self._objective, np.array([sign * trial.values[self.objective.metric] for trial in told]))
        ]
        for surrogate, wish in self._bounds:
            values.append((surrogate, np.array([trial.values[wish.metric] for trial in told])))
        self._refits.learn(archs, values)

    @cached_property
    def _listed(self) -> _Candidates:
        return self._with_features(self.space.enumerate())

    def _with_features(self, archs: Sequence[Architecture]) -> _Candidates:
        """Each function once, by the keys."""
        keyed = {self._key(arch): arch for arch in archs}
        return list(keyed.values()), list(keyed), self._objective.features(list(keyed.values()))

    def _candidates(self, rng: np.random.Generator) -> tuple[list[Architecture], Tensor]:
        """New architectures and their features; the screen is left for those that are about to be taken."""
        listed = self.space.size <= LISTABLE
        archs, keys, features = self._listed if listed else self._with_features(self.space.sample(self.pool, rng))
        new = [i for i, key in enumerate(keys) if key not in self._seen]
        return [archs[i] for i in new], features[new]

    def _picks(
        self, n: int, candidates: Sequence[Architecture], features: Tensor, rng: np.random.Generator
    ) -> list[Architecture]:
        """One candidate for each draw of what to do."""
        optimum, unsure = 1 - self.alpha - self.beta, 1 - self.beta
        draws = rng.random(n)
        nearest = self._nearest(features, rng) if bool((draws < optimum).any()) else iter([])
        uncertain = self._uncertainty(features) if bool(((draws >= optimum) & (draws < unsure)).any()) else []
        taken: list[Architecture] = []
        for draw in draws:
            if draw < optimum:
                order = next(nearest)
            elif draw < unsure:
                order = uncertain
            else:
                order = rng.permutation(len(candidates)).tolist()
            ranking = (candidates[i] for i in order)
            pick = next(self.unseen(arch for arch in ranking if arch not in taken), None)
            if pick is None:
                break
            taken.append(pick)
        return taken

    def _nearest(self, features: Tensor, rng: np.random.Generator) -> Iterator[list[int]]:
        """All candidates by their distance to each end of the ascent, after the last one again to the best.

        Those that break a bound more probably than not come last, where others are left.
        """
        ends = self._ends(features, rng)
        with torch.no_grad():
            log_p = Problem([self._objective], self._bounds).log_feasible(features[:, None])
        unlikely = log_p < min(np.log(0.5), log_p.max().item())
        for end in chain(ends, repeat(ends[0])):
            distance = (features - end).abs().mean(1)
            yield torch.where(unlikely, distance + distance.max() + 1, distance).argsort(stable=True).tolist()

    def _ends(self, features: Tensor, rng: np.random.Generator) -> Tensor:
        """Ends of the ascent from random candidates, the best first."""
        bound = UncertaintyBound(self._objective.model, self.aleatoric, self.epistemic)
        problem = Problem([self._objective], self._bounds)
        starts = features[torch.from_numpy(rng.choice(len(features), min(self.restarts, len(features)), replace=False))]
        ends, values = ascend(
            lambda X: bound(X) + problem.log_feasible(X),
            starts,
            torch.stack([features.min(0).values, features.max(0).values]),
            second_order=self.second_order,
            steps=self.ascent,
            generator=torch.Generator().manual_seed(int(rng.integers(2**62))),
        )
        return ends[values.argsort(descending=True, stable=True)]

    @torch.no_grad()
    def _uncertainty(self, features: Tensor) -> list[int]:
        """All candidates, the most uncertain first."""
        unsure = UncertaintyBound(self._objective.model, self.aleatoric, self.epistemic, mean=0.0)
        order: list[int] = unsure(features[:, None]).argsort(descending=True, stable=True).tolist()
        return order
