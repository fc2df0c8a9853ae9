"""Search strategies: ask and tell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from archgen.errors import InvalidObjective
from archgen.graph import Architecture
from archgen.objectives import Objective, bounds, check, directions
from archgen.registry import Registry
from archgen.spaces import SearchSpace
from archgen.study import COMPLETE, Trial

STRATEGIES: Registry[type[SearchStrategy]] = Registry("search strategy")

Screen = Callable[[Sequence[Architecture]], Sequence[bool]]
"""Which architectures may be proposed at all: listed in the table, predicted within a bound."""


class SearchStrategy(ABC):
    """Proposes architectures from what was told; never the same one twice.

    `ask` changes no state and draws from a generator seeded by `seed` and the number of trials told, so a resumed
    search goes on as if it had not been cut off.

    Args:
        space: The search space.
        objectives: The wishes: one direction, any number of bounds.
        seed: Of all randomness.
        screen: Which architectures may be proposed; all by default.
        key: Two architectures with equal keys count as the same; `space.canonical` merges equal functions.

    Raises:
        InvalidObjective: Not exactly one direction, or contradicting wishes.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int = 0,
        screen: Screen | None = None,
        key: Callable[[Architecture], Hashable] | None = None,
    ) -> None:
        check(objectives)
        wanted = directions(objectives)
        if len(wanted) != 1:
            raise InvalidObjective(f"expected one metric to maximize or minimize, got {wanted}")
        self.space, self.objective, self.bounds, self.seed = space, wanted[0], bounds(objectives), seed
        self.trials: list[Trial] = []
        self._screen: Screen = screen or (lambda archs: [True] * len(archs))
        self._key = key or (lambda arch: arch)
        self._seen: set[Hashable] = set()

    @abstractmethod
    def ask(self, n: int) -> list[Architecture]:
        """Up to `n` new architectures; none only when the space has no more that the screen lets through."""

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn of finished trials, failed ones included."""
        self.trials += trials
        self._seen |= {self._key(trial.arch) for trial in trials}

    @property
    def complete(self) -> list[Trial]:
        """Trials with values."""
        return [trial for trial in self.trials if trial.state == COMPLETE]

    def rng(self) -> np.random.Generator:
        """A fresh generator for one `ask`."""
        return np.random.default_rng([self.seed, len(self.trials)])

    def merit(self, trial: Trial) -> tuple[float, float]:
        """Larger is better: first minus the summed relative violation of the bounds, then the objective."""
        if trial.state != COMPLETE:
            return (-np.inf, -np.inf)
        violation = 0.0
        for wish in self.bounds:
            assert wish.bound is not None
            gap = wish.sign * (wish.bound - trial.values.get(wish.metric, np.nan))
            violation += 0.0 if gap <= 0 else gap / (abs(wish.bound) or 1.0)  # a NaN gap makes the sum NaN
        return (
            -np.inf if np.isnan(violation) else -violation,
            self.objective.sign * trial.values[self.objective.metric],
        )

    def fresh(
        self, n: int, propose: Callable[[int], Sequence[Architecture]], rng: np.random.Generator
    ) -> list[Architecture]:
        """Draw from `propose` until `n` new, allowed architectures are found; then from the space; then list it.

        Args:
            n: How many.
            propose: Gives about as many candidates as its argument says.
            rng: For the draws from the space.
        """
        found: dict[Hashable, Architecture] = {}

        def add(archs: Sequence[Architecture]) -> None:
            new = [a for a in archs if self._key(a) not in self._seen and self._key(a) not in found]
            for arch, allowed in zip(new, self._screen(new) if new else [], strict=True):
                if allowed and len(found) < n:
                    found.setdefault(self._key(arch), arch)

        for _ in range(4):
            if len(found) < n:
                add(propose(4 * n))
        for _ in range(8):
            if len(found) < n:
                add(self.space.sample(64 * n, rng))
        if len(found) < n and self.space.size <= 100_000:
            every = self.space.enumerate()
            add([every[i] for i in rng.permutation(len(every))])
        return list(found.values())
