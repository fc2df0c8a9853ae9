"""What all strategies share: merit, the seed of an ask, and the hunt for architectures that are new."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from archgen.errors import InvalidObjective, UnknownName
from archgen.graph import Architecture
from archgen.objectives import Objective, at_least, at_most, maximize, minimize
from archgen.spaces import CellSpace, SearchSpace
from archgen.strategies import STRATEGIES, Random, SearchStrategy, base
from archgen.study import COMPLETE, FAILED, Trial

NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}


class Fixed(SearchStrategy):
    """Proposes the same list again and again."""

    proposals: Sequence[Architecture] = ()

    def ask(self, n: int) -> list[Architecture]:
        return self.fresh(n, lambda m: self.proposals, self.rng())


def trial(arch: Architecture, number: int = 0, state: str = COMPLETE, **values: float) -> Trial:
    return Trial(number, arch, values, 0.0, state)


@pytest.fixture
def arch(space: SearchSpace, rng: np.random.Generator) -> Architecture:
    return space.sample(1, rng)[0]


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ([], "one metric to maximize or minimize"),
        ([at_most("latency_ms", 1.0)], "one metric to maximize or minimize"),
        ([maximize("acc"), minimize("loss")], "one metric to maximize or minimize"),
        ([maximize("acc"), minimize("acc")], "both maximized and minimized"),
        ([maximize("acc"), at_least("m", 2.0), at_most("m", 1.0)], "can not be at least 2 and at most 1"),
    ],
)
def test_wishes_that_no_strategy_can_serve_are_refused(
    space: SearchSpace, wishes: list[Objective], message: str
) -> None:
    with pytest.raises(InvalidObjective, match=message):
        Fixed(space, wishes)


def test_a_strategy_that_takes_several_directions_still_needs_one(space: SearchSpace) -> None:
    assert not SearchStrategy.several_directions
    assert Random(space, [maximize("acc"), minimize("loss")]).directions == [maximize("acc"), minimize("loss")]
    with pytest.raises(InvalidObjective, match="at least one metric to maximize or minimize"):
        Random(space, [at_most("latency_ms", 1.0)])


def test_several_directions_have_fronts_and_no_merit(space: SearchSpace, arch: Architecture) -> None:
    strategy = Random(space, [maximize("acc"), minimize("loss"), at_most("ms", 2.0)])
    told = [
        trial(arch, state=FAILED),
        trial(arch, acc=99.0, loss=0.1, ms=4.0),  # best values, bound missed by 100 %
        trial(arch, acc=50.0, loss=0.9, ms=3.0),  # worst values, by 50 %
        trial(arch, acc=60.0, loss=0.8, ms=2.0),
        trial(arch, acc=70.0, loss=0.5, ms=2.0),
        trial(arch, acc=80.0, loss=0.6, ms=1.0),
    ]
    assert strategy.fronts(told) == [[4, 5], [3], [2], [1], [0]]
    assert strategy.violation(told[1]) == 1.0
    with pytest.raises(InvalidObjective, match="expected one direction"):
        strategy.merit(told[3])


def test_an_unknown_strategy_gets_a_hint() -> None:
    with pytest.raises(UnknownName, match="unknown search strategy 'evolutoin': did you mean 'evolution'"):
        STRATEGIES["evolutoin"]


def test_merit_puts_bounds_before_the_objective_and_failures_last(space: SearchSpace, arch: Architecture) -> None:
    strategy = Random(space, [maximize("acc"), at_most("ms", 2.0), at_least("f", 10.0)])
    ranked = [
        trial(arch, acc=60.0, ms=2.0, f=10.0),
        trial(arch, acc=50.0, ms=1.0, f=99.0),
        trial(arch, acc=99.0, ms=2.5, f=10.0),  # 25 % over one bound
        trial(arch, acc=98.0, ms=2.5, f=10.0),
        trial(arch, acc=99.0, ms=2.5, f=9.0),  # 25 % and 10 %
        trial(arch, acc=99.0, ms=2.0, f=5.0),  # 50 % under the other
        trial(arch, state=FAILED),
    ]
    merits = [strategy.merit(t) for t in ranked]
    assert merits == sorted(merits, reverse=True)
    assert len(set(merits)) == len(merits)
    assert [m[0] for m in merits] == pytest.approx([0, 0, -0.25, -0.25, -0.35, -0.5, -math.inf])


def test_merit_of_a_minimized_metric_falls_with_it(space: SearchSpace, arch: Architecture) -> None:
    strategy = Random(space, [minimize("loss")])
    assert strategy.merit(trial(arch, loss=0.5)) > strategy.merit(trial(arch, loss=0.6))


def test_a_bounded_metric_that_is_absent_or_nan_counts_as_the_worst_violation(
    space: SearchSpace, arch: Architecture
) -> None:
    strategy = Random(space, [maximize("acc"), at_most("ms", 2.0)])
    violating = strategy.merit(trial(arch, acc=1.0, ms=1e9))
    assert strategy.merit(trial(arch, acc=99.0)) < violating
    assert strategy.merit(trial(arch, acc=99.0, ms=math.nan)) < violating


def test_a_bound_of_zero_measures_violation_absolutely(space: SearchSpace, arch: Architecture) -> None:
    strategy = Random(space, [maximize("acc"), at_least("margin", 0.0)])
    assert strategy.merit(trial(arch, acc=1.0, margin=-0.5)) == (-0.5, 1.0)


def test_predicted_values_rank_as_the_merits_that_they_would_be(space: SearchSpace, rng: np.random.Generator) -> None:
    archs = list(dict.fromkeys(space.sample(9, rng)))[:5]
    strategy = Random(space, [minimize("loss"), at_most("ms", 2.0)])
    predicted = {"loss": np.array([3.0, 1.0, 2.0, 0.0, 1.0]), "ms": np.array([1.0, 2.0, 1.5, 9.0, 3.0])}
    assert strategy.ranked(archs, predicted) == [archs[i] for i in (1, 2, 0, 4, 3)]


def test_complete_leaves_failed_trials_out(space: SearchSpace, arch: Architecture) -> None:
    strategy = Random(space, [maximize("acc")])
    good, bad = trial(arch, acc=1.0), trial(arch, 1, FAILED)
    strategy.tell([good, bad])
    assert strategy.complete == [good]
    assert strategy.trials == [good, bad]


def test_the_generator_of_an_ask_depends_on_the_seed_and_the_trials_told(
    space: SearchSpace, arch: Architecture
) -> None:
    def draw(seed: int, told: int) -> float:
        strategy = Random(space, [maximize("acc")], seed=seed)
        strategy.tell([trial(arch, i, acc=0.0) for i in range(told)])
        return float(strategy.rng().random())

    assert draw(0, 0) == draw(0, 0)
    assert len({draw(seed, told) for seed in range(3) for told in range(3)}) == 9


def test_the_default_key_tells_architectures_apart_and_canonical_merges_equal_functions(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    archs = Random(space, [maximize("acc")]).ask(600)
    assert len(set(archs)) == 600
    assert len({space.canonical(a) for a in archs}) < 600
    merged = Random(space, [maximize("acc")], key=space.canonical)
    first = merged.ask(150)
    merged.tell([trial(a, i, acc=0.0) for i, a in enumerate(first)])
    both = first + merged.ask(150)
    assert len({space.canonical(a) for a in both}) == 300


def test_a_failed_architecture_is_not_proposed_again(space: SearchSpace, arch: Architecture) -> None:
    strategy = Fixed(space, [maximize("acc")])
    strategy.proposals = [arch]
    assert strategy.ask(1) == [arch]
    strategy.tell([trial(arch, state=FAILED)])
    assert strategy.ask(1) != [arch]


def test_proposals_come_first_in_their_order_and_the_space_fills_up(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    strategy = Fixed(space, [maximize("acc")])
    strategy.proposals = space.sample(3, rng)
    asked = strategy.ask(5)
    assert asked[:3] == strategy.proposals
    assert len(set(asked)) == 5


def test_a_needle_is_found_by_listing_the_space(space: SearchSpace) -> None:
    """One architecture of 15,625: draws alone would find it in an ask with probability below 4 %."""
    needle = space.enumerate()[9_876]
    strategy = Fixed(space, [maximize("acc")], screen=lambda archs: [a == needle for a in archs])
    assert strategy.ask(1) == [needle]
    strategy.tell([trial(needle, acc=1.0)])
    assert strategy.ask(1) == []


def test_a_space_too_large_to_list_gives_up_without_listing(space: SearchSpace) -> None:
    assert isinstance(space, CellSpace)
    huge = CellSpace("huge", 6, space.roles, NETWORK)
    asked: list[int] = []

    def screen(archs: Sequence[Architecture]) -> list[bool]:
        asked.append(len(archs))
        return [False] * len(archs)

    assert Random(huge, [maximize("acc")], screen=screen).ask(2) == []
    assert 10_000 < sum(asked) < 40_000


def test_the_screen_is_asked_only_for_what_is_new(space: SearchSpace, rng: np.random.Generator) -> None:
    known, new = space.sample(2, rng)
    seen: list[Architecture] = []

    def screen(archs: Sequence[Architecture]) -> list[bool]:
        seen.extend(archs)
        return [True] * len(archs)

    strategy = Fixed(space, [maximize("acc")], screen=screen)
    strategy.proposals = [known, new]
    strategy.tell([trial(known, acc=1.0)])
    assert strategy.ask(1) == [new]
    assert seen == [new]


def test_going_down_a_ranking_asks_the_screen_no_further_than_it_is_read(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    ranking = list(dict.fromkeys(space.sample(300, rng)))
    asked: list[Architecture] = []

    def screen(archs: Sequence[Architecture]) -> list[bool]:
        asked.extend(archs)
        return [a != ranking[2] for a in archs]

    strategy = Fixed(space, [maximize("acc")], screen=screen)
    strategy.tell([trial(ranking[0], acc=1.0)])
    unseen = strategy.unseen([*ranking[:4], *ranking])
    assert [next(unseen) for _ in range(3)] == [ranking[1], *ranking[3:5]]
    assert len(asked) < 70
    assert list(unseen) == ranking[5:]
    assert len(asked) == len(set(asked)) == len(ranking) - 1


def test_what_models_are_fitted_to_has_every_bounded_metric(space: SearchSpace, rng: np.random.Generator) -> None:
    strategy = Fixed(space, [maximize("acc"), at_most("lat", 3.0)])
    a, b, c, d = space.sample(4, rng)
    told = [trial(a, acc=1.0, lat=9.0), trial(b, acc=1.0), trial(c, acc=1.0, lat=math.nan), trial(d, acc=2.0, lat=1.0)]
    strategy.tell([*told, Trial(4, space.sample(1, rng)[0], {}, 0.0, FAILED)])
    assert [t.arch for t in strategy.usable] == [a, d]


def test_the_opening_ends_after_the_first_trials_and_then_goes_on_one_by_one(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    strategy = Fixed(space, [maximize("acc")])
    assert [strategy.opening(4, 6), strategy.opening(9, 6)] == [4, 6]
    strategy.tell([trial(arch, acc=1.0) for arch in space.sample(5, rng)])
    assert strategy.opening(4, 6) == 1
    assert strategy.opening(4, 3) == 1


# -- what models are fitted to -----------------------------------------------------------------------------------


def test_of_many_trials_models_are_fitted_to_the_better_half_and_a_random_one(
    space: SearchSpace, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "FITTED", 40)
    archs = space.sample(100, rng)
    trials = [trial(archs[i], i, acc=float(acc)) for i, acc in enumerate(rng.permutation(100))]
    at_once, one_by_one = (Fixed(space, [maximize("acc")]) for _ in range(2))
    at_once.tell(trials[:40])
    assert at_once.usable == trials[:40]
    at_once.tell(trials[40:41])
    kept = at_once.usable
    assert len(kept) == 20
    assert [t.number for t in kept] == sorted(t.number for t in kept)
    best = sorted(trials[:41], key=lambda t: -t.values["acc"])[:10]
    assert all(t in kept for t in best)
    assert min(t.values["acc"] for t in kept) < best[-1].values["acc"]
    at_once.tell(trials[41:])
    for one in trials:
        one_by_one.tell([one])
    assert at_once.usable == one_by_one.usable
    assert max(trials, key=lambda t: t.values["acc"]) in at_once.usable
    assert len(at_once.trials) == 100
