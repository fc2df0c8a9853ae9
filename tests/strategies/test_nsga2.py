"""NSGA-II: generations, elitist survival by front and crowding, tournaments, and the early exit."""

from __future__ import annotations

import numpy as np
import pytest

from archgen.errors import InvalidObjective
from archgen.graph import Architecture
from archgen.objectives import Objective, at_most, maximize, minimize
from archgen.pareto import hypervolume
from archgen.predictors import Count
from archgen.spaces import SearchSpace
from archgen.strategies import NSGA2, Random, SearchStrategy
from archgen.study import FAILED, Trial

TWO = [maximize("acc"), minimize("ms")]


def told(archs: list[Architecture], values: list[tuple[float, float]], start: int = 0) -> list[Trial]:
    pairs = enumerate(zip(archs, values, strict=True), start)
    return [Trial(i, arch, {"acc": acc, "ms": ms}, 0.0) for i, (arch, (acc, ms)) in pairs]


def far_apart(space: SearchSpace, n: int) -> list[Architecture]:
    """Architectures that differ from each other in every choice, at most 5."""
    return [space.from_choices({name: (i + k) % 5 for i, name in enumerate(space.variables)}) for k in range(n)]


def brute_force_survivors(points: list[tuple[float, float]], n: int) -> set[int]:
    """Rank by how many rounds of removing the undominated it takes, then by the cuboid between the neighbours."""
    left, chosen = list(range(len(points))), []

    def beats(i: int, j: int) -> bool:
        (a, x), (b, y) = points[i], points[j]
        return a >= b and x <= y and (a > b or x < y)

    while len(chosen) < n:
        front = [i for i in left if not any(beats(j, i) for j in left)]
        left = [i for i in left if i not in front]
        if len(chosen) + len(front) > n:
            front.sort(key=lambda i: points[i][0])
            span = [max(points[i][m] for i in front) - min(points[i][m] for i in front) for m in (0, 1)]
            width = {front[0]: np.inf, front[-1]: np.inf}
            for before, i, after in zip(front[:-2], front[1:-1], front[2:], strict=True):
                width[i] = sum(abs(points[after][m] - points[before][m]) / span[m] for m in (0, 1))
            front = sorted(sorted(front), key=lambda i: -width[i])[: n - len(chosen)]
        chosen += front
    return set(chosen)


def test_the_survivors_are_those_of_the_brute_force_sort(space: SearchSpace) -> None:
    archs = list(dict.fromkeys(space.sample(60, np.random.default_rng(0))))[:40]
    for seed in range(20):
        points = [tuple(p) for p in np.random.default_rng(seed).normal(size=(40, 2)).tolist()]
        strategy = NSGA2(space, TWO, population=20)
        trials = told(archs, points)
        strategy.tell(trials[:20])
        order = [t.number for t in strategy._parents]
        assert sorted(order) == list(range(20))
        order += range(20, 40)
        strategy.tell(trials[20:])
        expected = brute_force_survivors([points[i] for i in order], 20)
        assert {t.number for t in strategy._parents} == {order[i] for i in expected}


def test_a_generation_is_as_many_trials_as_the_population(space: SearchSpace) -> None:
    archs = far_apart(space, 5)
    strategy = NSGA2(space, TWO, population=2)
    trials = told(archs, [(1.0, 9.0), (2.0, 9.0), (3.0, 9.0), (4.0, 9.0), (9.0, 1.0)])
    strategy.tell(trials[:3])
    assert {t.number for t in strategy._parents} == {0, 1}  # the third waits for its generation
    strategy.tell(trials[3:4])
    assert {t.number for t in strategy._parents} == {2, 3}
    strategy.tell(trials[4:])
    assert {t.number for t in strategy._parents} == {2, 3}


def test_a_tournament_prefers_the_better_front_then_the_emptier_place(space: SearchSpace) -> None:
    archs = list(dict.fromkeys(space.sample(9, np.random.default_rng(0))))[:5]
    strategy = NSGA2(space, TWO, population=5)
    trials = told(archs, [(0.0, 0.0), (4.0, 4.0), (9.0, 9.0), (1.0, 1.0), (0.0, 9.0)])  # the last is beaten by all
    places = strategy._places(trials)
    assert [places[i][0] for i in range(5)] == [0, 0, 0, 0, 1]
    assert sorted(range(5), key=places.__getitem__) == [0, 2, 1, 3, 4]  # 8/9 + 8/9 against 4/9 + 4/9
    rng = np.random.default_rng(0)
    winners = [strategy._tournament(places, rng) for _ in range(2000)]
    shares = [winners.count(i) / 2000 for i in (4, 3, 1)]
    assert shares == pytest.approx([0.0, 1 / 10, 2 / 10], abs=0.05)  # of 10 pairs; 0.05 is 5.6 standard deviations


