"""Regularised evolution (Real et al., arXiv 1802.01548, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from archgen.errors import InvalidObjective
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.spaces import SearchSpace
from archgen.strategies.base import STRATEGIES, Screen, SearchStrategy


@STRATEGIES.register("evolution")
class Evolution(SearchStrategy):
    """Mutates the best of a random sample of the youngest `population` trials; the oldest die.

    Against the paper: the sample is drawn without replacement, a child that was evaluated before is mutated on (nothing
    is paid for twice), parents are compared by the violation of the bounds first, and failures age like all others.

    Args:
        population: Trials alive, P; the first P architectures are random.
        sample: Tournament size, S, at most `population`.
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
        population: int = 20,
        sample: int = 5,
    ) -> None:
        super().__init__(space, objectives, seed=seed, screen=screen, key=key)
        if not 1 <= sample <= population:
            raise InvalidObjective(f"expected 1 <= sample <= population, got sample={sample}, population={population}")
        self.population, self.sample = population, sample

    def ask(self, n: int) -> list[Architecture]:
        rng = self.rng()
        alive = self.trials[-self.population :]
        if len(alive) < self.population or not self.complete:
            return self.fresh(n, lambda m: self.space.sample(m, rng), rng)

        def children(m: int) -> list[Architecture]:
            found = []
            for _ in range(m):
                tournament = rng.choice(len(alive), size=self.sample, replace=False)
                parent = max((alive[i] for i in tournament), key=self.merit).arch
                child = self.space.mutate(parent, rng)
                while self._key(child) in self._seen and rng.random() < 0.9:
                    child = self.space.mutate(child, rng)
                found.append(child)
            return found

        return self.fresh(n, children, rng)
