"""NSGA-II (Deb et al., 2002) with the early exit of EEEA-Net (arXiv 2108.06156)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from archgen.errors import InvalidObjective
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.pareto import crowding_distance
from archgen.predictors import Predictor
from archgen.predictors.counts import COUNTED, Count
from archgen.spaces import SearchSpace
from archgen.strategies.base import STRATEGIES, Screen, SearchStrategy
from archgen.study import Trial

ROUNDS = 32
"""Draws for each wanted architecture of the first population before one that misses a bound is let through."""


@STRATEGIES.register("nsga2")
class NSGA2(SearchStrategy):
    """The elitist multi-objective genetic algorithm; with one direction, a genetic algorithm.

    Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE
    Transactions on Evolutionary Computation 6(2), 2002, section III-C: every `population` trials are a generation; the
    parents and their children together are sorted into fronts by constrained domination, and the best fronts survive,
    the last one in order of its crowding distance. Parents of a child win binary tournaments by front, then crowding. A
    child is crossed with probability 0.9 and each of its `v` variables changed with probability `1 / v`, as there; what
    crossing and changing mean is the space's.

    The first population is initialised by early exit (EE-PI of EEEA-Net): an architecture that is known to miss a
    bound before it is evaluated is drawn again. Only the first: children are free, their violations count in the sort.
    The paper bounds parameters; here it is every bounded metric with a predictor.

    Against the papers: nothing is evaluated twice (a child that is known is mutated on).

    Args:
        population: Size of a generation, at least 2.
        crossover: Probability that a child has two parents, in [0, 1].
        early_exit: Predictors of bounded metrics, such as a fitted `LatencyPredictor`. None: the exact counts of those
            bounds that are of `params` or `flops`.
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
        population: int = 20,
        crossover: float = 0.9,
        early_exit: Sequence[Predictor] | None = None,
    ) -> None:
        super().__init__(space, objectives, seed=seed, screen=screen, key=key)
        if population < 2 or not 0 <= crossover <= 1:
            raise InvalidObjective(
                f"expected a population of at least 2 and a crossover in [0, 1], got {population} and {crossover:g}"
            )
        bounded = {wish.metric for wish in self.bounds}
        if early_exit is None:
            early_exit = [Count(space, metric) for metric in COUNTED if metric in bounded]
        foreign = [predictor.metric for predictor in early_exit if predictor.metric not in bounded]
        if foreign:
            raise InvalidObjective(f"early_exit predicts {', '.join(foreign)}, which no wish bounds; leave it out")
        self.population, self.crossover, self.early_exit = population, crossover, list(early_exit)
        self._parents: list[Trial] = []
        self._generation: list[Trial] = []

    def tell(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            super().tell([trial])
            self._generation.append(trial)
            if len(self._generation) == self.population:
                self._parents, self._generation = self._survivors(self._parents + self._generation), []

    def ask(self, n: int) -> list[Architecture]:
        rng = self.rng()
        if all(np.isinf(self.violation(parent)) for parent in self._parents):
            return self.fresh(n, lambda m: self._within(m, rng), rng)
        place = self._places(self._parents)

        def children(m: int) -> list[Architecture]:
            return [self._child(place, rng) for _ in range(m)]

        return self.fresh(n, children, rng)

    def _within(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """Random architectures that the predictors do not expect to miss a bound; fewer where these are rare."""
        found: list[Architecture] = []
        for _ in range(ROUNDS):
            drawn = self.space.sample(n, rng)
            good = np.ones(len(drawn), dtype=bool)
            for predictor in self.early_exit:
                mean = predictor.predict(drawn).mean
                for wish in self.bounds:
                    if wish.metric == predictor.metric:
                        good &= [wish.met(value) for value in mean.tolist()]
            found += [drawn[i] for i in np.flatnonzero(good)]
            if len(found) >= n:
                break
        return found[:n]

    def _places(self, trials: Sequence[Trial]) -> dict[int, tuple[int, float]]:
        """Front, and minus the crowding distance in it, of each position, best first: what tournaments compare."""
        values = np.nan_to_num(self.signed_values(trials))
        places: dict[int, tuple[int, float]] = {}
        for rank, front in enumerate(self.fronts(trials)):
            distance = crowding_distance(values[front])
            for i in np.argsort(-distance, kind="stable").tolist():
                places[front[i]] = (rank, -float(distance[i]))
        return places

    def _survivors(self, trials: Sequence[Trial]) -> list[Trial]:
        return [trials[i] for i in list(self._places(trials))[: self.population]]

    def _child(self, place: dict[int, tuple[int, float]], rng: np.random.Generator) -> Architecture:
        first, second = (self._parents[self._tournament(place, rng)].arch for _ in range(2))
        child = self.space.crossover(first, second, rng) if rng.random() < self.crossover else first
        variables = len(self.space.variables)
        for _ in range(int(rng.binomial(variables, 1 / variables))):
            child = self.space.mutate(child, rng)
        while self._key(child) in self._seen and rng.random() < 0.9:
            child = self.space.mutate(child, rng)
        return child

    def _tournament(self, place: dict[int, tuple[int, float]], rng: np.random.Generator) -> int:
        rivals = rng.choice(len(place), size=2, replace=False).tolist()
        return int(min(rivals, key=place.__getitem__))
