"""What is suggested for measuring covers the space and repeats nothing."""

from __future__ import annotations

import numpy as np
import pytest

from archgen import spaces
from archgen.predictors import suggest
from archgen.spaces import CellSpace

SPACE = spaces.load("nasbench201")


def flops(archs):
    return np.array([SPACE.count(arch)["flops"] for arch in archs])


def test_strata_cover_the_range_better_than_chance():
    # Of 20 random draws the chance that each tenth of the FLOPs is met is below 0.3; strata meet all of them.
    edges = np.quantile(flops(SPACE.sample(3000, np.random.default_rng(9))), np.linspace(0, 1, 11)[1:-1])
    for seed in range(3):
        archs = suggest(SPACE, 20, np.random.default_rng(seed))
        assert len(set(np.searchsorted(edges, flops(archs)))) >= 9


@pytest.mark.parametrize("stratified", [True, False])
def test_nothing_is_suggested_twice_or_again(stratified):
    known = SPACE.sample(50, np.random.default_rng(1))
    archs = suggest(SPACE, 30, np.random.default_rng(0), stratified=stratified, known=known)
    forms = {SPACE.canonical(arch) for arch in archs}
    assert len(archs) == len(forms) == 30
    assert not forms & {SPACE.canonical(arch) for arch in known}
    assert archs == suggest(SPACE, 30, np.random.default_rng(0), stratified=stratified, known=known)


def test_a_small_space_gives_what_it_has():
    roles = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted"}
    small = CellSpace("small", 3, roles, {"cells": 1, "channels": 4, "classes": 10, "in_channels": 3, "image_size": 8})
    forms = {small.canonical(arch) for arch in small.enumerate()}
    assert len(suggest(small, 100, np.random.default_rng(0))) == len(forms)
