"""RoBoT: the weights are optimised by what ranks first under them, then the best weights are followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from archgen.errors import ArchgenError, InvalidTable
from archgen.graph import Architecture
from archgen.objectives import at_most, maximize, minimize
from archgen.predictors import pretrained_free_labels
from archgen.spaces import SearchSpace
from archgen.strategies import Random, Robot, SearchStrategy
from archgen.study import FAILED, Trial

Table = dict[Architecture, list[float]]


@pytest.fixture(scope="module")
def table(space: SearchSpace) -> Table:
    """200 architectures with three proxies."""
    archs = list(dict.fromkeys(space.sample(220, np.random.default_rng(1))))[:200]
    values = np.random.default_rng(2).normal(size=(200, 3))
    return {arch: row.tolist() for arch, row in zip(archs, values, strict=True)}


def scaled(table: Table) -> np.ndarray:
    return np.column_stack([(rankdata(column) - 1) / (len(table) - 1) for column in np.array(list(table.values())).T])


def hidden(table: Table, weights: Sequence[float]) -> dict[Architecture, float]:
    """The truth that the tests search for: a weighted sum of the proxies' ranks."""
    return dict(zip(table, (scaled(table) @ np.array(weights)).tolist(), strict=True))


def run(strategy: SearchStrategy, truth: Mapping[Architecture, float], budget: int, batch: int = 1) -> list[Trial]:
    while len(strategy.trials) < budget:
        asked = strategy.ask(min(batch, budget - len(strategy.trials)))
        strategy.tell(
            [Trial(len(strategy.trials) + i, arch, {"acc": truth[arch]}, 0.0) for i, arch in enumerate(asked)]
        )
    return strategy.trials


@pytest.mark.parametrize("weights", [(0.9, -0.4, 0.2), (-0.3, 0.1, 0.8), (-0.5, -0.5, -0.6)])
def test_it_finds_the_best_where_the_truth_is_a_weighted_sum(
    space: SearchSpace, table: Table, weights: tuple[float, ...]
) -> None:
    """Against the maximum over all candidates; a random search of 25 of 200 finds it with probability 1/8."""
    truth = hidden(table, weights)
    trials = run(Robot(space, [maximize("acc")], proxies=table, iterations=25), truth, 25)
    assert max(trial.values["acc"] for trial in trials) == max(truth.values())


def test_a_wish_to_minimise_turns_the_weights(space: SearchSpace, table: Table) -> None:
    truth = hidden(table, (0.9, -0.4, 0.2))
    trials = run(Robot(space, [minimize("acc")], proxies=table, iterations=25), truth, 25)
    assert min(trial.values["acc"] for trial in trials) == min(truth.values())


def test_every_step_asks_for_what_its_weights_rank_first(space: SearchSpace, table: Table) -> None:
    robot = Robot(space, [maximize("acc")], proxies=table, iterations=8)
    run(robot, hidden(table, (0.9, -0.4, 0.2)), 8)
    archs, ranks = list(table), scaled(table)
    assert 2 <= len(robot._path) <= 8
    for step in robot._path:
        assert np.abs(step.weights).max() <= 1
        assert int(np.argmax(ranks @ step.weights)) == step.candidate
    first = list(dict.fromkeys(archs[step.candidate] for step in robot._path))
    assert [trial.arch for trial in robot.trials][: len(first)] == first


def test_after_the_iterations_the_best_weights_are_followed_down(space: SearchSpace, table: Table) -> None:
    truth = hidden(table, (0.9, -0.4, 0.2))
    robot = Robot(space, [maximize("acc")], proxies=table, iterations=6)
    run(robot, truth, 6)
    archs, ranks = list(table), scaled(table)
    best = max(robot._path, key=lambda step: truth[archs[step.candidate]])
    told = {trial.arch for trial in robot.trials}
    order = [archs[i] for i in np.argsort(-(ranks @ best.weights), kind="stable") if archs[i] not in told]
    assert robot.ask(5) == order[:5]


def test_weights_that_rank_a_known_one_first_cost_no_evaluation(space: SearchSpace) -> None:
    """With one proxy there are two rankings: two candidates are asked for, then the better end is followed."""
    archs = list(dict.fromkeys(space.sample(60, np.random.default_rng(1))))[:50]
    proxies = {arch: [float(i)] for i, arch in enumerate(archs)}
    robot = Robot(space, [maximize("acc")], proxies=proxies, iterations=12)
    trials = run(robot, {arch: -float(i) for i, arch in enumerate(archs)}, 12)
    explored = {trial.arch for trial in trials[:2]}
    assert explored == {archs[0], archs[-1]}
    assert [trial.arch for trial in trials[2:]] == archs[1:11]


def test_bounds_and_failures_count(space: SearchSpace, table: Table) -> None:
    """What violates the bound or fails is worse than all else, so weights lead away from it."""
    truth = hidden(table, (1.0, 0.0, 0.0))
    cost = hidden(table, (0.0, 1.0, 0.0))
    robot = Robot(space, [maximize("acc"), at_most("cost", 0.5)], proxies=table, iterations=20)
    for i in range(20):
        (arch,) = robot.ask(1)
        values = {"acc": truth[arch], "cost": cost[arch]}
        robot.tell([Trial(i, arch, {}, 0.0, FAILED) if i == 1 else Trial(i, arch, values, 0.0)])
    good = [t.values["acc"] for t in robot.complete if t.values["cost"] <= 0.5]
    feasible = sorted((truth[arch] for arch in table if cost[arch] <= 0.5), reverse=True)
    assert max(good) >= feasible[5]


