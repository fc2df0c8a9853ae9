"""The operations on a cell's edges, and the block between stages."""

import pytest
import torch
import torch.nn.functional as F

from archgen.errors import UnknownName
from archgen.networks import OPERATIONS
from archgen.networks.operations import ReLUConvBN, ResidualReduction


def images(c: int = 4, h: int = 6, w: int = 6) -> torch.Tensor:
    return torch.randn(2, c, h, w, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", list(OPERATIONS))
@pytest.mark.parametrize("size", [(6, 6), (5, 7), (1, 1)])
def test_every_operation_keeps_the_shape(name: str, size: tuple[int, int]) -> None:
    x = images(4, *size)
    out = OPERATIONS[name](4).eval()(x)
    assert out.shape == x.shape
    assert bool(torch.isfinite(out).all())


def test_none_gives_zeros_and_skip_gives_the_input() -> None:
    x = images()
    assert not bool(OPERATIONS["none"](4)(x).any())
    assert torch.equal(OPERATIONS["skip_connect"](4)(x), x)


def test_pooling_is_the_mean_over_pixels_inside_the_image() -> None:
    out = OPERATIONS["avg_pool_3x3"](4)(images())
    torch.testing.assert_close(out[:, :, 2, 3], images()[:, :, 1:4, 2:5].mean((2, 3)))
    torch.testing.assert_close(out[:, :, 0, 0], images()[:, :, :2, :2].mean((2, 3)))
    torch.testing.assert_close(OPERATIONS["avg_pool_3x3"](4)(torch.ones(1, 4, 5, 5)), torch.ones(1, 4, 5, 5))


@pytest.mark.parametrize(("name", "kernel"), [("nor_conv_1x1", 1), ("nor_conv_3x3", 3)])
def test_convolutions_are_relu_convolution_and_norm(name: str, kernel: int) -> None:
    module = OPERATIONS[name](4).eval()
    assert isinstance(module, ReLUConvBN)
    convolution = module[1]
    assert convolution.weight.shape == (4, 4, kernel, kernel)
    assert convolution.bias is None
    x = images()
    expected = F.conv2d(x.relu(), convolution.weight, padding=kernel // 2) / (1 + module[2].eps) ** 0.5
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize(("size", "half"), [(8, 4), (7, 4), (2, 1), (1, 1)])
def test_reduction_halves_the_image_rounding_up(size: int, half: int) -> None:
    out = ResidualReduction(4, 8).eval()(images(4, size, size))
    assert out.shape == (2, 8, half, half)


def test_reduction_of_even_sizes_is_the_published_block() -> None:
    block, x = ResidualReduction(4, 8).eval(), images()
    shortcut = F.conv2d(F.avg_pool2d(x, 2), block.downsample[1].weight)
    torch.testing.assert_close(block(x), shortcut + block.conv_b(block.conv_a(x)))


def test_an_unknown_operation_gets_a_suggestion() -> None:
    with pytest.raises(UnknownName, match="unknown operation 'nor_conv_3x4': did you mean 'nor_conv_3x3'"):
        OPERATIONS["nor_conv_3x4"]
