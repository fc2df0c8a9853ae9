"""Operations of normal and reduction cells, by the names that DARTS (arXiv 1806.09055) gives them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from archgen.registry import Registry

CELL_OPERATIONS: Registry[Callable[[int, int, bool], nn.Module]] = Registry("operation of a normal or reduction cell")
"""Name to a factory `(channels, stride, affine) -> module`; `affine` is that of batch normalisation."""


class FactorizedReduce(nn.Module):
    """ReLU, two 1x1 convolutions of stride 2 on shifted grids side by side, batch normalisation.

    The published block needs even sizes and channels; here an odd image is padded by a row and column of zeros and an
    odd number of channels leaves one more to the second convolution, which changes nothing for even ones.
    """

    def __init__(self, inputs: int, outputs: int, affine: bool = True) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False) if outputs > 1 else None
        self.conv_2 = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        x = self.relu(x)
        shifted = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))[:, :, 1:, 1:]
        parts = [self.conv_2(shifted)] if self.conv_1 is None else [self.conv_1(x), self.conv_2(shifted)]
        out: Tensor = self.bn(torch.cat(parts, 1))
        return out


class DilConv(nn.Sequential):
    """ReLU, depthwise convolution of dilation 2, 1x1 convolution, batch normalisation."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel, stride, kernel - 1, 2, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )


class SepConv(nn.Sequential):
    """Twice: ReLU, depthwise convolution, 1x1 convolution, batch normalisation; the stride is in the first half."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool) -> None:
        layers: list[nn.Module] = []
        for step in (stride, 1):
            layers += [
                nn.ReLU(),
                nn.Conv2d(channels, channels, kernel, step, kernel // 2, groups=channels, bias=False),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels, affine=affine),
            ]
        super().__init__(*layers)


@CELL_OPERATIONS.register("max_pool_3x3")
def max_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """3x3 maximum."""
    return nn.MaxPool2d(3, stride=stride, padding=1)


@CELL_OPERATIONS.register("avg_pool_3x3")
def avg_pool_3x3(channels: int, stride: int, affine: bool) -> nn.Module:
    """3x3 mean over the pixels inside the image."""
    return nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)


@CELL_OPERATIONS.register("skip_connect")
def skip_connect(channels: int, stride: int, affine: bool) -> nn.Module:
    """Identity; with stride 2 a `FactorizedReduce`, which has weights."""
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


for _kernel in (3, 5, 7):
    CELL_OPERATIONS.register(f"sep_conv_{_kernel}x{_kernel}")(
        lambda channels, stride, affine, kernel=_kernel: SepConv(channels, kernel, stride, affine)
    )
for _kernel in (3, 5):
    CELL_OPERATIONS.register(f"dil_conv_{_kernel}x{_kernel}")(
        lambda channels, stride, affine, kernel=_kernel: DilConv(channels, kernel, stride, affine)
    )


@CELL_OPERATIONS.register("conv_7x1_1x7")
def conv_7x1_1x7(channels: int, stride: int, affine: bool) -> nn.Module:
    """ReLU, 1x7 and 7x1 convolution, batch normalisation."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
        nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )
