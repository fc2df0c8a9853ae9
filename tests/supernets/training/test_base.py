"""Which training strategy a supernet gets when none is named."""

from __future__ import annotations

import pytest

from archgen.errors import InvalidOption, UnknownName
from archgen.spaces import CellSpace
from archgen.supernets import make_supernet
from archgen.supernets.training import (
    TRAINING_STRATEGIES,
    Processes,
    Sandwich,
    TrainingStrategy,
    Uniform,
    default_strategy,
)

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}


@pytest.mark.parametrize(("order", "kind"), [(None, Uniform), (("skip_connect", "nor_conv_1x1"), Sandwich)])
def test_the_order_of_a_space_decides_the_default(order: tuple[str, str] | None, kind: type[TrainingStrategy]) -> None:
    space = CellSpace("small", 3, ROLES, NETWORK, order)
    assert type(default_strategy(make_supernet(space))) is kind


def test_strategies_go_by_their_names() -> None:
    assert TRAINING_STRATEGIES["uniform"] is Uniform
    assert TRAINING_STRATEGIES["sandwich"] is Sandwich
    with pytest.raises(UnknownName, match="unknown training strategy 'sandwhich': did you mean 'sandwich'"):
        TRAINING_STRATEGIES["sandwhich"]


@pytest.mark.parametrize("name", ["darts", "sharpdarts", "proxyless", "single_path_thresholds"])
def test_searches_are_refused_in_several_processes(name: str) -> None:
    """They learn from the images of one process."""
    strategy, several = TRAINING_STRATEGIES[name](), Processes()
    strategy.check(several, 16)
    several.count = 2
    with pytest.raises(InvalidOption, match="trains in one process only, got 2"):
        strategy.check(several, 16)
    TRAINING_STRATEGIES["uniform"]().check(several, 16)
