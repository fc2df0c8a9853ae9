"""The operations of normal and reduction cells."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archgen.networks.cell_operations import CELL_OPERATIONS, FactorizedReduce


def images(c: int = 4, h: int = 6, w: int = 6) -> Tensor:
    return torch.randn(2, c, h, w, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", list(CELL_OPERATIONS))
@pytest.mark.parametrize("size", [(6, 6), (5, 7), (1, 1)])
def test_every_operation_keeps_the_shape_or_halves_it(name: str, size: tuple[int, int]) -> None:
    x = images(4, *size)
    assert CELL_OPERATIONS[name](4, 1, True).eval()(x).shape == x.shape
    halved = CELL_OPERATIONS[name](4, 2, True).eval()(x)
    assert halved.shape == (2, 4, (size[0] + 1) // 2, (size[1] + 1) // 2)
    assert bool(torch.isfinite(halved).all())


@pytest.mark.parametrize("name", list(CELL_OPERATIONS))
def test_affine_says_whether_norms_have_weights(name: str) -> None:
    norms = [m for m in CELL_OPERATIONS[name](4, 2, False).modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(m.affine for m in norms)
    assert norms or "pool" in name


def test_separable_convolutions_are_two_and_dilated_ones_one() -> None:
    x = images()
    block = CELL_OPERATIONS["dil_conv_5x5"](4, 2, True).eval()
    depthwise = F.conv2d(x.relu(), block[1].weight, stride=2, padding=4, dilation=2, groups=4)
    torch.testing.assert_close(block(x), F.conv2d(depthwise, block[2].weight) / (1 + block[3].eps) ** 0.5)
    block = CELL_OPERATIONS["sep_conv_3x3"](4, 2, True).eval()
    for i, stride in ((0, 2), (4, 1)):
        x = F.conv2d(x.relu(), block[i + 1].weight, stride=stride, padding=1, groups=4)
        x = F.conv2d(x, block[i + 2].weight) / (1 + block[i + 3].eps) ** 0.5
    torch.testing.assert_close(block(images()), x)


def test_pooling_is_that_of_the_pixels_inside_the_image() -> None:
    x = images() - 5  # all negative: a padding of zeros would show in the maximum
    torch.testing.assert_close(CELL_OPERATIONS["max_pool_3x3"](4, 1, True)(x)[:, :, 0, 0], x[:, :, :2, :2].amax((2, 3)))
    torch.testing.assert_close(CELL_OPERATIONS["avg_pool_3x3"](4, 1, True)(x)[:, :, 0, 0], x[:, :, :2, :2].mean((2, 3)))


def test_factorized_reduction_reads_both_grids() -> None:
    block, x = FactorizedReduce(4, 6).eval(), images()
    even, odd = x.relu()[:, :, ::2, ::2], x.relu()[:, :, 1::2, 1::2]
    assert block.conv_1 is not None
    expected = torch.cat([F.conv2d(even, block.conv_1.weight), F.conv2d(odd, block.conv_2.weight)], 1)
    torch.testing.assert_close(block(x), expected / (1 + block.bn.eps) ** 0.5)


@pytest.mark.parametrize("outputs", [1, 2, 5])
def test_factorized_reduction_gives_any_number_of_channels(outputs: int) -> None:
    assert FactorizedReduce(4, outputs)(images(4, 5, 5)).shape == (2, outputs, 3, 3)
