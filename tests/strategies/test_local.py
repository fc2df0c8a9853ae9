"""Local search: the whole neighbourhood or until better, uphill, and on from a local optimum."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from archgen.errors import InvalidObjective
from archgen.evaluators import TabularEvaluator
from archgen.graph import Architecture
from archgen.objectives import at_most, maximize, minimize
from archgen.spaces import CellSpace, SearchSpace
from archgen.strategies import LocalSearch
from archgen.study import FAILED, Study, Trial, search

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
Value = Callable[[Architecture], float]


@pytest.fixture
def tiny() -> CellSpace:
    """Three variables of three values: 27 points, each with six neighbours."""
    return CellSpace("tiny", 3, ROLES, NETWORK)


def additive(space: SearchSpace, seed: int = 0) -> Value:
    """Without local optima: from any point each variable can be bettered on its own."""
    weights = np.random.default_rng(seed).normal(size=(len(space.variables), 3))
    return lambda arch: float(sum(weights[v, c] for v, c in enumerate(space.to_choices(arch).values())))


def run(strategy: LocalSearch, value: Value, budget: int, batch: int = 1) -> list[Architecture]:
    while len(strategy.trials) < budget and (asked := strategy.ask(min(batch, budget - len(strategy.trials)))):
        told = [Trial(len(strategy.trials) + i, arch, {"acc": value(arch)}, 0.0) for i, arch in enumerate(asked)]
        strategy.tell(told)
    return [trial.arch for trial in strategy.trials]


def test_the_whole_neighbourhood_comes_before_the_step_to_its_best(tiny: CellSpace) -> None:
    """Algorithm 1 by hand: v, N(v), then what is new of N(best of N(v)), until nothing around is better."""
    value = additive(tiny)
    strategy = LocalSearch(tiny, [maximize("acc")], initial=1, until_better=False, restart=False)
    order = run(strategy, value, 27)
    centre, at = order[0], 1
    while True:
        around = tiny.neighbours(centre)
        new = [arch for arch in around if arch not in order[:at]]
        assert set(order[at : at + len(new)]) == set(new)
        at += len(new)
        best = max(around, key=value)
        if value(best) <= value(centre):
            break
        centre = best
    assert centre == max(tiny.enumerate(), key=value)
    assert at < 27


def test_until_better_moves_at_the_first_that_is_better(tiny: CellSpace) -> None:
    value = additive(tiny, seed=1)
    strategy = LocalSearch(tiny, [maximize("acc")], initial=1)
    (centre,) = strategy.ask(1)
    strategy.tell([Trial(0, centre, {"acc": value(centre)}, 0.0)])
    best = max(tiny.enumerate(), key=value)
    for i in range(1, 20):
        if centre == best:
            break
        (arch,) = strategy.ask(1)
        assert arch in tiny.neighbours(centre)
        strategy.tell([Trial(i, arch, {"acc": value(arch)}, 0.0)])
        known = [trial.arch for trial in strategy.trials]
        while better := [a for a in tiny.neighbours(centre) if a in known and value(a) > value(centre)]:
            centre = max(better, key=value)  # a known one is free
    assert centre == best


def test_neighbours_come_in_random_order(space: SearchSpace) -> None:
    (centre,) = space.sample(1, np.random.default_rng(0))
    orders = set()
    for seed in range(5):
        strategy = LocalSearch(space, [maximize("acc")], initial=1, seed=seed)
        strategy.tell([Trial(0, centre, {"acc": 1.0}, 0.0)])
        orders.add(tuple(strategy.ask(24)))
    assert len(orders) == 5
    assert {frozenset(order) for order in orders} == {frozenset(space.neighbours(centre))}


def test_the_first_centre_is_the_best_of_the_initial_ones(space: SearchSpace) -> None:
    archs = space.sample(3, np.random.default_rng(0))
    strategy = LocalSearch(space, [minimize("acc")], initial=3)
    strategy.tell([Trial(i, arch, {"acc": v}, 0.0) for i, (arch, v) in enumerate(zip(archs, (2, 1, 3), strict=True))])
    assert set(strategy.ask(24)) == set(space.neighbours(archs[1]))


@pytest.mark.parametrize("restart", [True, False])
def test_from_a_local_optimum_it_starts_anew_or_goes_on_with_the_next_best(space: SearchSpace, restart: bool) -> None:
    """The centre is better than all around it; of these the third is the best."""
    (centre,) = space.sample(1, np.random.default_rng(0))
    around = space.neighbours(centre)
    strategy = LocalSearch(space, [maximize("acc")], initial=1, restart=restart)
    told = [Trial(0, centre, {"acc": 9.0}, 0.0)]
    told += [Trial(i, arch, {"acc": 5.0 - abs(i - 3)}, 0.0) for i, arch in enumerate(around, 1)]
    strategy.tell(told[:-1])
    assert strategy.ask(4) == [around[-1]]  # a batch does not leave the neighbourhood
    strategy.tell(told[-1:])
    asked = strategy.ask(50)
    if restart:
        assert len(asked) == 1
        assert asked[0] not in around
    else:
        assert set(asked) == set(space.neighbours(around[2])) - {centre, *around}


def test_the_violation_of_a_bound_comes_before_the_objective(space: SearchSpace) -> None:
    archs = space.sample(2, np.random.default_rng(0))
    strategy = LocalSearch(space, [maximize("acc"), at_most("ms", 2.0)], initial=2)
    strategy.tell([Trial(0, archs[0], {"acc": 9.0, "ms": 3.0}, 0.0), Trial(1, archs[1], {"acc": 1.0, "ms": 1.0}, 0.0)])
    assert set(strategy.ask(24)) == set(space.neighbours(archs[1]))


def test_a_failure_is_never_moved_to(space: SearchSpace) -> None:
    (centre,) = space.sample(1, np.random.default_rng(0))
    strategy = LocalSearch(space, [maximize("acc")], initial=1)
    strategy.tell([Trial(0, centre, {"acc": 1.0}, 0.0)])
    (first,) = strategy.ask(1)
    strategy.tell([Trial(1, first, {}, 0.0, FAILED)])
    assert set(strategy.ask(24)) == set(space.neighbours(centre)) - {first}


def test_neighbours_that_the_screen_holds_back_are_left_out(space: SearchSpace) -> None:
    (centre,) = space.sample(1, np.random.default_rng(0))
    allowed = set(space.neighbours(centre)[:5]) | {centre}
    strategy = LocalSearch(space, [maximize("acc")], initial=1, screen=lambda archs: [a in allowed for a in archs])
    strategy.tell([Trial(0, centre, {"acc": 1.0}, 0.0)])
    assert set(strategy.ask(24)) == allowed - {centre}


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("options", [{}, {"until_better": False}, {"restart": False}])
def test_every_variant_finds_the_best_of_an_additive_space_and_then_all_of_it(
    tiny: CellSpace, options: dict[str, bool], batch: int
) -> None:
    value = additive(tiny, seed=2)
    order = run(LocalSearch(tiny, [maximize("acc")], initial=2, **options), value, 27, batch)
    assert sorted(map(tiny.format, order)) == sorted(map(tiny.format, tiny.enumerate()))
    assert order.index(max(order, key=value)) < 16


def test_no_initial_architecture_is_refused(space: SearchSpace) -> None:
    with pytest.raises(InvalidObjective, match="at least 1 initial architecture, got initial=0"):
        LocalSearch(space, [maximize("acc")], initial=0)


def test_it_finds_the_best_of_nasbench201_in_no_more_than_published(space: SearchSpace, tables: Path) -> None:
    """The paper: 127 evaluations on average until the best of CIFAR-100. Median of 9 seeds here (56), all counted."""
    metric, path = "cifar100_val_acc", tables / "nasbench201" / "accuracy.parquet"
    table = TabularEvaluator(space, path, needed=[metric])
    best = max(m.values[metric] for m in table.evaluate(table.architectures, seed=0))
    needed = []
    for seed in range(9):
        strategy = LocalSearch(space, [maximize(metric)], seed=seed)
        found = [t.values[metric] for t in search(Study(space, [maximize(metric)]), strategy, table, budget=400)]
        needed.append(found.index(best) + 1 if best in found else 400)
    assert np.median(needed) < 127
