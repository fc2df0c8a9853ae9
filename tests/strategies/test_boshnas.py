"""BOSHNAS over a list: what each draw proposes, bounds, and against random search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from archgen import spaces
from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.objectives import Objective, at_most, maximize, minimize
from archgen.spaces import SearchSpace
from archgen.strategies import BoshnasSearch, Random, SearchStrategy
from archgen.study import Trial


def values(space: SearchSpace, arch: Architecture) -> dict[str, float]:
    """`merit`: live convolutions, and more where a residual goes along; every edge has a taste of its own."""
    live = space.simplify(arch)
    large, small, skip = (live.ops.count(op) for op in ("nor_conv_3x3", "nor_conv_1x1", "skip_connect"))
    taste = np.random.default_rng(1).normal(0, 0.4, (6, 5))
    merit = large + 0.5 * small + 1.5 * min(large, 3) * min(skip, 2)
    merit += sum(taste[i][choice] for i, choice in enumerate(space.to_choices(live).values()))
    return {"merit": float(merit), "cost": 9.0 * large + small}


def tell(strategy: SearchStrategy, archs: Sequence[Architecture]) -> None:
    start = len(strategy.trials)
    strategy.tell([Trial(start + i, arch, values(strategy.space, arch), 0.0) for i, arch in enumerate(archs)])


def make(space: SearchSpace, wishes: Sequence[Objective] = (maximize("merit"),), **options: Any) -> BoshnasSearch:
    return BoshnasSearch(space, wishes, **{"initial": 4, "steps": 60, "ascent": 30, **options})


def taught(space: SearchSpace, wishes: Sequence[Objective] = (maximize("merit"),), **options: Any) -> BoshnasSearch:
    strategy = make(space, wishes, **options)
    tell(strategy, space.sample(40, np.random.default_rng(0)))
    return strategy


def test_before_enough_is_known_it_is_random(space: SearchSpace) -> None:
    strategy = make(space, initial=6, seed=3)
    assert strategy.ask(4) == Random(space, [maximize("merit")], seed=3).ask(4)
    tell(strategy, strategy.ask(4))
    assert strategy._objective._model is None
    tell(strategy, strategy.ask(4))
    assert len(strategy.ask(4)) == 4
    assert strategy._objective._model is not None


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("wish", [maximize("merit"), minimize("merit")])
def test_optima_are_better_than_most_of_what_was_seen(space: SearchSpace, wish: Objective, second_order: bool) -> None:
    """The mean of 8 uniform proposals would be better than this share of 40 draws with a chance below 0.06."""
    strategy = taught(space, [wish], alpha=0.0, beta=0.0, second_order=second_order)
    seen = [wish.sign * trial.values["merit"] for trial in strategy.trials]
    asked = [wish.sign * values(space, arch)["merit"] for arch in strategy.ask(8)]
    assert np.mean(asked) > np.quantile(seen, 0.7)


def test_an_optimum_is_the_new_candidate_nearest_to_the_best_end(space: SearchSpace) -> None:
    strategy = taught(space, alpha=0.0, beta=0.0)
    (first,) = strategy.ask(1)
    rng = strategy.rng()
    candidates, features = strategy._candidates(rng)
    rng.random(1)
    ends = strategy._ends(features, rng)
    assert candidates[int((features - ends[0]).abs().mean(1).argmin())] == first


def test_uncertainty_sampling_takes_the_most_uncertain_of_all(space: SearchSpace) -> None:
    strategy = taught(space, alpha=1.0, beta=0.0, aleatoric=0.0, epistemic=1.0)
    asked = strategy.ask(3)
    new = [arch for arch in space.enumerate() if arch not in {trial.arch for trial in strategy.trials}]
    _, std = strategy._objective.predict_normalised(new)
    assert asked == [new[i] for i in np.argsort(-std, kind="stable")[:3]]


def test_diversity_sampling_is_random(space: SearchSpace) -> None:
    """Of 60 random architectures about a fifth of the operations is each; learnt optima are mostly one operation."""
    asked = taught(space, alpha=0.0, beta=1.0).ask(60)
    counts = np.bincount([i for arch in asked for i in space.to_choices(arch).values()], minlength=5)
    assert counts == pytest.approx(72, abs=38)  # 5 standard deviations


def test_draws_follow_the_probabilities(space: SearchSpace) -> None:
    """Of 100 draws at alpha = 0.3, 30 are of the most uncertain, with a standard deviation of 4.6."""
    strategy = taught(space, alpha=0.3, beta=0.7)
    candidates, features = strategy._candidates(strategy.rng())
    order = strategy.ask(1) and strategy._uncertainty(features)
    most = {candidates[i] for i in order[:100]}
    assert len(most & set(strategy.ask(100))) == pytest.approx(30, abs=23)


def test_bounds_are_learnt_and_kept(space: SearchSpace) -> None:
    """Of uniform draws 48 % cost at most 9; merit pulls the other way."""
    bound = at_most("cost", 9.0)
    within = []
    for wishes in ([maximize("merit"), bound], [maximize("merit")]):
        asked = taught(space, wishes, alpha=0.0, beta=0.0).ask(8)
        within.append(sum(bound.met(values(space, arch)["cost"]) for arch in asked))
    assert within[0] >= 6 > within[1]


@pytest.mark.parametrize("name", ["nasbench101", "mobilenetv3"])
def test_a_space_that_can_not_be_listed_has_a_random_pool(name: str) -> None:
    space = spaces.load(name)
    strategy = make(space, [maximize("x")], pool=30, steps=10)
    archs = list(dict.fromkeys(space.sample(8, np.random.default_rng(0))))
    strategy.tell([Trial(i, arch, {"x": float(i)}, 0.0) for i, arch in enumerate(archs)])
    asked = strategy.ask(4)
    assert len(asked) == 4
    assert asked == strategy.ask(4)
    assert set(asked) <= set(strategy._candidates(strategy.rng())[0])


def test_the_ablations_reach_the_surrogate(space: SearchSpace) -> None:
    strategy = taught(space, heteroscedastic=False, embedding="neighbourhoods")
    strategy.ask(1)
    assert strategy._objective.model.npn is None
    assert strategy._objective.embedding == "neighbourhoods"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"alpha": 0.7, "beta": 0.7}, "alpha [+] beta <= 1, got 0.7 and 0.7"),
        ({"alpha": -0.1}, "alpha >= 0"),
        ({"restarts": 0}, "at least 1, got 4, 0, 30, 2000"),
    ],
)
def test_mistakes_are_told(space: SearchSpace, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ArchgenError, match=told):
        make(space, **options)


def test_it_beats_random_search(space: SearchSpace) -> None:
    """Mean best of 2 seeds at a budget of 24."""
    best: dict[str, list[float]] = {"ours": [], "random": []}
    for seed in range(2):
        for name, strategy in (
            ("ours", make(space, seed=seed, initial=8)),
            ("random", Random(space, [maximize("merit")], seed=seed)),
        ):
            for _ in range(6):
                tell(strategy, strategy.ask(4))
            best[name].append(max(trial.values["merit"] for trial in strategy.trials))
    assert np.mean(best["ours"]) > np.mean(best["random"]) + 0.5
