"""Balanced mixtures: the assignment is the cheapest even one, and training finds which architectures go together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from archgen.errors import InvalidOption, InvalidSpace
from archgen.spaces import SearchSpace
from archgen.supernets import make_supernet, mixture
from archgen.supernets.training import Plan
from archgen.supernets.training.balanced_mixture import BalancedMixture, balanced_assignment

NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
BATCH = (torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3)


def test_the_assignment_is_the_cheapest_of_all_even_ones() -> None:
    cost = np.random.default_rng(0).random((6, 3))
    count = np.full((6, 3), 4.0)
    even = [a for a in itertools.product(range(3), repeat=6) if np.bincount(a, minlength=3).tolist() == [2, 2, 2]]
    best = min(even, key=lambda a: cost[range(6), a].sum())
    assert balanced_assignment(cost * count, count).tolist() == list(best)


def test_a_set_that_is_best_for_all_gets_only_its_share() -> None:
    cost = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 1.5]])
    assert balanced_assignment(cost, np.ones((4, 2))).tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(("groups", "parts"), [(25, 4), (5, 4), (10, 4), (9, 4), (8, 4), (4, 4)])
def test_numbers_of_groups_differ_by_one_at_most(groups: int, parts: int) -> None:
    """Also where the last set is the worst for all."""
    cost = np.random.default_rng(0).random((groups, parts)) + np.arange(parts)
    sizes = np.bincount(balanced_assignment(cost, np.ones((groups, parts))).numpy(), minlength=parts)
    assert sorted(sizes.tolist(), reverse=True) == [len(share) for share in np.array_split(range(groups), parts)]


def test_what_was_never_tried_counts_as_the_mean_of_set_and_group() -> None:
    """By hand: means 1 overall, sets .75 / 1.5 (columns), group 2 is unseen in set 1: .5 + .. against the others."""
    total = np.array([[1.0, 0.0], [0.5, 1.5]])
    count = np.array([[1.0, 0.0], [1.0, 1.0]])  # group 0 in set 1: 1 + 1.5 - 1 = 1.5
    # even: (0, 1): 1 + 1.5 = 2.5, (1, 0): 1.5 + 0.5 = 2
    assert balanced_assignment(total, count).tolist() == [1, 0]


def test_a_step_counts_where_its_path_was_trained_and_trains_that_set_alone(space: SearchSpace) -> None:
    supernet, strategy = mixture(make_supernet(space, **NETWORK), 2), BalancedMixture(explore=1.0)
    strategy.prepare(supernet, Plan(24, 3, 2))
    loss = strategy.step(supernet.train(), BATCH, np.random.default_rng(3))["loss"]
    (row, column), *others = strategy.state()["count"].nonzero().tolist()
    assert not others
    assert float(strategy.state()["sum"][row, column]) == pytest.approx(loss)
    trained = [any(p.grad is not None for p in part.parameters()) for part in supernet.parts]
    assert trained == [column == 0, column == 1]


def test_groups_are_assigned_anew_after_each_epoch_and_not_before(space: SearchSpace) -> None:
    supernet, strategy = mixture(make_supernet(space, **NETWORK), 2), BalancedMixture()
    strategy.prepare(supernet, Plan(24, 3, 2))
    strategy.load_state(
        {"sum": torch.rand(25, 2).double(), "count": torch.ones(25, 2).double(), "steps": torch.tensor(0)}
    )
    before, rng = supernet.assignment.clone(), np.random.default_rng(0)
    for _ in range(2):
        strategy.step(supernet, BATCH, rng)
    assert torch.equal(supernet.assignment, before)
    sums, counts = strategy.state()["sum"].clone(), strategy.state()["count"].clone()
    strategy.step(supernet, BATCH, rng)
    assert not torch.equal(supernet.assignment, before)
    assert supernet.assignment.bincount().max() <= 13
    at = (strategy.state()["count"] * 2 - counts).nonzero()[0].tolist()
    assert float(strategy.state()["sum"][tuple(at)]) > float(sums[tuple(at)]) / 2  # halved with what was added


def test_one_set_of_weights_is_refused(space: SearchSpace) -> None:
    with pytest.raises(InvalidSpace, match="several sets of weights"):
        BalancedMixture().prepare(make_supernet(space, **NETWORK), Plan(1, 1, 1))


@pytest.mark.parametrize("explore", [0.0, 1.5])
def test_an_impossible_share_is_refused(explore: float) -> None:
    with pytest.raises(InvalidOption, match="explore in"):
        BalancedMixture(explore=explore)
