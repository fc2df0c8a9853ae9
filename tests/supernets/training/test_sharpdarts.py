"""sharpDARTS: the strongest operation counts in full, and the learning rate falls by a power of the cosine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archgen.errors import InvalidOption
from archgen.spaces import CellSpace
from archgen.supernets import CellSupernet
from archgen.supernets.training import Plan, Schedule, SharpDarts

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted"}
SPACE = CellSpace("small", 3, ROLES, {"cells": 1, "channels": 4, "classes": 10, "in_channels": 1, "image_size": 8})


def prepared(**options: float) -> SharpDarts:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = CellSupernet(SPACE, {})
    strategy = SharpDarts(**options)  # type: ignore[arg-type]
    strategy.prepare(net, Plan(8, 1, 4))
    return strategy


def test_multipliers_by_hand() -> None:
    """Softmax of (0, ln 2, ln 5) is (1, 2, 5) / 8, and the largest is made 1."""
    strategy = prepared()
    with torch.no_grad():
        strategy.alphas.values[3:6] = torch.tensor([1.0, 2.0, 5.0]).log()
    found = strategy.multipliers()
    torch.testing.assert_close(found["0->2"], torch.tensor([4.0, 5.0, 8.0]) / 8)
    torch.testing.assert_close(found["0->1"], torch.ones(3))
    path = strategy.path(np.random.default_rng(0))
    assert float(path["0->2"]["nor_conv_1x1"]) == 1
    assert strategy.alphas.scores()["0->2"] == pytest.approx([1 / 8, 2 / 8, 5 / 8]), "what is found is as in DARTS"


def test_the_strongest_multiplier_has_no_gradient_and_the_others_that_of_a_difference() -> None:
    """d (1 - w_2 + w_0) / d alpha = w_0 (e_0 - w) - w_2 (e_2 - w)."""
    strategy = prepared()
    with torch.no_grad():
        strategy.alphas.values[3:6] = torch.tensor([1.0, 2.0, 5.0]).log()
    found = strategy.multipliers()["0->2"]
    strongest, first = (torch.autograd.grad(found[i], strategy.alphas.values, retain_graph=True)[0] for i in (2, 0))
    assert float(strongest.abs().max()) == 0
    w = torch.tensor([1.0, 2.0, 5.0]) / 8
    expected = w[0] * (torch.eye(3)[0] - w) - w[2] * (torch.eye(3)[2] - w)
    torch.testing.assert_close(first[3:6], expected)


def test_without_max_w_operations_are_weighed_as_in_darts() -> None:
    assert torch.equal(prepared(max_w=False).multipliers()["0->1"], torch.full((3,), 1 / 3))


def test_the_strategy_sets_the_power_of_the_schedule_alone() -> None:
    given = Schedule(7, lr=0.03, tail=0.1)
    assert prepared(power=5.0).schedule(given) == Schedule(7, lr=0.03, tail=0.1, power=5.0)
    assert prepared().schedule(given).power == 2


def test_a_power_below_one_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"expected a power of at least 1 \(a cosine\), got 0.5"):
        SharpDarts(power=0.5)
