"""Bayesian optimisation over a list: what is asked for maximises the acquisition, and bounds and batches count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archgen.errors import InvalidObjective
from archgen.evaluators import TabularEvaluator
from archgen.graph import Architecture
from archgen.objectives import Objective, at_most, maximize, minimize
from archgen.pareto import hypervolume
from archgen.predictors.base import Floats
from archgen.spaces import CellSpace, SearchSpace
from archgen.strategies import Bayes, Random, SearchStrategy
from archgen.strategies.improvement import log_expected_improvement
from archgen.study import Study, Trial, search
from archgen.surrogates import GaussianProcess

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted", "avg_pool_3x3": "linear"}
NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
METRICS = ("acc", "ms")


@pytest.fixture(scope="module")
def small() -> CellSpace:
    """4^3 points."""
    return CellSpace("small", 3, ROLES, NETWORK)


def values(space: SearchSpace, seed: int = 0) -> dict[Architecture, dict[str, float]]:
    """Two metrics that add up over the choices of the simplified architecture, so that equal functions are equal."""
    rng = np.random.default_rng(seed)
    weights = {metric: rng.normal(size=(len(space.variables), 4)) for metric in METRICS}
    archs = space.enumerate()
    rows = space.simple_choices(archs)
    sums = {m: w[np.arange(w.shape[0]), rows].sum(1) for m, w in weights.items()}
    return {arch: {m: float(sums[m][i]) for m in METRICS} for i, arch in enumerate(archs)}


def told(space: SearchSpace, n: int) -> list[Trial]:
    truth = values(space)
    archs = [space.enumerate()[i] for i in np.random.default_rng(3).permutation(space.size)[:n]]
    return [Trial(i, arch, truth[arch], 0.0) for i, arch in enumerate(archs)]


def beliefs(
    space: SearchSpace, trials: list[Trial], metric: str, sign: int = 1, *, layers: bool = False
) -> tuple[list[Architecture], Floats, Floats, GaussianProcess]:
    """What a process of its own believes of everything that was not told; with layers where less of a metric counts."""
    process = GaussianProcess(space, metric, layers=layers, sizes=False)
    process.fit([t.arch for t in trials], np.array([sign * t.values[metric] for t in trials]))
    rest = [arch for arch in space.enumerate() if arch not in {t.arch for t in trials}]
    return rest, *process.predict_normalised(rest), process


@pytest.mark.parametrize("kappa", [0.0, 0.5, 5.0])
@pytest.mark.parametrize("wish", [maximize("acc"), minimize("ms")])
def test_one_at_a_time_it_asks_for_the_largest_upper_bound(small: CellSpace, wish: Objective, kappa: float) -> None:
    trials = told(small, 12)
    rest, mean, std, _ = beliefs(small, trials, wish.metric, wish.sign, layers=wish.sign < 0)
    strategy = Bayes(small, [wish], kappa=kappa)
    strategy.tell(trials)
    (asked,) = strategy.ask(1)
    assert (mean + kappa * std)[rest.index(asked)] == pytest.approx((mean + kappa * std).max())


def test_logei_asks_for_the_largest_expected_improvement(small: CellSpace) -> None:
    trials = told(small, 12)
    rest, mean, std, process = beliefs(small, trials, "acc")
    best = max(process.normalise([t.values["acc"] for t in trials]))
    gain = log_expected_improvement(mean, std, best)
    strategy = Bayes(small, [maximize("acc")], acquisition="logei")
    strategy.tell(trials)
    (asked,) = strategy.ask(1)
    assert gain[rest.index(asked)] == pytest.approx(gain.max())


def test_a_batch_is_chosen_as_if_its_first_were_told_as_believed(small: CellSpace) -> None:
    trials = told(small, 12)
    rest, mean, std, process = beliefs(small, trials, "acc")
    strategy = Bayes(small, [maximize("acc")], kappa=20.0)
    strategy.tell(trials)
    asked = strategy.ask(4)
    greedy: list[Architecture] = []
    for _ in range(4):
        surer = process.believing(greedy).predict_normalised(rest)[1] if greedy else std
        bound = np.where([arch in greedy for arch in rest], -np.inf, mean + 20.0 * surer)
        assert bound[rest.index(asked[len(greedy)])] == pytest.approx(bound.max())
        greedy.append(asked[len(greedy)])
    at_once = [rest[i] for i in np.argsort(-(mean + 20.0 * std), kind="stable")[:4]]
    assert set(asked) != set(at_once)  # without that they crowd together


def test_the_upper_bound_counts_where_the_bounds_are_likely_met(small: CellSpace) -> None:
    trials = told(small, 20)
    rest, mean, std, _ = beliefs(small, trials, "acc", layers=True)
    limits = beliefs(small, trials, "ms", layers=True)[3]
    wish = at_most("ms", limits.predict([rest[int(np.argmax(mean + 0.5 * std))]]).mean[0] - 0.5)
    likely = limits.log_probability(rest, wish) >= np.log(0.5)
    strategy = Bayes(small, [maximize("acc"), wish])
    strategy.tell(trials)
    (asked,) = strategy.ask(1)
    bound = mean + 0.5 * std
    assert 0 < likely.sum() < len(rest)
    assert bound[likely].max() < bound.max()  # else the test shows nothing
    assert likely[rest.index(asked)]
    assert bound[rest.index(asked)] == pytest.approx(bound[likely].max())


def test_expected_improvement_is_weighed_by_the_probability_to_meet_the_bounds(small: CellSpace) -> None:
    trials = told(small, 20)
    rest, mean, std, process = beliefs(small, trials, "acc", layers=True)
    limits = beliefs(small, trials, "ms", layers=True)[3]
    bound = sorted(trial.values["ms"] for trial in trials)[3]
    wish = at_most("ms", bound)
    best = max(process.normalise([trial.values["acc"] for trial in trials if trial.values["ms"] <= bound]))
    log_p = limits.log_probability(rest, wish)
    gain = log_expected_improvement(mean, std, best)
    strategy = Bayes(small, [maximize("acc"), wish], acquisition="logei")
    strategy.tell(trials)
    (asked,) = strategy.ask(1)
    assert (gain + log_p)[rest.index(asked)] == pytest.approx((gain + log_p).max())
    assert gain.argmax() != (gain + log_p).argmax()  # else the test shows nothing


def test_until_something_is_likely_the_likeliest_to_meet_the_bounds_is_asked_for(small: CellSpace) -> None:
    trials, wish = told(small, 20), at_most("ms", -50.0)
    rest, *_, process = beliefs(small, trials, "ms", layers=True)
    log_p = process.log_probability(rest, wish)
    strategy = Bayes(small, [maximize("acc"), wish])
    strategy.tell(trials)
    (asked,) = strategy.ask(1)
    assert log_p.max() < np.log(0.5)
    assert log_p[rest.index(asked)] == pytest.approx(log_p.max())


def run(strategy: SearchStrategy, truth: dict[Architecture, dict[str, float]], budget: int, batch: int) -> list[Trial]:
    while len(strategy.trials) < budget:
        asked = strategy.ask(batch)
        strategy.tell([Trial(len(strategy.trials) + i, arch, truth[arch], 0.0) for i, arch in enumerate(asked)])
    return strategy.trials


def test_several_directions_find_the_front_before_random_search_does(small: CellSpace) -> None:
    """Hypervolume after 24 of 64 points, of all that the whole space has: at least 99 %, and ahead in each seed."""
    wishes = [maximize("acc"), minimize("ms")]
    for seed in range(2):
        truth = values(small, seed)
        signed = {arch: (v["acc"], -v["ms"]) for arch, v in truth.items()}
        corner = np.min(list(signed.values()), 0)
        whole = hypervolume(list(signed.values()), corner)
        share = []
        for strategy in (Bayes(small, wishes, seed=seed, initial=8), Random(small, wishes, seed=seed)):
            points = [signed[trial.arch] for trial in run(strategy, truth, 24, 8)]
            share.append(hypervolume(points, corner) / whole)
        assert share[0] > 0.99
        assert share[0] > share[1]


def test_a_large_space_gives_neighbours_of_the_best_and_random_ones(space: SearchSpace) -> None:
    assert isinstance(space, CellSpace)
    huge = CellSpace("huge", 6, space.roles, NETWORK)
    archs = huge.sample(20, np.random.default_rng(0))
    strategy = Bayes(huge, [maximize("acc")], pool=50)
    trials = [Trial(i, arch, {"acc": float(i)}, 0.0) for i, arch in enumerate(archs)]
    strategy.tell(trials)
    candidates, twins = strategy._candidates(trials, np.random.default_rng(0))
    near = [arch for best in archs[:-6:-1] for arch in huge.neighbours(best)]
    assert set(near) <= set(candidates)
    assert len(candidates) <= len(near) + 50
    rows = strategy._values[0].features(candidates)
    assert (rows[twins] == rows).all()
    assert len(set(twins.tolist())) == len(np.unique(rows, axis=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"acquisition": "pi"}, "acquisition ucb or logei, got 'pi'"),
        ({"kappa": -1.0}, "kappa >= 0, initial >= 2 and pool >= 1, got -1, 10 and 1000"),
        ({"initial": 1}, "initial >= 2"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(space: SearchSpace, options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidObjective, match=message):
        Bayes(space, [maximize("acc")], **options)


def test_it_is_ahead_of_random_search_on_nasbench201(space: SearchSpace, tables: Path) -> None:
    """CIFAR-100, 40 evaluations by tens, mean of 2 seeds, all counted."""
    metric, path = "cifar100_val_acc", tables / "nasbench201" / "accuracy.parquet"
    table, wishes = TabularEvaluator(space, path, needed=[metric]), [maximize(metric)]
    means = []
    for kind in (Bayes, Random):
        runs = [search(Study(space, wishes), kind(space, wishes, seed=s), table, budget=40, batch=10) for s in range(2)]
        means.append(np.mean([max(trial.values[metric] for trial in run) for run in runs]))
    assert means[0] > means[1] + 0.5
