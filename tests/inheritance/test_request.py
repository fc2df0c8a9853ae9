"""What a request becomes: a strategy with its options, a supernet with its sets of weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

from archgen.complexity import draw_between
from archgen.inheritance import SupernetRequest
from archgen.inheritance.request import make_strategy, make_trained
from archgen.supernets import CellSupernet, MixtureSupernet
from archgen.supernets.training import Fair, ShiftNAS

REQUEST = SupernetRequest("nasbench201", "digits", network={"cells": 1, "channels": 4}, limit=200, epochs=10)


def test_a_strategy_has_the_options_of_its_request() -> None:
    strategy = make_strategy(replace(REQUEST, strategy="fair", options={"label_smoothing": 0.2}))
    assert isinstance(strategy, Fair)
    assert strategy.label_smoothing == 0.2


def test_shiftnas_asks_the_guided_generator() -> None:
    strategy = make_strategy(replace(REQUEST, strategy="shiftnas", options={"bands": 3}))
    assert isinstance(strategy, ShiftNAS)
    assert (strategy.bands, strategy.draw) == (3, draw_between)


def test_weights_are_drawn_by_the_seed() -> None:
    one, same, other = (make_trained(replace(REQUEST, seed=seed)).supernet for seed in (0, 0, 1))
    assert isinstance(one, CellSupernet)
    name = "skeleton.stem.0.weight"
    assert one.state_dict()[name].equal(same.state_dict()[name])
    assert not one.state_dict()[name].equal(other.state_dict()[name])


@pytest.mark.parametrize(("strategy", "silent"), [("sandwich", True), ("uniform", False)])
def test_new_weights_are_those_that_the_strategy_begins_with(strategy: str, silent: bool) -> None:
    supernet = make_trained(replace(REQUEST, space="nasbench_macro", network={}, strategy=strategy)).supernet
    norms = [m for m in supernet.modules() if isinstance(m, nn.BatchNorm2d)]
    assert any(not m.weight.any() for m in norms) == silent


def test_several_sets_of_weights_make_a_mixture() -> None:
    supernet = make_trained(replace(REQUEST, mixture=3)).supernet
    assert isinstance(supernet, MixtureSupernet)
    assert len(supernet.parts) == 3


@pytest.mark.parametrize(("epochs", "warm_up", "settled"), [(10, None, 2), (2, None, 1), (10, 7, 7)])
def test_a_quarter_of_the_epochs_comes_before_a_split(epochs: int, warm_up: int | None, settled: int) -> None:
    assert replace(REQUEST, epochs=epochs, warm_up=warm_up).before_a_split == settled
