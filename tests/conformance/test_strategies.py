"""Every registered search strategy keeps the promises of `SearchStrategy`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from archgen.errors import InvalidObjective
from archgen.generators import DiscreteFlow, Generator
from archgen.objectives import Objective, at_least, at_most, directions, maximize, minimize
from archgen.spaces import CellSpace, SearchSpace
from archgen.strategies import STRATEGIES, SearchStrategy
from archgen.strategies.base import Screen
from archgen.testing import check_strategy

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
SMALL: dict[str, dict[str, Any]] = {
    "generative": {"initial": 4, "pool": 8, "steps": 2},
    "evolution": {"population": 6, "sample": 2},
    "boshnas": {"initial": 4, "steps": 10, "restarts": 2, "ascent": 3, "alpha": 0.2, "beta": 0.2},
    "nsga2": {"population": 6},
    "bayes": {"initial": 4},
    "bananas": {"initial": 4, "candidates": 12, "mutated": 3, "members": 2},
    "local": {"initial": 2},
    "successive": {"initial": 5, "top": 4, "pool": 60},
}
"""Arguments with which a member begins to learn within the few batches of the check."""
LISTS = ("bayes", "boshnas")
"""Members that list a space whole: they are checked on one of 4,096 points, not 15,625."""

WISHES: dict[str, list[Objective]] = {
    "minimize": [minimize("loss")],
    "within bounds": [maximize("acc"), at_most("latency_ms", 3.0), at_least("margin", -1.0)],
    "several directions": [maximize("acc"), minimize("loss"), at_most("latency_ms", 3.0)],
}


def untrained(space: SearchSpace) -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = DiscreteFlow(space.node_domain, space.edge_domain, width=8, layers=1, heads=2)
    return flow.eval()


def maker(name: str, space: SearchSpace, wishes: Sequence[Objective]) -> Callable[[int, Screen | None], SearchStrategy]:
    extra = {"generator": untrained(space)} if name == "generative" else {}

    def make(seed: int, screen: Screen | None) -> SearchStrategy:
        return STRATEGIES[name](space, wishes, seed=seed, screen=screen, **SMALL.get(name, {}), **extra)

    return make


@pytest.mark.parametrize("wishes", list(WISHES))
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_strategy_keeps_its_promises(name: str, wishes: str, space: SearchSpace, rng: np.random.Generator) -> None:
    if name in LISTS:
        space = CellSpace("medium", 4, {**ROLES, "avg_pool_3x3": "linear"}, NETWORK)
    make = maker(name, space, WISHES[wishes])
    if len(directions(WISHES[wishes])) > 1 and not STRATEGIES[name].several_directions:
        with pytest.raises(InvalidObjective, match="expected one metric to maximize or minimize"):
            make(0, None)
    else:
        check_strategy(make, space, rng=rng)


@pytest.mark.parametrize("nodes", [2, 3])
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_strategy_proposes_all_of_a_tiny_space_once(name: str, nodes: int, rng: np.random.Generator) -> None:
    tiny = CellSpace("tiny", nodes, ROLES, NETWORK)
    assert tiny.size == {2: 3, 3: 27}[nodes]
    check_strategy(maker(name, tiny, [maximize("acc")]), tiny, rng=rng, batch=2 if nodes == 2 else 4)
