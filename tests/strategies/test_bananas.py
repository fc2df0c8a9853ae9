"""BANANAS: an ensemble on path encodings, independent Thompson sampling, and mutations of the best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, norm
from torch import Tensor

from archgen.errors import InvalidObjective
from archgen.evaluators import TabularEvaluator
from archgen.graph import Architecture
from archgen.objectives import at_most, maximize, minimize
from archgen.spaces import SearchSpace
from archgen.strategies import Bananas, Random
from archgen.strategies import bananas as module
from archgen.strategies.bananas import predict_ensemble
from archgen.study import Study, Trial, search


def told(space: SearchSpace, n: int, seed: int = 0) -> list[Trial]:
    archs = list(dict.fromkeys(space.sample(2 * n, np.random.default_rng(seed))))[:n]
    return [Trial(i, arch, {"acc": float(i), "ms": float(n - i)}, 0.0) for i, arch in enumerate(archs)]


def differences(space: SearchSpace, a: Architecture, b: Architecture) -> int:
    first, second = space.to_choices(a), space.to_choices(b)
    return sum(first[name] != second[name] for name in space.variables)


def test_the_ensemble_learns_what_adds_up_and_is_less_sure_elsewhere() -> None:
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.integers(0, 2, (140, 20))).float()
    targets = torch.stack([rows @ torch.from_numpy(rng.normal(size=20)).float() for _ in range(2)])
    targets = (targets - targets.mean(1, keepdim=True)) / targets.std(1, keepdim=True)
    noise = torch.Generator().manual_seed(0)
    found = predict_ensemble(rows[:100], targets[:, :100], rows, members=5, generator=noise)
    assert found.shape == (2, 5, 140)
    for k in range(2):
        assert kendalltau(found[k].mean(0)[100:], targets[k, 100:]).statistic > 0.6
        assert found[k].std(0)[100:].mean() > 1.5 * found[k].std(0)[:100].mean()


def test_the_same_generator_gives_the_same_networks() -> None:
    rows, targets = torch.eye(8), torch.linspace(-1, 1, 8)[None]
    found = [
        predict_ensemble(rows, targets, rows, members=2, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    ]
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()
    assert (found[0][0, 0] != found[0][0, 1]).any()


def test_thompson_draws_are_independent_normals_of_the_ensemble(
    space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two candidates of means 0.2 and 0 and spreads 0.3 and 0.4: the first leads with probability Phi(0.2 / 0.5).

    400 seeds: four standard errors are 0.1.
    """
    trials = told(space, 12)
    strategy = Bananas(space, [maximize("acc")])
    strategy.tell(trials)
    pair = list(dict.fromkeys(space.sample(9, np.random.default_rng(9))))[:2]
    members = np.array([[[0.2 - 0.3, -0.4], [0.2 + 0.3, 0.4]]])  # one metric, two networks, two candidates
    monkeypatch.setattr(module, "predict_ensemble", lambda *args, **options: members)
    first = [strategy._thompson(pair, trials, np.random.default_rng(seed))[0] == pair[0] for seed in range(400)]
    assert np.mean(first) == pytest.approx(norm.cdf(0.2 / 0.5), abs=0.1)


def test_draws_that_break_a_bound_come_last(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly any spread: the better of the two is predicted beyond the bound, the other within."""
    trials = told(space, 20)
    strategy = Bananas(space, [maximize("acc"), at_most("ms", 10.0)])
    strategy.tell(trials)
    pair = list(dict.fromkeys(space.sample(9, np.random.default_rng(9))))[:2]

    def predicted(rows: Tensor, targets: Tensor, others: Tensor, **options: Any) -> np.ndarray:
        assert targets.shape == (2, 20)
        return np.array([[[1.0, 0.0], [1.0, 0.0]], [[1.0, -1.0], [1.0, -1.0]]])

    monkeypatch.setattr(module, "predict_ensemble", predicted)
    assert strategy._thompson(pair, trials, np.random.default_rng(0)) == pair[::-1]


@pytest.mark.parametrize(("wish", "best"), [(maximize("acc"), slice(17, 20)), (minimize("acc"), slice(0, 3))])
def test_candidates_are_mutations_of_the_best(space: SearchSpace, wish: Any, best: slice) -> None:
    trials = told(space, 20)
    strategy = Bananas(space, [wish], candidates=30, mutated=3)
    strategy.tell(trials)
    parents = [trial.arch for trial in trials[best]]
    asked = strategy.ask(30)
    assert {min(differences(space, parent, arch) for parent in parents) for arch in asked} == {1}
    assert {min(range(3), key=lambda i: differences(space, parents[i], arch)) for arch in asked} == {0, 1, 2}


def test_features_are_paths_and_equal_for_equal_functions(space: SearchSpace) -> None:
    strategy = Bananas(space, [maximize("acc")])
    archs = space.sample(50, np.random.default_rng(0))
    rows = strategy.features(archs)
    assert rows.shape == (50, 1 + 3 + 9 + 27)
    assert set(rows.unique().tolist()) == {0.0, 1.0}
    assert (rows == strategy.features(space.simplified(archs))).all()


def test_the_first_architectures_are_random(space: SearchSpace) -> None:
    strategy, control = Bananas(space, [maximize("acc")]), Random(space, [maximize("acc")])
    assert strategy.ask(10) == control.ask(10)


@pytest.mark.parametrize("options", [{"initial": 1}, {"members": 1}, {"mutated": 0}, {"candidates": 5}])
def test_sizes_that_make_no_sense_are_refused(space: SearchSpace, options: dict[str, int]) -> None:
    with pytest.raises(InvalidObjective, match="initial and members of at least 2 and 1 <= mutated <= candidates"):
        Bananas(space, [maximize("acc")], **options)


def test_it_is_ahead_of_random_search_on_nasbench201(space: SearchSpace, tables: Path) -> None:
    """CIFAR-100, 50 evaluations by tens, mean of 2 seeds, all counted."""
    metric, path = "cifar100_val_acc", tables / "nasbench201" / "accuracy.parquet"
    table, wishes = TabularEvaluator(space, path, needed=[metric]), [maximize("cifar100_val_acc")]

    def best(trials: Sequence[Trial]) -> float:
        return max(trial.values[metric] for trial in trials)

    means = [
        np.mean(
            [best(search(Study(space, wishes), k(space, wishes, seed=s), table, budget=50, batch=10)) for s in range(2)]
        )
        for k in (Bananas, Random)
    ]
    assert means[0] > means[1] + 0.5