def test_children_cross_and_change_the_parents(space: SearchSpace) -> None:
    """Parents differ in all 6 variables; a child has on average one changed variable, the others from a parent."""
    archs = far_apart(space, 2)
    strategy = NSGA2(space, TWO, population=2, crossover=1.0)
    strategy.tell(told(archs, [(1.0, 1.0), (2.0, 2.0)]))
    first, second = (space.to_choices(arch) for arch in archs)
    children = [space.to_choices(child) for child in strategy.ask(60)]
    strange = [sum(child[v] not in (first[v], second[v]) for v in space.variables) for child in children]
    mixed = [len({child[v] == first[v] for v in space.variables}) == 2 for child in children]
    assert 0.3 < np.mean(strange) < 1.5
    assert np.mean(mixed) > 0.5


def test_the_first_population_keeps_the_bounds_that_can_be_counted(space: SearchSpace) -> None:
    counts = sorted(space.count(space.simplify(a))["params"] for a in space.sample(200, np.random.default_rng(1)))
    bound = counts[20]  # a tenth of the space
    wishes = [*TWO, at_most("params", bound)]
    early = NSGA2(space, wishes, population=12).ask(12)
    assert all(space.count(space.simplify(a))["params"] <= bound for a in early)
    late = NSGA2(space, wishes, population=12, early_exit=[]).ask(12)
    assert any(space.count(space.simplify(a))["params"] > bound for a in late)


def test_a_bound_that_nothing_meets_ends_the_early_exit(space: SearchSpace) -> None:
    strategy = NSGA2(space, [*TWO, at_most("params", -1.0)], early_exit=[Count(space, "params")])
    assert len(strategy.ask(3)) == 3


def test_with_nothing_but_failures_the_search_stays_random(space: SearchSpace) -> None:
    strategy, control = NSGA2(space, TWO, population=3), Random(space, TWO)
    trials = [Trial(i, arch, {}, 0.0, FAILED) for i, arch in enumerate(far_apart(space, 3))]
    strategy.tell(trials)
    control.tell(trials)
    assert strategy.ask(4) == control.ask(4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population": 1}, "population of at least 2"),
        ({"crossover": 1.5}, r"crossover in \[0, 1\], got 20 and 1.5"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(space: SearchSpace, options: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidObjective, match=message):
        NSGA2(space, TWO, **options)


def test_an_early_exit_without_a_bound_is_refused(space: SearchSpace) -> None:
    with pytest.raises(InvalidObjective, match="predicts params, which no wish bounds"):
        NSGA2(space, TWO, early_exit=[Count(space, "params")])


def additive_values(space: SearchSpace, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {metric: rng.normal(size=(len(space.variables), 5)) for metric in ("acc", "ms")}


def run(strategy: SearchStrategy, space: SearchSpace, weights: dict[str, np.ndarray], budget: int) -> list[Trial]:
    while len(strategy.trials) < budget:
        asked = strategy.ask(10)
        chosen = space.choices(asked)
        strategy.tell(
            [
                Trial(
                    len(strategy.trials) + i,
                    arch,
                    {m: float(w[np.arange(6), c].sum()) for m, w in weights.items()},
                    0.0,
                )
                for i, (arch, c) in enumerate(zip(asked, chosen, strict=True))
            ]
        )
    return strategy.trials


@pytest.mark.parametrize("wishes", [TWO, TWO[:1]])
def test_it_beats_random_search(space: SearchSpace, wishes: list[Objective]) -> None:
    """Hypervolume over the worst values of the space, or the best value, after 120 trials; 5 seeds, each ahead."""
    for seed in range(5):
        weights = additive_values(space, seed)
        corner = [float(weights["acc"].min(1).sum()), float(-weights["ms"].max(1).sum())]
        volumes = []
        for strategy in (NSGA2(space, wishes, seed=seed), Random(space, wishes, seed=seed)):
            points = np.array([[t.values["acc"], -t.values["ms"]] for t in run(strategy, space, weights, 120)])
            volumes.append(hypervolume(points[:, : len(wishes)], corner[: len(wishes)]))
        assert volumes[0] > volumes[1]


def test_it_goes_the_same_way_told_in_other_portions(space: SearchSpace) -> None:
    lived = NSGA2(space, TWO, population=4)
    trials = run(lived, space, additive_values(space, 0), 20)
    for portion in (1, 7, 20):
        resumed = NSGA2(space, TWO, population=4)
        for start in range(0, 20, portion):
            resumed.tell(trials[start : start + portion])
        assert resumed.ask(5) == lived.ask(5)