@pytest.mark.parametrize("batch", [1, 3])
def test_told_in_other_portions_it_goes_on_in_the_same_way(space: SearchSpace, table: Table, batch: int) -> None:
    truth = hidden(table, (0.9, -0.4, 0.2))
    lived = Robot(space, [maximize("acc")], proxies=table, iterations=10)
    trials = run(lived, truth, 14, batch)
    for portion in (1, 5, 14):
        resumed = Robot(space, [maximize("acc")], proxies=table, iterations=10)
        for start in range(0, 14, portion):
            resumed.tell(trials[start : start + portion])
        assert resumed.ask(4) == lived.ask(4)


def test_a_frame_and_a_mapping_are_the_same_table(space: SearchSpace, table: Table) -> None:
    frame = pd.DataFrame(list(table.values()), columns=["a", "b", "c"])
    frame.insert(0, "arch", [space.format(arch) for arch in table])
    frame["note"] = "not a proxy"
    truth = hidden(table, (0.9, -0.4, 0.2))
    asked = [
        [t.arch for t in run(Robot(space, [maximize("acc")], proxies=given, iterations=6), truth, 6)]
        for given in (frame, table)
    ]
    assert asked[0] == asked[1]


def test_nan_ranks_below_everything(space: SearchSpace, table: Table) -> None:
    proxies = {arch: [np.nan if i % 2 else float(i)] for i, arch in enumerate(table)}
    archs = list(table)
    robot = Robot(space, [maximize("acc")], proxies=proxies, iterations=6)
    run(robot, {arch: float(i) for i, arch in enumerate(archs)}, 6)
    told = {trial.arch for trial in robot.trials}
    assert robot.ask(3) == [archs[i] for i in range(198, -1, -2) if archs[i] not in told][:3]


def test_without_a_table_size_ranks_a_sample(space: SearchSpace) -> None:
    robot = Robot(space, [maximize("acc")], pool=50, seed=4)
    sample = dict.fromkeys(space.sample(50, np.random.default_rng(4)))
    assert set(robot._archs) == set(sample)
    counts = np.array([[space.count(arch)[m] for m in ("params", "flops")] for arch in robot._archs])
    assert robot._metrics[:, 0].argmax() == counts[:, 0].argmax()
    assert np.corrcoef(rankdata(counts[:, 1]), robot._metrics[:, 1])[0, 1] == pytest.approx(1)


def test_candidates_that_run_out_are_followed_by_the_space(space: SearchSpace) -> None:
    (only,) = space.sample(1, np.random.default_rng(0))
    robot = Robot(space, [maximize("acc")], proxies={only: [1.0]})
    assert robot.ask(1) == [only]
    robot.tell([Trial(0, only, {"acc": 1.0}, 0.0)])
    assert len(robot.ask(3)) == 3


@pytest.mark.parametrize(
    ("proxies", "message"),
    [
        (pd.DataFrame({"params": [1.0]}), "needs a column arch, got params"),
        (pd.DataFrame({"arch": []}), "needs rows and numeric columns, got 0 and 0"),
        ({}, "needs rows and numeric columns"),
    ],
)
def test_tables_without_proxies_are_refused(space: SearchSpace, proxies: pd.DataFrame | Table, message: str) -> None:
    with pytest.raises(InvalidTable, match=message):
        Robot(space, [maximize("acc")], proxies=proxies)


def test_uneven_rows_and_empty_budgets_are_refused(space: SearchSpace) -> None:
    first, second = space.sample(2, np.random.default_rng(0))
    with pytest.raises(InvalidTable, match="as many values for each architecture"):
        Robot(space, [maximize("acc")], proxies={first: [1.0], second: [1.0, 2.0]})
    with pytest.raises(ArchgenError, match="at least 1 iteration"):
        Robot(space, [maximize("acc")], iterations=0)


def test_it_beats_random_search_on_the_published_proxies(space: SearchSpace, tables: Path) -> None:
    """NAS-Bench-201, CIFAR-10: mean best validation accuracy of 6 seeds at 20 evaluations, all seeds counted."""
    frame = pd.read_parquet(tables / "nasbench201" / "zero_cost_cifar10.parquet")
    accuracy = pd.read_parquet(tables / "nasbench201" / "accuracy.parquet").set_index("arch")["cifar10_val_acc"]
    archs = [space.parse(text) for text in frame["arch"]]
    truth = dict(zip(archs, accuracy.loc[frame["arch"]].tolist(), strict=True))
    proxies = dict(zip(archs, frame.drop(columns="arch").to_numpy(float), strict=True))

    def best(strategy: SearchStrategy) -> float:
        return max(trial.values["acc"] for trial in run(strategy, truth, 20))

    wishes = [maximize("acc")]
    ours = [best(Robot(space, wishes, seed=seed, proxies=proxies)) for seed in range(6)]
    listed = [best(Random(space, wishes, seed=s, screen=lambda a: [x in truth for x in a])) for s in range(6)]
    assert np.mean(ours) > np.mean(listed)


def test_free_labels_are_the_proxies_of_all_architectures_of_a_small_space(space: SearchSpace) -> None:
    labels = pretrained_free_labels(space)
    assert labels is not None
    strategy = Robot(space, [maximize("acc")], free_labels=labels, iterations=1)
    first = strategy.ask(1)[0]
    weights = np.random.default_rng([0, 0]).uniform(-1, 1, (1, len(labels.names)))[0]
    every = space.enumerate()
    ranks = rankdata(labels(every), axis=0)
    assert first == every[int(np.argmax((ranks - 1) / (len(every) - 1) @ weights))]
