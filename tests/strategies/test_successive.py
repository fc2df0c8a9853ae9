"""GBDT-NAS: rounds of trees that rank samples of a space that they have pruned."""

from __future__ import annotations

import numpy as np
import pytest

from archgen.errors import InvalidObjective
from archgen.graph import Architecture
from archgen.objectives import at_most, maximize, minimize
from archgen.predictors import GradientBoosting
from archgen.spaces import RestrictedSpace, SearchSpace
from archgen.strategies import Random, SearchStrategy, Successive
from archgen.study import FAILED, Trial

BAD = "avg_pool_3x3"


def value(space: SearchSpace, arch: Architecture) -> float:
    """Convolutions are good; pooling on the edge 1->2 is very bad."""
    return arch.ops.count("nor_conv_3x3") + 0.5 * arch.ops.count("nor_conv_1x1") - 6.0 * (arch.ops[3] == BAD)


def run(strategy: SearchStrategy, budget: int, batch: int = 5, **more: float) -> list[Trial]:
    while len(strategy.trials) < budget:
        asked = strategy.ask(min(batch, budget - len(strategy.trials)))
        start = len(strategy.trials)
        strategy.tell(
            [Trial(start + i, a, {"acc": value(strategy.space, a), **more}, 0.0) for i, a in enumerate(asked)]
        )
    return strategy.trials


def make(space: SearchSpace, **options: float) -> Successive:
    return Successive(space, [maximize("acc")], **{"initial": 60, "top": 10, "pool": 200, **options})


def test_a_round_asks_for_what_the_trees_like_best_of_the_pool(space: SearchSpace) -> None:
    strategy = make(space, keep=1.0)
    trials = run(strategy, 60)
    asked = strategy.ask(10)
    trees = GradientBoosting(space, "acc").fit([t.arch for t in trials], np.array([t.values["acc"] for t in trials]))
    pool = [a for a in space.sample(200, np.random.default_rng([0, 60, 1])) if a not in {t.arch for t in trials}]
    liked = np.sort(trees.predict(list(dict.fromkeys(pool))).mean)[::-1]
    assert sorted(trees.predict(asked).mean, reverse=True) == pytest.approx(liked[:10].tolist())


def test_a_round_keeps_its_trees_until_it_is_over(space: SearchSpace) -> None:
    """Asked two by two, with any values in between, a round proposes what it would at once; then come new trees."""
    strategy = make(space)
    run(strategy, 60)
    whole = strategy.ask(10)
    for start in range(0, 10, 2):
        asked = strategy.ask(2)
        assert asked == whole[start : start + 2]
        strategy.tell([Trial(60 + start + i, a, {"acc": -float(i)}, 0.0) for i, a in enumerate(asked)])
    again = make(space)
    again.tell(strategy.trials[:65])
    assert again.ask(5) == whole[5:]
    assert not set(strategy.ask(10)) & set(whole)


def test_a_batch_ends_with_its_round(space: SearchSpace) -> None:
    strategy = make(space)
    assert len(strategy.ask(100)) == 60
    run(strategy, 67, batch=67)
    assert len(strategy.ask(10)) == 3


def test_what_is_planted_bad_is_pruned(space: SearchSpace) -> None:
    strategy = make(space)
    trials = run(strategy, 60)
    smaller = strategy._pruned(trials)
    assert isinstance(smaller, RestrictedSpace)
    assert BAD not in smaller.variables.get("1->2", ())
    assert all(arch.ops[3] != BAD for arch in strategy.ask(10))
    assert make(space, keep=1.0)._pruned(trials) is space
    assert strategy._pruned(trials[:19]) is space


def test_minimising_prunes_the_other_end(space: SearchSpace) -> None:
    strategy = Successive(space, [minimize("acc")], initial=60, top=10, pool=200)
    run(strategy, 60)
    assert sum(arch.ops[3] == BAD for arch in strategy.ask(10)) >= 8


def test_predicted_violations_come_last(space: SearchSpace) -> None:
    """The bound forbids every live 3x3 convolution, which the values like best; it is learned from 100 labels."""
    strategy = Successive(space, [maximize("acc"), at_most("ms", 1.5)], initial=100, top=10, pool=300)
    archs = list(dict.fromkeys(space.sample(140, np.random.default_rng(0))))[:100]

    def ms(arch: Architecture) -> float:
        return 1.0 + space.simplify(arch).ops.count("nor_conv_3x3")

    strategy.tell([Trial(i, a, {"acc": value(space, a), "ms": ms(a)}, 0.0) for i, a in enumerate(archs)])
    assert np.mean([ms(arch) <= 1.5 for arch in strategy.ask(10)]) >= 0.8


def test_with_nothing_but_failures_it_stays_random(space: SearchSpace) -> None:
    strategy, control = make(space, initial=5), Random(space, [maximize("acc")])
    archs = space.sample(5, np.random.default_rng(0))
    for each in (strategy, control):
        each.tell([Trial(i, arch, {}, 0.0, FAILED) for i, arch in enumerate(archs)])
    assert len(strategy.ask(4)) == 4


def test_it_beats_random_search(space: SearchSpace) -> None:
    """Mean value of what is asked for after the first round, 2 seeds, each ahead of random ones by one convolution."""
    for seed in range(2):
        strategy = Successive(space, [maximize("acc")], initial=30, top=10, pool=200, seed=seed)
        trials = run(strategy, 60)
        found = [t.values["acc"] for t in trials]
        assert np.mean(found[30:]) > np.mean(found[:30]) + 1.0


@pytest.mark.parametrize("options", [{"initial": 1}, {"top": 0}, {"pool": 5}, {"keep": 0.0}])
def test_sizes_that_make_no_sense_are_refused(space: SearchSpace, options: dict[str, float]) -> None:
    with pytest.raises(InvalidObjective, match=r"initial >= 2, 1 <= top <= pool and keep in \(0, 1\]"):
        make(space, **options)
