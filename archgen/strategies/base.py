"""Search strategies: ask and tell."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from archgen.errors import InvalidObjective
from archgen.graph import Architecture
from archgen.objectives import Objective, bounds, check, directions
from archgen.pareto import Floats, nondominated_fronts
from archgen.registry import Registry
from archgen.spaces import SearchSpace
from archgen.study import COMPLETE, Trial

STRATEGIES: Registry[type[SearchStrategy]] = Registry("search strategy")

Screen = Callable[[Sequence[Architecture]], Sequence[bool]]
"""Which architectures may be proposed at all: listed in the table, predicted within a bound."""
LISTABLE = 100_000
"""Points of a space up to which it can be listed."""
LISTED = 20_000
"""Points of a space up to which members that rank candidates take all architectures."""
FITTED = 1000
"""Most trials that models are fitted to; their cost grows with the cube of it."""
DRAWN = 32_768
"""Architectures of a space that can not be listed that are drawn at a time."""
CHUNK = 64
"""Architectures that the screen is asked about at a time, going down a ranking."""


class SearchStrategy(ABC):
    """Proposes architectures from what was told; never the same one twice.

    `ask` changes no state and draws from a generator seeded by `seed` and the number of trials told, so a resumed
    search goes on as if it had not been cut off.

    Attributes:
        trials: What was told.
        busy: Architectures that are being evaluated; `ask` gives none of them. Whoever asks sets it.

    Args:
        space: The search space.
        objectives: The wishes: one direction, or several where the strategy takes them; any number of bounds.
        seed: Of all randomness.
        screen: Which architectures may be proposed; all by default.
        key: Two architectures with equal keys count as the same; `space.canonical` merges equal functions.

    Raises:
        InvalidObjective: No direction, more than the strategy takes, or contradicting wishes.
    """

    several_directions: ClassVar[bool] = False
    """Whether it takes more than one `maximize` or `minimize`; it then looks for their Pareto front."""

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
        if not wanted or (len(wanted) > 1 and not self.several_directions):
            most = "at least one metric" if self.several_directions else "one metric"
            raise InvalidObjective(f"expected {most} to maximize or minimize, got {wanted}")
        self.space, self.directions, self.bounds, self.seed = space, wanted, bounds(objectives), seed
        self.trials: list[Trial] = []
        self._screen: Screen = screen or (lambda archs: [True] * len(archs))
        self._key = key or (lambda arch: arch)
        self.busy: Sequence[Architecture] = ()
        self._seen: set[Hashable] = set()
        self._usable: list[Trial] = []

    @abstractmethod
    def ask(self, n: int) -> list[Architecture]:
        """Up to `n` new architectures; none when the space has no more that the screen lets through.

        In a space too large to list: when thousands of draws had none.
        """

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn of finished trials, failed ones included."""
        self.trials += trials
        self._seen |= {self._key(trial.arch) for trial in trials}
        for trial in trials:
            if trial.state == COMPLETE and all(np.isfinite(trial.values.get(w.metric, np.nan)) for w in self.bounds):
                self._usable.append(trial)
                if len(self._usable) > FITTED:
                    self._usable = self._condensed(self._usable)

    @property
    def objective(self) -> Objective:
        """The direction; raises `InvalidObjective` where there are several."""
        if len(self.directions) > 1:
            raise InvalidObjective(f"expected one direction, got {self.directions}; compare trials by their fronts")
        return self.directions[0]

    @property
    def complete(self) -> list[Trial]:
        """Trials with values."""
        return [trial for trial in self.trials if trial.state == COMPLETE]

    @property
    def usable(self) -> list[Trial]:
        """What models are fitted to: trials with values of which every bounded metric is among them and finite.

        Of more than `FITTED`, those that are kept are the better half by `fronts`, and as many of the others at random,
        together half of them; from then on it grows again.
        """
        return list(self._usable)

    def _condensed(self, trials: Sequence[Trial]) -> list[Trial]:
        order, half = list(itertools.chain.from_iterable(self.fronts(trials))), FITTED // 4
        rest = np.random.default_rng([self.seed, trials[-1].number]).choice(order[half:], half, replace=False)
        return [trials[i] for i in sorted([*order[:half], *rest.tolist()])]

    def opening(self, n: int, initial: int) -> int:
        """How many of `n` to ask for before a model can be fitted: what is left of `initial`, then one by one."""
        return min(n, max(initial - len(self.trials), 1))

    def rng(self) -> np.random.Generator:
        """A fresh generator for one `ask`."""
        return np.random.default_rng([self.seed, len(self.trials), *([len(self.busy)] if self.busy else [])])

    # -- which trial is better -------------------------------------------------------------------------------------

    def violation(self, trial: Trial) -> float:
        """By how much the bounds are missed, each relative to itself, summed; infinite for a failure or a NaN."""
        if trial.state != COMPLETE:
            return np.inf
        total = 0.0
        for wish in self.bounds:
            assert wish.bound is not None
            gap = wish.sign * (wish.bound - trial.values.get(wish.metric, np.nan))
            total += 0.0 if gap <= 0 else gap / (abs(wish.bound) or 1.0)  # a NaN gap makes the sum NaN
        return np.inf if np.isnan(total) else total

    def merit(self, trial: Trial) -> tuple[float, float]:
        """Larger is better: first minus the violation of the bounds, then the objective; for one direction."""
        if trial.state != COMPLETE:
            return (-np.inf, -np.inf)
        return (-self.violation(trial), self.objective.sign * trial.values[self.objective.metric])

    def fronts(self, trials: Sequence[Trial]) -> list[list[int]]:
        """Positions of trials by constrained domination, best front first (`archgen.pareto`); failures come last.

        Trials that miss the bounds by the same amount share a front, whatever their values.
        """
        violations = [self.violation(trial) for trial in trials]
        return [front.tolist() for front in nondominated_fronts(self.signed_values(trials), violations)]

    def signed_values(self, trials: Sequence[Trial]) -> Floats:
        """`n x m` values in the `m` directions, larger is better; NaN for failures."""
        rows = [[wish.sign * trial.values.get(wish.metric, np.nan) for wish in self.directions] for trial in trials]
        return np.array(rows, dtype=float).reshape(len(trials), len(self.directions))

    def ranked(self, archs: Sequence[Architecture], values: Mapping[str, Floats]) -> list[Architecture]:
        """Architectures by the merit that predicted values would give them, best first; for one direction.

        Args:
            archs: `b` architectures.
            values: Of the objective's metric and of each bounded one, `b` in the metric's unit.
        """
        rows = np.stack(list(values.values()), 1).tolist()
        guesses = [Trial(-1, a, dict(zip(values, row, strict=True)), 0.0) for a, row in zip(archs, rows, strict=True)]
        return [guess.arch for guess in sorted(guesses, key=self.merit, reverse=True)]

    # -- what is new -----------------------------------------------------------------------------------------------

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
        busy = set(map(self._key, self.busy))

        def add(archs: Sequence[Architecture]) -> None:
            keyed = [(self._key(arch), arch) for arch in archs]
            new = [arch for key, arch in keyed if key not in self._seen and key not in busy and key not in found]
            for arch, allowed in zip(new, self._screen(new) if new else [], strict=True):
                if allowed and len(found) < n:
                    found.setdefault(self._key(arch), arch)

        for _ in range(4):
            if len(found) < n:
                add(propose(4 * n))
        listable = self.space.size <= LISTABLE
        for i in range(8):  # where a space can not be listed, a screen may let through one in a thousand
            if len(found) < n:
                add(self.space.sample(64 * n if listable else min(64 * n * 2**i, max(64 * n, DRAWN)), rng))
        if len(found) < n and listable:
            every = self.space.enumerate()
            add([every[i] for i in rng.permutation(len(every))])
        return list(found.values())

    def unseen(self, ranking: Iterable[Architecture]) -> Iterator[Architecture]:
        """Those of a ranking that are new and that the screen lets through, in order, each key once.

        Keys and screen are asked only as far down as the result is read.
        """
        rest, found = iter(ranking), self._seen.union(map(self._key, self.busy))
        while chunk := list(itertools.islice(rest, CHUNK)):
            new: dict[Hashable, Architecture] = {}
            for arch in chunk:
                if (key := self._key(arch)) not in found:
                    found.add(key)
                    new[key] = arch
            archs = list(new.values())
            yield from itertools.compress(archs, self._screen(archs) if archs else [])
