"""The supernet of NAS-Bench-101: vertices have the first channels of the widest one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archgen import spaces
from archgen.graph import Architecture
from archgen.supernets import ModuleSupernet

SPACE = spaces.load("nasbench101")
NETWORK = {"stacks": 2, "cells": 1, "channels": 8, "classes": 3, "image_size": 8}


@pytest.fixture(scope="module")
def supernet() -> ModuleSupernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ModuleSupernet(SPACE, NETWORK).eval()


def chain() -> Architecture:
    """One vertex, as wide as the output."""
    return Architecture("nasbench101", ("input", "conv3x3-bn-relu", "output"), ((0, 1), (1, 2)))


def fork() -> Architecture:
    """Two vertices that share the output's channels; an edge from input to output."""
    ops = ("input", "conv3x3-bn-relu", "conv1x1-bn-relu", "output")
    return Architecture("nasbench101", ops, ((0, 1), (0, 2), (0, 3), (1, 3), (2, 3)))


def test_channels_are_cut_to_fit_the_module(supernet: ModuleSupernet) -> None:
    whole, half = (supernet.inherited(arch)["layers.0.operations.1.0.weight"] for arch in (chain(), fork()))
    assert (whole.shape, half.shape) == ((8, 8, 3, 3), (4, 4, 3, 3))
    assert torch.equal(half, whole[:4, :4])


def test_the_output_has_a_projection_of_its_own(supernet: ModuleSupernet) -> None:
    """It is vertex 3 here, and its weights are not those of an interior vertex 3."""
    layer = supernet.skeleton.layers[0]
    shared = layer.projections["output"].largest.get_parameter("0.weight")  # type: ignore[union-attr, index]
    assert supernet.inherited(fork())["layers.0.projections.3.0.weight"] is shared


def test_operations_of_one_vertex_do_not_share(supernet: ModuleSupernet) -> None:
    names = [name for name, _ in supernet.named_parameters() if "layers.0.operations.2" in name]
    assert len({name.split(".")[5] for name in names}) == 2
    assert len(names) == 2 * 3, "two convolutions of a weight and two of their normalisation; pooling has none"


def test_it_serves_modules_alone() -> None:
    with pytest.raises(TypeError, match="serves spaces of modules, got CellSpace"):
        ModuleSupernet(spaces.load("nasbench201"), {})


def test_the_largest_number_of_feeding_vertices_fits(supernet: ModuleSupernet) -> None:
    ops = ("input", *["maxpool3x3"] * 4, "output")
    wide = Architecture("nasbench101", ops, (*((0, v) for v in range(1, 5)), *((v, 5) for v in range(1, 5))))
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, wide), supernet.subnet(wide)(x))
        for arch in SPACE.sample(20, np.random.default_rng(0)):
            torch.testing.assert_close(supernet(x, arch), supernet.subnet(arch)(x), rtol=0, atol=1e-6)
