"""The promises of `SearchStrategy`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from archgen.graph import Architecture
from archgen.spaces import SearchSpace
from archgen.study import FAILED, Trial
from archgen.testing.spaces import check_valid

if TYPE_CHECKING:
    from archgen.strategies.base import Screen, SearchStrategy

LISTABLE = 1_000
"""`check_strategy` asks until nothing is left in spaces of at most so many points."""

Measure = Callable[[int, Architecture], Trial]
MakeStrategy = Callable[[int, "Screen | None"], "SearchStrategy"]


def check_strategy(make: MakeStrategy, space: SearchSpace, *, rng: np.random.Generator, batch: int = 3) -> None:
    """Check every promise of `SearchStrategy` on synthetic values; asks until nothing is left where a space is small.

    Args:
        make: A seed and a screen (or None) to a new strategy, without a `key`, of whatever objectives: a direction
            (or several) and at most one bound for each other metric. After 4 batches it should have begun to learn.
        space: The space.
        rng: Source of the synthetic values.
        batch: Architectures of a batch, at least 2.
    """
    measure = _synthetic(make(0, None), space, rng)
    lived = make(0, None)
    trials = _search(lived, space, measure, batch, times=2)
    assert trials == _search(make(0, None), space, measure, batch), "the same seed gave another sequence"
    others = (_search(make(seed, None), space, measure, batch) for seed in (1, 2))
    assert any(trials != other for other in others), "other seeds gave the same sequence"
    asked = lived.ask(batch)
    _check_resumed(make, trials, asked, batch)
    lived.busy = asked
    assert not set(lived.ask(batch)) & set(asked), "ask gave what is being evaluated"

    def fail(number: int, arch: Architecture) -> Trial:
        return Trial(number, arch, {}, 0.0, FAILED)

    _search(make(0, None), space, fail, batch)
    lived = make(0, None)
    mixed = _search(lived, space, lambda i, arch: (measure, fail)[i % 2](i, arch), batch)
    _check_resumed(make, mixed, lived.ask(batch), batch)
    _check_screen(make, space, measure, rng, batch)
    if space.size <= LISTABLE:
        every = _search(make(0, None), space, measure, batch, rounds=space.size)
        assert len(every) == space.size, f"ask proposed {len(every)} of the {space.size} architectures there are"
    if len(make(0, None).directions) == 1:
        _check_merit(make(0, None), trials[0])
    _check_fronts(make(0, None), trials[0])


def _synthetic(strategy: SearchStrategy, space: SearchSpace, rng: np.random.Generator) -> Measure:
    """Values that add up over the choices; about half of the architectures meet each bound."""
    centre = {wish.metric: wish.bound or 0.0 for wish in (*strategy.directions, *strategy.bounds)}
    weights = {m: {name: rng.normal(size=len(v)) for name, v in space.variables.items()} for m in centre}

    def measure(number: int, arch: Architecture) -> Trial:
        choices = space.to_choices(arch).items()
        values = {m: c + float(sum(weights[m][name][i] for name, i in choices)) for m, c in centre.items()}
        return Trial(number, arch, values, 0.0)

    return measure


def _search(
    strategy: SearchStrategy, space: SearchSpace, measure: Measure, batch: int, *, rounds: int = 4, times: int = 1
) -> list[Trial]:
    trials: list[Trial] = []
    for _ in range(rounds):
        asked = strategy.ask(batch)
        after = f"after {len(trials)} trials"
        assert len(asked) <= batch, f"ask({batch}) gave {len(asked)} architectures {after}"
        assert asked or len(trials) == space.size, f"ask gave nothing {after} in a space of {space.size}"
        assert len(set(asked)) == len(asked), f"ask gave an architecture twice in one batch {after}"
        assert not {t.arch for t in trials} & set(asked), f"ask gave an architecture that it was told of {after}"
        for _ in range(times - 1):
            assert strategy.ask(batch) == asked, f"ask changes state: a second one {after} gave another answer"
        if not asked:
            break
        for arch in asked:
            check_valid(space, arch, "ask")
        finished = [measure(len(trials) + i, arch) for i, arch in enumerate(asked)]
        strategy.tell(finished)
        trials += finished
    return trials


def _check_resumed(make: MakeStrategy, trials: Sequence[Trial], expected: list[Architecture], batch: int) -> None:
    for cut in (0, len(trials) - 1):  # told at once, and in the middle of a batch
        resumed = make(0, None)
        resumed.tell(trials[:cut])
        resumed.tell(trials[cut:])
        assert resumed.ask(batch) == expected, "told the trials of a study, ask goes on otherwise than before"


def _check_screen(
    make: MakeStrategy, space: SearchSpace, measure: Measure, rng: np.random.Generator, batch: int
) -> None:
    allowed = set(space.sample(3 * batch, rng))
    strategy = make(0, lambda archs: [arch in allowed for arch in archs])
    for number in range(2):
        asked = strategy.ask(batch)
        stray = sum(arch not in allowed for arch in asked)
        assert stray == 0, f"ask gave {stray} architectures that the screen does not let through"
        strategy.tell([measure(number * batch + i, arch) for i, arch in enumerate(asked)])
    assert not make(0, lambda archs: [False] * len(archs)).ask(batch), "ask gave what the screen does not let through"


def _check_merit(strategy: SearchStrategy, trial: Trial) -> None:
    """A failure is worst, then what violates the bounds more, then the worse objective."""
    within = {wish.metric: wish.bound or 0.0 for wish in strategy.bounds}

    def merit(objective: float, **values: float) -> tuple[float, float]:
        good = {strategy.objective.metric: strategy.objective.sign * objective}
        return strategy.merit(replace(trial, values={**good, **within, **values}))

    failed = strategy.merit(replace(trial, values={}, state=FAILED))
    assert merit(2.0) > merit(1.0) > merit(-3.0) > failed, "merit: the better objective must win, a failure be worst"
    for wish in strategy.bounds:
        near, far = ({wish.metric: within[wish.metric] - wish.sign * gap} for gap in (1.0, 2.0))
        assert merit(1.0) > merit(9.0, **near), f"merit: what violates {wish} beats what meets every bound"
        assert merit(1.0, **near) > merit(9.0, **far) > failed, f"merit: violating {wish} more is not worse"


def _check_fronts(strategy: SearchStrategy, trial: Trial) -> None:
    """What dominates comes before what it dominates, a trade-off shares a front, violations and failures come last."""
    assert len(strategy.directions) == 1 or strategy.several_directions, "took several directions without saying so"
    within = {wish.metric: wish.bound or 0.0 for wish in strategy.bounds}

    def at(gains: Sequence[float], **values: float) -> Trial:
        good = {wish.metric: wish.sign * gain for wish, gain in zip(strategy.directions, gains, strict=True)}
        return replace(trial, values={**good, **within, **values})

    m = len(strategy.directions)
    best, ahead, worst = [5.0] * m, [[3.0 + (i == j) for i in range(m)] for j in range(m)], [1.0] * m
    good = [at(best), *(at(gains) for gains in ahead), at(worst)]
    bad = [replace(trial, values={}, state=FAILED)]
    for wish in strategy.bounds:
        near, far = ({wish.metric: within[wish.metric] - wish.sign * gap} for gap in (1.0, 2.0))
        ranked = strategy.fronts([at([9.0] * m, **far), at([0.0] * m, **near), at(worst)])
        assert ranked == [[2], [1], [0]], f"fronts: what violates {wish} more must come later, whatever its values"
        bad = [at(best, **near), *bad]
    ranked = strategy.fronts(good)
    assert ranked == [[0], list(range(1, m + 1)), [m + 1]], "fronts: what dominates must come first, a trade-off share"
    after = strategy.fronts([*bad[::-1], *good])
    assert after[-1] == [0], "fronts: a failure must come last"
    assert [i for front in after[:3] for i in front] == list(range(len(bad), len(bad) + len(good))), (
        "fronts: what violates a bound beats what meets every bound"
    )
