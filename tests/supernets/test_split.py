"""Split supernets: an architecture has the weights of the part that it is in, and no others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from archgen.data import load_data
from archgen.errors import InvalidSpace
from archgen.spaces import SearchSpace
from archgen.supernets import SplitSupernet, Supernet, make_supernet, split
from archgen.supernets.training import Schedule, Uniform, train_supernet

NETWORK = {"cells": 1, "channels": 4, "classes": 10, "in_channels": 1, "image_size": 8}
GROUPS = [(0, 1), (2, 3, 4)]


@pytest.fixture
def whole(space: SearchSpace) -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_supernet(space, **NETWORK).eval()


@pytest.fixture
def divided(whole: Supernet) -> SplitSupernet:
    return split(whole, "0->1", GROUPS)


def images(n: int = 3) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_at_first_all_parts_are_the_whole(whole: Supernet, divided: SplitSupernet, space: SearchSpace) -> None:
    for arch in space.sample(6, np.random.default_rng(0)):
        torch.testing.assert_close(divided(images(), arch), whole(images(), arch))
        part = divided.parts[space.to_choices(arch)["0->1"] >= 2]
        assert divided.part(arch) is part
        part.space.validate(arch)  # type: ignore[union-attr, operator]


def test_training_one_part_leaves_the_others(whole: Supernet, divided: SplitSupernet, space: SearchSpace) -> None:
    before = {name: value.clone() for name, value in divided.state_dict().items()}
    part = divided.parts[1]
    train_supernet(part, Uniform(), load_data("digits", limit=200), Schedule(1), seed=0)  # type: ignore[arg-type]
    changed = {name for name, value in divided.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("parts.1.") for name in changed)
    assert not any("edges.0-1.skip" in name or "edges.0-1.none" in name for name in changed)


def test_the_whole_can_be_trained_too(divided: SplitSupernet) -> None:
    before = {name: value.clone() for name, value in divided.state_dict().items()}
    train_supernet(divided, Uniform(), load_data("digits", limit=200), Schedule(1), seed=0)
    changed = {
        name.split(".")[1] for name, value in divided.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"0", "1"}


def test_a_subnet_is_of_the_part_that_the_architecture_was_written_for(
    divided: SplitSupernet, space: SearchSpace
) -> None:
    """Simplified, the first edge is `none`, which is a value of the other part."""
    with torch.no_grad():
        for value in divided.parts[1].parameters():
            value.fill_(0.25)
    arch = space.from_choices({"0->1": 3, "0->2": 0, "1->2": 0, "0->3": 3, "1->3": 0, "2->3": 0})
    assert space.to_choices(space.simplify(arch))["0->1"] == 0
    network = divided.subnet(arch)
    assert all(bool((value == 0.25).all()) for value in network.parameters())


def test_a_part_can_be_split_again(divided: SplitSupernet, space: SearchSpace) -> None:
    again = SplitSupernet(
        space,
        "0->1",
        GROUPS,
        [divided.parts[0], split(divided.parts[1], "1->2", [(0,), (1, 2, 3, 4)])],  # type: ignore[list-item, arg-type]
    )
    for arch in space.sample(4, np.random.default_rng(1)):
        torch.testing.assert_close(again(images(), arch), divided(images(), arch))


@pytest.mark.parametrize(
    ("variable", "groups"),
    [("0->1", [(0, 1, 2, 3, 4)]), ("0->1", [(0, 1), (2, 3)]), ("0->1", [(0, 1), (1, 2, 3, 4)]), ("9->9", [(0,), (1,)])],
)
def test_what_is_no_partition_is_refused(whole: Supernet, variable: str, groups: list[tuple[int, ...]]) -> None:
    with pytest.raises(InvalidSpace, match="do not divide the"):
        split(whole, variable, groups)
