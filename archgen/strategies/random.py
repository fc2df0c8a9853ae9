"""Random search, the control of every other strategy."""

from __future__ import annotations

from archgen.graph import Architecture
from archgen.strategies.base import STRATEGIES, SearchStrategy


@STRATEGIES.register("random")
class Random(SearchStrategy):
    """Uniform over the variables' settings, without repetition (Li and Talwalkar, arXiv 1902.07638)."""

    several_directions = True

    def ask(self, n: int) -> list[Architecture]:
        rng = self.rng()
        return self.fresh(n, lambda m: self.space.sample(m, rng), rng)
