"""Losses of neural predictors against closed forms, and their gradients."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from torch import Tensor

from archgen.predictors.ranking_losses import RANKING_LOSSES, DiffKendall, ListMLE, PairwiseHinge, soft_kendall

RANKING = [name for name in RANKING_LOSSES if name != "mse"]


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, generator=generator, dtype=torch.double)
    return x, 0.6 * x + torch.randn(12, generator=generator, dtype=torch.double)


@pytest.mark.parametrize("joint", [False, True])
def test_diff_kendall_tends_to_kendalls_tau(pair: tuple[Tensor, Tensor], joint: bool) -> None:
    x, y = pair
    tau = kendalltau(x.numpy(), y.numpy()).statistic
    errors = [abs(float(soft_kendall(x, y, sharpness, joint)) - tau) for sharpness in (0.1, 100.0, 1e6)]
    assert errors[0] > 0.05 > errors[1] > errors[2]
    assert errors[-1] < 1e-9


def test_diff_kendall_is_the_papers_differences_of_sigmoids(pair: tuple[Tensor, Tensor]) -> None:
    """Both forms, written as their authors' code has them, pair by pair."""
    x, y = pair
    separate, joint = [], []
    for i, j in itertools.combinations(range(len(x)), 2):
        dx, dy = 3.0 * (x[i] - x[j]), 3.0 * (y[i] - y[j])
        separate.append((dx.sigmoid() - (-dx).sigmoid()) * (dy.sigmoid() - (-dy).sigmoid()))
        joint.append(2 / (1 + torch.exp(-3.0 * (x[i] - x[j]) * (y[i] - y[j]))) - 1)
    assert float(soft_kendall(x, y, 3.0)) == pytest.approx(float(torch.stack(separate).mean()), rel=1e-12)
    assert float(soft_kendall(x, y, 3.0, joint=True)) == pytest.approx(float(torch.stack(joint).mean()), rel=1e-12)


def test_diff_kendall_counts_ties_as_nothing() -> None:
    x, y = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 0.0, 1.0])
    assert float(soft_kendall(x, y, 1e6)) == pytest.approx(2 / 3)


def test_hinge_of_three() -> None:
    """Pairs of the order 2 > 1 > 0: differences 0.5, -1 and -0.5 against a margin of 1."""
    scores = torch.tensor([1.0, 0.0, 0.5])
    loss = PairwiseHinge(margin=1.0)(scores, torch.tensor([0.0, 1.0, 2.0]))
    assert float(loss) == pytest.approx((0.5 + 2.0 + 1.5) / 3)


def test_hinge_leaves_ties_out() -> None:
    loss = PairwiseHinge(margin=1.0)(torch.tensor([0.0, 0.0, 3.0]), torch.tensor([1.0, 1.0, 2.0]))
    assert float(loss) == 0.0


def test_listmle_is_the_likelihood_of_drawing_without_replacement() -> None:
    scores, targets = torch.tensor([0.3, -0.2, 1.1]), torch.tensor([5.0, 9.0, 1.0])
    a, b, c = (math.exp(s) for s in (-0.2, 0.3, 1.1))  # in the order of the targets
    likelihood = a / (a + b + c) * b / (b + c)
    assert float(ListMLE()(scores, targets)) == pytest.approx(-math.log(likelihood) / 3)
    total = 0.0
    for order in itertools.permutations([3.0, 2.0, 1.0]):  # all orders are all that can happen
        total += math.exp(-3 * float(ListMLE()(scores.double(), torch.tensor(order).double())))
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize("name", list(RANKING_LOSSES))
def test_gradients_are_those_of_finite_differences(name: str, pair: tuple[Tensor, Tensor]) -> None:
    x, y = pair
    assert torch.autograd.gradcheck(lambda s: RANKING_LOSSES[name]()(s, y), (x.clone().requires_grad_(True),))


@pytest.mark.parametrize("name", list(RANKING_LOSSES))
def test_descent_brings_scores_into_order(name: str) -> None:
    """From random scores to a tau of at least 0.9 in 400 steps."""
    generator = torch.Generator().manual_seed(1)
    y = torch.randn(20, generator=generator)
    scores = torch.randn(20, generator=generator).requires_grad_(True)
    optimizer = torch.optim.Adam([scores], lr=0.05)
    loss = RANKING_LOSSES[name]()
    for _ in range(400):
        optimizer.zero_grad()
        loss(scores, y).backward()
        optimizer.step()
    assert kendalltau(scores.detach().numpy(), y.numpy()).statistic > 0.9


@pytest.mark.parametrize("name", RANKING)
def test_ranking_losses_ignore_a_common_shift(name: str, pair: tuple[Tensor, Tensor]) -> None:
    x, y = pair
    loss = RANKING_LOSSES[name]()
    assert float(loss(x + 3.0, y)) == pytest.approx(float(loss(x, y)))


@pytest.mark.parametrize("name", RANKING)
@pytest.mark.parametrize("targets", [[1.0], [2.0, 2.0]])
def test_without_an_order_there_is_no_gradient(name: str, targets: list[float]) -> None:
    scores = torch.tensor(np.arange(len(targets), dtype=float), requires_grad=True)
    RANKING_LOSSES[name]()(scores, torch.tensor(targets).double()).backward()
    assert scores.grad is not None
    assert bool((scores.grad == 0).all())


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="positive margin"):
        PairwiseHinge(0.0)
    with pytest.raises(ValueError, match="positive sharpness"):
        DiffKendall(-1.0)
