"""The supernet of cells: one path of it is the stand-alone network with the same weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from archgen import spaces
from archgen.graph import Architecture
from archgen.spaces import CellSpace
from archgen.supernets import CellSupernet

NETWORK = {"cells": 2, "channels": 4, "classes": 3, "in_channels": 2, "image_size": 8}
SPACE = spaces.load("nasbench201")
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
DEAD_END = "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|none~0|none~1|none~2|"
UNFED = "|none~0|+|none~0|nor_conv_3x3~1|+|none~0|nor_conv_1x1~1|nor_conv_3x3~2|"


def images(n: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(n, 2, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def supernet() -> CellSupernet:
    """With statistics that are not those of a fresh network, different in each layer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = CellSupernet(SPACE, NETWORK)
        for name, buffer in net.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 1.5)
    return net.eval()


def assert_same_function(supernet: CellSupernet, arch: Architecture) -> None:
    network = supernet.subnet(arch)
    assert not network.training
    with torch.no_grad():
        torch.testing.assert_close(supernet(images(), arch), network(images()), rtol=0, atol=1e-6)


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=60)
def test_a_path_computes_what_its_subnet_computes(supernet: CellSupernet, seed: int) -> None:
    assert_same_function(supernet, SPACE.sample(1, np.random.default_rng(seed))[0])


@pytest.mark.parametrize("text", [NOTHING, DEAD_END, UNFED], ids=["nothing", "dead end", "nothing feeds it"])
def test_a_cell_without_a_path_computes_the_same_in_both(supernet: CellSupernet, text: str) -> None:
    arch = SPACE.parse(text)
    assert_same_function(supernet, arch)
    with torch.no_grad():
        logits = supernet(images(), arch)
    assert torch.equal(logits, logits[:1].expand_as(logits)), "the cell is cut off, so all images look the same"


def test_dead_operations_change_nothing(supernet: CellSupernet) -> None:
    arch = SPACE.parse("|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|avg_pool_3x3~1|none~2|")
    simple = SPACE.simplify(arch)
    assert simple != arch
    with torch.no_grad():
        assert torch.equal(supernet(images(), arch), supernet(images(), simple))
    assert supernet.subnet(arch).state_dict().keys() == SPACE.build(simple, **NETWORK).state_dict().keys()


def test_weights_of_a_subnet_are_copies(supernet: CellSupernet) -> None:
    arch = SPACE.parse("|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|")
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    network = supernet.subnet(arch)
    owned = {value.data_ptr() for value in supernet.state_dict().values()}
    assert not owned & {value.data_ptr() for value in network.state_dict().values()}
    with torch.no_grad():
        for value in network.state_dict().values():
            value.fill_(7)
    for name, value in supernet.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_subnet_is_in_the_mode_of_its_supernet(supernet: CellSupernet) -> None:
    arch = SPACE.sample(1, np.random.default_rng(0))[0]
    try:
        assert supernet.train().subnet(arch).training
    finally:
        supernet.eval()


def test_the_cells_of_one_network_share_a_path_but_not_weights(supernet: CellSupernet) -> None:
    arch = SPACE.parse("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|nor_conv_1x1~1|none~2|")
    convolutions = [value for name, value in supernet.subnet(arch).named_parameters() if ".edges.0-1.1." in name]
    assert len(convolutions) == 3 * NETWORK["cells"]
    assert not torch.equal(convolutions[0], convolutions[1])


def test_it_holds_every_operation_but_the_zero_on_every_edge() -> None:
    small = CellSpace("small", 3, {"none": "zero", "nor_conv_1x1": "weighted", "avg_pool_3x3": "linear"}, NETWORK)
    net = CellSupernet(small, {**NETWORK, "cells": 1})
    held = {name for name, _ in net.named_modules() if name.startswith("skeleton.layers.0.edges.")}
    paths = {f"skeleton.layers.0.edges.{edge}.{op}" for edge in ("0-1", "0-2", "1-2") for op in small.roles}
    assert {p for p in paths if p.rpartition(".")[2] != "none"} <= held
    assert not any("none" in name for name in held)


def test_a_space_of_another_family_is_refused() -> None:
    with pytest.raises(TypeError, match="CellSupernet serves cell spaces, got object"):
        CellSupernet(object(), {})  # type: ignore[arg-type]
