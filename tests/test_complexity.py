"""Architectures of a wanted complexity, common or rare."""

from __future__ import annotations

import numpy as np
import pytest

from archgen import spaces
from archgen.complexity import draw_between
from archgen.spaces import CellSpace, SearchSpace
from archgen.supernets.training.shiftnas import draw_by_rejection


def test_what_is_common_is_drawn_as_it_is(space: SearchSpace) -> None:
    flops = sorted(space.count(arch)["flops"] for arch in space.sample(64, np.random.default_rng(0)))
    found = draw_between(space, flops[16], flops[48], 8, 1)
    assert found == draw_by_rejection(space, flops[16], flops[48], 8, 1)


@pytest.mark.parametrize(("first", "last"), [(0.88, 0.92), (0.9, 1.0)], ids=["guided", "variations of the largest"])
def test_what_is_rare_comes_from_the_generator(first: float, last: float) -> None:
    """Of 6,561 networks 1 in 270, and 1 in 600: of 40 random ones none."""
    space = spaces.load("nasbench_macro")
    least, most = (space.count(arch)["flops"] for arch in space.extremes or ())
    low, high = (least + share * (most - least) for share in (first, last))
    assert draw_by_rejection(space, low, high, 2, 0) == []
    found = draw_between(space, low, high, 2, 0)
    assert len(set(found)) == 2
    assert all(low <= space.count(arch)["flops"] <= high for arch in found)


def test_a_space_without_a_generator_has_its_random_ones() -> None:
    small = CellSpace(
        "small",
        3,
        {"none": "zero", "nor_conv_3x3": "weighted"},
        {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8},
    )
    flops = sorted(small.count(arch)["flops"] for arch in small.enumerate())
    assert 1 <= len(draw_between(small, flops[-1], flops[-1], 5, 0)) < 5


def test_what_there_is_not_is_not_given(space: SearchSpace) -> None:
    assert draw_between(space, 1e18, 2e18, 3, 0) == []
