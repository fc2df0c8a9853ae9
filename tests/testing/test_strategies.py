"""The check of strategies finds what is broken; that it passes what is whole is tested in `conformance/`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from archgen.graph import Architecture
from archgen.objectives import Objective, at_least, at_most, maximize, minimize
from archgen.pareto import Floats
from archgen.spaces import CellSpace, SearchSpace
from archgen.strategies import Random
from archgen.study import Trial
from archgen.testing import check_strategy

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
WISHES = [maximize("acc"), at_most("latency_ms", 3.0), at_least("margin", -1.0)]
SALTS = itertools.count(1)


def _repeats(self: Random, n: int) -> list[Architecture]:
    return Random.ask(self, n)[:1] * n


def _moves_on(self: Any, n: int) -> list[Architecture]:
    self.asked = getattr(self, "asked", 0) + 1
    return self.fresh(n, lambda m: self.space.sample(m, np.random.default_rng([self.seed, self.asked])), self.rng())


def _salt(self: Any) -> int:
    self.salt: int = getattr(self, "salt", None) or next(SALTS)
    return self.salt


def _remembers(self: Any, trials: Sequence[Trial]) -> None:
    Random.tell(self, trials)
    self.seed += 1


def _before(self: Random, n: int) -> list[Architecture]:
    return [t.arch for t in self.trials[:1]] + Random.ask(self, n)[1:]


def _ignores_the_screen(self: Random, n: int) -> list[Architecture]:
    other = Random(self.space, [self.objective], seed=len(self.trials) + 9 * self.seed)
    other.busy = self.busy
    return other.ask(n)


def _ignores_what_runs(self: Random, n: int) -> list[Architecture]:
    busy, self.busy = self.busy, ()
    try:
        return Random.ask(self, n)
    finally:
        self.busy = busy


def _dies(self: Any, n: int) -> list[Architecture]:
    return [] if len(self.trials) > 3 and not self.complete else Random.ask(self, n)


BROKEN: dict[str, tuple[dict[str, Callable[..., Any]], str]] = {
    "repeats in a batch": ({"ask": _repeats}, "twice in one batch"),
    "repeats a trial": ({"ask": _before}, "told of"),
    "too many": ({"ask": lambda self, n: Random.ask(self, n + 1)}, "gave 4 architectures"),
    "ask changes state": ({"ask": _moves_on}, "ask changes state"),
    "seed ignored": ({"rng": lambda self: np.random.default_rng(len(self.trials))}, "other seeds gave the same"),
    "not seeded": (
        {"rng": lambda self: np.random.default_rng([_salt(self), self.seed, len(self.trials)])},
        "the same seed gave another",
    ),
    "stops when all fail": ({"ask": _dies}, "ask gave nothing"),
    "tell counts its calls": ({"tell": _remembers}, "goes on otherwise"),
    "screen ignored": (
        {"ask": _ignores_the_screen},
        "screen",
    ),
    "what runs ignored": ({"ask": _ignores_what_runs}, "ask gave what is being evaluated"),
    "merit ignores failures": ({"merit": lambda self, t: (0.0, next(iter(t.values.values()), 5.0))}, "merit"),
    "merit ignores bounds": (
        {"merit": lambda self, t: (0.0, t.values[self.objective.metric]) if t.values else (-np.inf, 0.0)},
        "what violates",
    ),
    "merit ignores by how much": (
        {
            "merit": lambda self, t: (
                (-float(not all(w.met(t.values[w.metric]) for w in self.bounds)), t.values[self.objective.metric])
                if t.values
                else (-np.inf, 0.0)
            )
        },
        "more is not worse",
    ),
    "minimizes": (
        {"merit": lambda self, t: (0.0, -t.values[self.objective.metric]) if t.values else (-np.inf, 0.0)},
        "the better objective must win",
    ),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_check_strategy_finds_a_broken_promise(case: str, space: SearchSpace) -> None:
    methods, message = BROKEN[case]
    kind = type("Broken", (Random,), methods)
    with pytest.raises(AssertionError, match=message):
        check_strategy(
            lambda seed, screen: kind(space, WISHES, seed=seed, screen=screen), space, rng=np.random.default_rng(0)
        )


def test_check_strategy_finds_one_that_looks_at_the_first_direction_only(space: SearchSpace) -> None:
    class Blind(Random):
        def signed_values(self, trials: Sequence[Trial]) -> Floats:
            return super().signed_values(trials)[:, :1]

    wishes = [maximize("acc"), minimize("loss")]
    with pytest.raises(AssertionError, match="what dominates must come first, a trade-off share"):
        check_strategy(
            lambda seed, screen: Blind(space, wishes, seed=seed, screen=screen), space, rng=np.random.default_rng(0)
        )


def test_check_strategy_finds_one_that_takes_several_directions_in_silence(space: SearchSpace) -> None:
    class Silent(Random):
        several_directions = False

        def __init__(self, space: SearchSpace, wishes: Sequence[Objective], **options: Any) -> None:
            super().__init__(space, wishes[:1], **options)
            self.directions = list(wishes)

    wishes = [maximize("acc"), minimize("loss")]
    with pytest.raises(AssertionError, match="several directions without saying so"):
        check_strategy(
            lambda seed, screen: Silent(space, wishes, seed=seed, screen=screen), space, rng=np.random.default_rng(0)
        )


def test_check_strategy_finds_one_that_leaves_architectures_out() -> None:
    tiny = CellSpace("tiny", 3, ROLES, NETWORK)
    last = tiny.enumerate()[-1]

    class Shy(Random):
        def ask(self, n: int) -> list[Architecture]:
            return [arch for arch in super().ask(n) if arch != last]

    with pytest.raises(AssertionError, match="ask gave nothing after 26 trials in a space of 27"):
        check_strategy(
            lambda seed, screen: Shy(tiny, [maximize("acc")], seed=seed, screen=screen),
            tiny,
            rng=np.random.default_rng(0),
        )
