"""Local search (Exploring the Loss Landscape in Neural Architecture Search, arXiv 2005.02960)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from archgen.errors import InvalidObjective
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.spaces import SearchSpace
from archgen.strategies.base import STRATEGIES, Screen, SearchStrategy
from archgen.study import Trial


@STRATEGIES.register("local")
class LocalSearch(SearchStrategy):
    """Evaluates the neighbours of the best architecture in random order and moves while that makes it better.

    Algorithm 1 of the paper, with the variants of the published code: the first centre is the best
    of `initial` random architectures; with `until_better` the search moves to the first neighbour that is better, else
    to the best one of the whole neighbourhood; at a local optimum it starts anew from random architectures, or goes on
    (`restart=False`) with the best architecture whose neighbourhood it has not looked at yet.

    Against the paper: a neighbour that was evaluated before counts, and costs nothing; better means the violation of
    the bounds first. A batch never leaves the neighbourhood, so `ask` may give fewer than it is asked for.

    Args:
        initial: Random architectures at each start, at least 1.
        until_better: Whether to move as soon as a neighbour is better.
        restart: Whether to start anew at a local optimum.
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
        initial: int = 10,
        until_better: bool = True,
        restart: bool = True,
    ) -> None:
        super().__init__(space, objectives, seed=seed, screen=screen, key=key)
        if initial < 1:
            raise InvalidObjective(f"a local search needs at least 1 initial architecture, got initial={initial}")
        self.initial, self.until_better, self.restart = initial, until_better, restart
        self._known: dict[Hashable, Trial] = {}
        self._starts: list[Trial] = []
        self._centre: Trial | None = None
        self._near: dict[Hashable, Architecture] = {}
        self._expanded: set[Hashable] = set()

    def ask(self, n: int) -> list[Architecture]:
        if self._centre is not None:
            busy = set(self.busy)
            return [arch for arch in self._pending() if arch not in busy][:n]
        rng = self.rng()
        return self.fresh(min(n, self.initial - len(self._starts)), lambda m: self.space.sample(m, rng), rng)

    def tell(self, trials: Sequence[Trial]) -> None:
        for trial in trials:  # one by one, in order: a search that is resumed goes the same way
            super().tell([trial])
            self._known.setdefault(self._key(trial.arch), trial)
            if self._centre is None:
                self._starts.append(trial)
            self._advance()

    def _advance(self) -> None:
        """Move on while nothing has to be evaluated first."""
        while True:
            if self._centre is None:
                if len(self._starts) < self.initial:
                    return
                self._move(max(self._starts, key=self.merit))
            assert self._centre is not None
            pending, height = self._pending(), self.merit(self._centre)
            better = [trial for trial in self._evaluated() if self.merit(trial) > height]
            if better and (self.until_better or not pending):
                self._move(max(better, key=self.merit))
            elif pending:
                return
            else:
                self._leave()

    def _move(self, centre: Trial) -> None:
        """Make a trial the centre; its neighbours in random order, without those that the screen holds back."""
        self._centre = centre
        self._expanded.add(self._key(centre.arch))
        around = self.space.neighbours(centre.arch)
        order = np.random.default_rng([self.seed, centre.number, 1]).permutation(len(around))
        near: dict[Hashable, Architecture] = {}
        for i in order.tolist():
            near.setdefault(self._key(around[i]), around[i])
        allowed = self._screen(list(near.values())) if near else []
        self._near = {k: a for (k, a), good in zip(near.items(), allowed, strict=True) if good or k in self._known}

    def _leave(self) -> None:
        """Go on from a local optimum."""
        rest = [trial for key, trial in self._known.items() if key not in self._expanded]
        if rest and not self.restart:
            self._move(max(rest, key=self.merit))
        else:
            self._centre, self._starts = None, []

    def _pending(self) -> list[Architecture]:
        return [arch for key, arch in self._near.items() if key not in self._known]

    def _evaluated(self) -> list[Trial]:
        """Known neighbours that can be moved to: after a restart any, else none that was the centre before."""
        closed = set() if self.restart else self._expanded
        return [self._known[key] for key in self._near if key in self._known and key not in closed]
