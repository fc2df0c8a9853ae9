"""Where proxies look in networks of all kinds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archgen import spaces
from archgen.errors import ArchgenError
from archgen.proxies import Expressivity, Zen
from archgen.proxies.features import before_pooling, block_outputs
from archgen.spaces import SearchSpace


def test_blocks_of_cells_are_the_stem_cells_and_reductions(space: SearchSpace, rng: np.random.Generator) -> None:
    (arch,) = space.sample(1, rng)
    network = space.build(arch, cells=2, channels=4, image_size=8)
    shapes = [tuple(f.shape[1:]) for f in block_outputs(network, torch.zeros(2, 3, 8, 8), Expressivity())]
    assert shapes == [(4, 8, 8)] * 3 + [(8, 4, 4)] * 3 + [(16, 2, 2)] * 3


def test_blocks_of_a_chain_leave_out_the_resize_and_the_head() -> None:
    space = spaces.load("mobilenetv3")
    assert space.extremes is not None
    network = space.build(space.extremes[0], width_percent=25, classes=3, image_size=32)
    features = block_outputs(network, torch.zeros(2, 3, 32, 32), Expressivity())
    assert len(features) == 12  # stem, first block, two blocks in each of five stages
    assert all(f.requires_grad for f in features)
    read = before_pooling(network, torch.zeros(2, 3, 32, 32), Zen())
    assert read.shape[1:] == (240, 4, 4)  # not what the pooling in squeeze-and-excitation reads


def test_a_network_without_blocks_is_refused(convolutional: nn.Sequential, batch: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ArchgenError, match=r"expressivity compares the blocks of a network.*found 0"):
        block_outputs(convolutional, batch[0], Expressivity())


def test_a_network_without_global_pooling_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(ArchgenError, match="zen reads the map before global average pooling"):
        before_pooling(network, torch.zeros(2, 3, 2, 2), Zen())
