"""Ascent of an acquisition function over embeddings, and its end as a condition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from archgen.graph import Architecture
from archgen.spaces import SearchSpace
from archgen.surrogates import GaussianProcess, OptimumTilt, ascend, make_acquisition
from archgen.surrogates.problem import Problem

PEAK = torch.tensor([0.3, -0.6]).double()
BOX = torch.tensor([[-1.0, -1.0], [1.0, 1.0]]).double()


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def hill(X: Tensor) -> Tensor:
    return -((X[:, 0] - PEAK).square() * torch.tensor([1.0, 30.0])).sum(-1)


@pytest.mark.parametrize("second_order", [True, False])
def test_every_start_reaches_the_only_peak(second_order: bool) -> None:
    starts = torch.tensor([[0.9, 0.9], [-0.9, 0.1], [0.0, -0.9]]).double()
    ends, values = ascend(hill, starts, BOX, second_order=second_order, steps=200, generator=noise())
    assert torch.allclose(ends, PEAK.expand(3, 2), atol=0.02)
    assert torch.allclose(values, hill(ends[:, None]))


def test_second_order_needs_fewer_steps_where_curvatures_differ() -> None:
    starts = torch.tensor([[0.9, 0.9]]).double()
    second, first = (ascend(hill, starts, BOX, second_order=o, steps=12, generator=noise())[1] for o in (True, False))
    assert second.item() > first.item()


def test_the_end_lies_in_the_box() -> None:
    ends, _ = ascend(
        lambda X: X[:, 0].sum(-1) + X[:, 0].square().sum(-1), torch.zeros(1, 2).double(), BOX, generator=noise()
    )
    assert ends.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("second_order", [True, False])
def test_no_way_ends_lower_than_it_began(second_order: bool) -> None:
    """On a function of many peaks that a step overshoots."""

    def rugged(X: Tensor) -> Tensor:
        return (20 * X[:, 0]).sin().sum(-1)

    starts = torch.rand(16, 2, generator=noise()).double() * 2 - 1
    ends, values = ascend(rugged, starts, BOX, second_order=second_order, generator=noise())
    assert bool((values >= rugged(starts[:, None])).all())
    assert torch.allclose(values, rugged(ends[:, None]))


def test_the_same_seed_gives_the_same_end() -> None:
    starts = torch.tensor([[0.9, 0.9]]).double()

    def mixed(X: Tensor) -> Tensor:
        return -(X[:, 0, 0] + 2 * X[:, 0, 1] - 0.3).square() - X[:, 0].square().sum(-1)

    one, other = (ascend(mixed, starts, BOX, steps=10, generator=noise())[0] for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize("second_order", [True, False])
def test_it_ascends_a_gaussian_process(space: SearchSpace, rng: np.random.Generator, second_order: bool) -> None:
    archs = space.sample(30, rng)
    gp = GaussianProcess(space, "val_acc").fit(archs, np.array([a.ops.count("nor_conv_3x3") for a in archs], float))
    x = gp.features(archs)
    bound = make_acquisition("ucb", Problem([gp]), seed=0, kappa=1.0)
    box = torch.stack([x.min(0).values, x.max(0).values])
    _, values = ascend(bound, x[:4], box, second_order=second_order, steps=20, generator=noise())
    with torch.no_grad():
        assert bool((values > bound(x[:4, None])).all())


def test_the_tilt_is_a_gaussian_about_the_optimum_as_wide_as_the_nearest_tenth_is_far(
    known: Callable[..., Any], archs: list[Architecture]
) -> None:
    surrogate = known([[0.0, 6.0], [2.0, 4.0], [6.0, 0.0]])
    tilt = OptimumTilt(surrogate, torch.tensor([2.0, 3.0]).double(), surrogate.features(archs[:3]))
    assert tilt.length == pytest.approx(1.0)
    assert tilt(archs[:3]).tolist() == pytest.approx([-0.5 * 13, -0.5, -0.5 * 25])


def test_an_optimum_that_is_a_known_architecture_loses_nothing(
    known: Callable[..., Any], archs: list[Architecture]
) -> None:
    surrogate = known([[6.0, 0.0]])
    x = surrogate.features(archs[:1])
    assert OptimumTilt(surrogate, x[0], x)(archs[:1]).tolist() == [0.0]
