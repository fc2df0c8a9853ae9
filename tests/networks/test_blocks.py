"""Blocks of users' chains: every one gives the shape that is asked for."""

import pytest
import torch
from torch import nn

from archgen.networks.blocks import BLOCKS, Resize


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(8, 8, 1), (8, 12, 1), (8, 8, 2), (12, 8, 2)])
def test_every_block_gives_the_shape_asked_for(name: str, inputs: int, outputs: int, stride: int) -> None:
    block = BLOCKS[name](inputs, outputs, stride).eval()
    size = -(-7 // stride)
    assert block(torch.rand(2, inputs, 7, 7)).shape == (2, outputs, size, size)


def test_skip_is_the_identity_where_the_shape_stays() -> None:
    assert isinstance(BLOCKS["skip"](8, 8, 1), nn.Identity)


def test_means_leave_out_what_lies_outside_of_the_image() -> None:
    ones = torch.ones(1, 4, 5, 5)
    torch.testing.assert_close(BLOCKS["avg_pool_3x3"](4, 4, 1)(ones), ones)


def test_images_are_resized_only_if_need_be() -> None:
    x = torch.rand(1, 3, 8, 8)
    assert Resize(8)(x) is x
    torch.testing.assert_close(Resize(4)(torch.ones(1, 3, 8, 8)), torch.ones(1, 3, 4, 4))
