"""Mixtures of supernets: a group of architectures has the weights of its set, and of no other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from archgen import spaces
from archgen.errors import InvalidArchitecture, InvalidOption
from archgen.graph import Architecture
from archgen.spaces import SearchSpace
from archgen.supernets import MixtureSupernet, make_supernet, mixture

NETWORK = {"cells": 1, "channels": 4, "classes": 10, "in_channels": 1, "image_size": 8}


@pytest.fixture
def mixed(space: SearchSpace) -> MixtureSupernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return mixture(make_supernet(space, **NETWORK).eval(), 3, ["1->2", "0->1"])


def images(n: int = 3) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def written(space: SearchSpace, first: int, second: int) -> Architecture:
    return space.from_choices({"0->1": first, "0->2": 3, "1->2": second, "0->3": 3, "1->3": 3, "2->3": 3})


def test_groups_are_what_agrees_in_the_variables(mixed: MixtureSupernet, space: SearchSpace) -> None:
    """By hand: 5 values each, the first variable counts in fives."""
    assert mixed.groups == 25
    assert mixed.group(written(space, first=4, second=2)) == 2 * 5 + 4
    assert mixed.assignment.bincount().tolist() == [9, 8, 8]


def test_an_architecture_has_the_weights_of_its_set(mixed: MixtureSupernet, space: SearchSpace) -> None:
    arch = written(space, 3, 2)
    mixed.assignment[mixed.group(arch)] = 1
    expected = mixed.parts[1](images(), arch)
    assert torch.equal(mixed(images(), arch), expected)
    torch.testing.assert_close(mixed.subnet(arch)(images()), expected)
    mixed.assignment[mixed.group(arch)] = 2
    assert torch.equal(mixed(images(), arch), mixed.parts[2](images(), arch))
    assert torch.equal(mixed(images(), arch, 1), expected)


def test_the_sets_begin_differently_and_the_first_is_what_was_given(space: SearchSpace) -> None:
    whole = make_supernet(space, **NETWORK).eval()
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    parts = mixture(whole, 2).parts
    assert all(torch.equal(value, before[name]) for name, value in parts[0].state_dict().items())
    convolutions = [name for name, value in before.items() if value.ndim == 4]
    assert not any(torch.equal(parts[1].state_dict()[name], before[name]) for name in convolutions)


def test_a_checkpoint_keeps_which_set_a_group_has(mixed: MixtureSupernet, space: SearchSpace) -> None:
    mixed.assignment.copy_(torch.arange(25).flip(0) % 3)
    other = mixture(make_supernet(space, **NETWORK).eval(), 3, ["1->2", "0->1"])
    other.load_state_dict(mixed.state_dict())
    (arch,) = space.sample(1, np.random.default_rng(0))
    assert torch.equal(other(images(), arch), mixed(images(), arch))


def test_by_itself_it_takes_as_many_variables_as_make_enough_groups(space: SearchSpace) -> None:
    whole = make_supernet(space, **NETWORK)
    assert mixture(whole, 2).variables == ("0->1", "0->2")
    assert mixture(whole, 4).groups == 125
    assert mixture(whole, 2).sizes == (5, 5)


def test_an_architecture_of_another_space_is_refused(mixed: MixtureSupernet) -> None:
    (arch,) = spaces.load("nasbench101").sample(1, np.random.default_rng(0))
    with pytest.raises(InvalidArchitecture):
        mixed(images(), arch)


@pytest.mark.parametrize(
    ("parts", "variables", "message"),
    [
        (1, ["0->1"], "from 2 sets"),
        (6, ["0->1"], "one a group \\(5 by 0->1\\), got 6"),
        (2, ["9->9"], "expected variables of"),
    ],
)
def test_what_can_not_be_shared_out_is_refused(
    space: SearchSpace, parts: int, variables: list[str], message: str
) -> None:
    with pytest.raises(InvalidOption, match=message):
        mixture(make_supernet(space, **NETWORK), parts, variables)
