"""ShiftNAS: bands of FLOPs, and probabilities that follow what training gains in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archgen.errors import InvalidOption, InvalidSpace
from archgen.graph import Architecture
from archgen.spaces import CellSpace, SearchSpace
from archgen.supernets import CellSupernet
from archgen.supernets.training import Plan, ShiftNAS
from archgen.supernets.training.shiftnas import draw_by_rejection

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
SPACE = CellSpace("small", 3, ROLES, NETWORK)
BATCH = (torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3)


def prepared(**arguments: int) -> tuple[ShiftNAS, CellSupernet]:
    strategy = ShiftNAS(**{"bands": 3, "pool": 4, **arguments})  # type: ignore[arg-type]
    supernet = CellSupernet(SPACE, NETWORK).train()
    strategy.prepare(supernet, Plan(images=16, steps=2, epochs=3))
    return strategy, supernet


def test_pools_lie_in_bands_of_equal_width_over_the_range_of_flops() -> None:
    strategy, _ = prepared()
    flops = [SPACE.count(arch)["flops"] for arch in SPACE.enumerate()]
    edges = np.linspace(min(flops), max(flops), 4)
    assert len(strategy.pools) == 3
    for band, pool in enumerate(strategy.pools):
        assert len(set(pool)) == len(pool) <= 4
        for arch in pool:
            assert edges[band] <= SPACE.count(arch)["flops"] <= edges[band + 1]


def test_pools_and_the_step_that_draws_them_know_nothing_of_each_other() -> None:
    """A resumed training draws them in another step: its dropout must be the same, and so must they, in bf16 too."""

    def draw(space: SearchSpace, low: float, high: float, n: int, seed: int) -> list[Architecture]:
        torch.rand(1)
        assert not torch.is_autocast_enabled("cpu")
        return draw_by_rejection(space, low, high, n, seed)

    strategy, _ = prepared()
    strategy.draw = draw
    before = torch.random.get_rng_state()
    with torch.autocast("cpu", torch.bfloat16):
        assert strategy.pools
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_resumed_training_has_the_pools_and_does_not_draw_them_again() -> None:
    def never(space: SearchSpace, low: float, high: float, n: int, seed: int) -> list[Architecture]:
        raise AssertionError("drawn again")

    def largest(space: SearchSpace, low: float, high: float, n: int, seed: int) -> list[Architecture]:
        most = max(SPACE.count(arch)["flops"] for arch in SPACE.enumerate())
        return draw_by_rejection(space, low, high, n, seed) if high == most else []

    strategy, supernet = prepared()
    strategy.draw = largest
    assert (strategy.state()["pools"] == -1).all(), "before the first step there are none"
    strategy.step(supernet, BATCH, np.random.default_rng(0))
    resumed, _ = prepared()
    resumed.draw = never
    resumed.load_state(strategy.state())
    assert resumed.pools == strategy.pools
    assert [len(pool) > 0 for pool in resumed.pools] == [False, False, True]
    assert torch.equal(resumed.state()["pools"], strategy.state()["pools"])
    fresh, _ = prepared()
    fresh.load_state(prepared()[0].state())
    assert fresh.pools == prepared()[0].pools, "resumed from before the first step, they are drawn"


def test_an_empty_band_is_left_out() -> None:
    """`draw` finds nothing in the middle."""
    flops = [SPACE.count(arch)["flops"] for arch in SPACE.enumerate()]

    def draw(space: SearchSpace, low: float, high: float, n: int, seed: int) -> list[Architecture]:
        return space.sample(2, np.random.default_rng(seed)) if low == min(flops) or high == max(flops) else []

    strategy = ShiftNAS(bands=3, draw=draw)
    supernet = CellSupernet(SPACE, NETWORK).train()
    strategy.prepare(supernet, Plan(images=1000, steps=100, epochs=3))
    rng = np.random.default_rng(0)
    for _ in range(40):
        strategy.step(supernet, BATCH, rng)
    trained = strategy.state()["_count"].tolist()
    assert trained[1] == 0
    assert min(trained[0], trained[2]) > 10


def test_probabilities_follow_the_relative_gain_since_the_band_was_trained_last() -> None:
    """By hand, epsilon .3: losses 2 -> 1, 2 -> 1.8 and 2 -> 2.2 gain .5, .1 and nothing."""
    strategy, _ = prepared()
    epoch(strategy, [2.0, 2.0, 2.0])
    assert strategy.probabilities.tolist() == pytest.approx([1 / 3] * 3)
    epoch(strategy, [1.0, 1.8, 2.2])
    assert strategy.probabilities.tolist() == pytest.approx([0.7 * 5 / 6 + 0.1, 0.7 / 6 + 0.1, 0.1])


def test_a_band_that_was_not_drawn_keeps_its_loss_and_counts_as_the_others_do() -> None:
    strategy, _ = prepared()
    epoch(strategy, [2.0, 2.0, 2.0])
    epoch(strategy, [1.0, None, 1.8])  # gains .5, .3 and .1
    assert strategy.probabilities.tolist() == pytest.approx([0.7 * p + 0.1 for p in (5 / 9, 3 / 9, 1 / 9)])
    epoch(strategy, [1.0, 1.0, 1.8])  # since the first: .5
    assert strategy.probabilities.tolist() == pytest.approx([0.1, 0.8, 0.1])


def test_where_nothing_gains_probabilities_stay() -> None:
    strategy, _ = prepared()
    epoch(strategy, [2.0, 2.0, 2.0])
    epoch(strategy, [1.0, 1.8, 2.0])
    before = strategy.probabilities.clone()
    epoch(strategy, [1.5, 1.8, 3.0])
    assert torch.equal(strategy.probabilities, before)


def epoch(strategy: ShiftNAS, losses: list[float | None]) -> None:
    """As if each band had been trained twice with its loss, or not at all."""
    state = strategy.state()
    state["_sum"] = torch.tensor([0.0 if loss is None else 2 * loss for loss in losses]).double()
    state["_count"] = torch.tensor([0.0 if loss is None else 2.0 for loss in losses]).double()
    strategy.load_state(state)
    strategy._update()


def test_a_step_trains_an_architecture_of_the_band_that_is_drawn_and_epochs_end_with_an_update() -> None:
    strategy, supernet = prepared()
    strategy.load_state({**strategy.state(), "probabilities": torch.tensor([0.0, 0.0, 1.0]).double()})
    first = strategy.step(supernet, BATCH, np.random.default_rng(0))["loss"]
    assert strategy.state()["_count"].tolist() == [0, 0, 1]
    second = strategy.step(supernet, BATCH, np.random.default_rng(1))["loss"]
    assert strategy.state()["_count"].tolist() == [0, 0, 0]
    assert float(strategy.state()["_before"][2]) == pytest.approx((first + second) / 2)


def test_rejection_gives_up_on_what_is_rare(space: SearchSpace) -> None:
    assert draw_by_rejection(space, 1e18, 2e18, 3, 0) == []
    found = draw_by_rejection(space, 0, 1e18, 3, 0)
    assert len(found) == 3
    assert found == draw_by_rejection(space, 0, 1e18, 3, 0)


def test_a_space_of_equal_flops_is_refused() -> None:
    roles = {"none": "zero", "skip_connect": "identity"}
    flat = CellSpace("flat", 2, roles, NETWORK)
    with pytest.raises(InvalidSpace, match="all architectures of flat have"):
        ShiftNAS().prepare(CellSupernet(flat, NETWORK), Plan(1, 1, 1))


@pytest.mark.parametrize("arguments", [{"bands": 1}, {"pool": 0}, {"uniform": 0.0}, {"uniform": 1.5}])
def test_impossible_arguments_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(InvalidOption, match="expected bands >= 2"):
        ShiftNAS(**arguments)  # type: ignore[arg-type]
