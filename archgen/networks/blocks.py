"""Blocks for users' chains and graphs of images: each maps `in_channels` to `out_channels` with a stride."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from archgen.networks.mbconv import MBConv, conv_bn
from archgen.registry import Registry

MakeBlock = Callable[[int, int, int], nn.Module]

BLOCKS: Registry[MakeBlock] = Registry("operation")
"""Name to a factory `(in_channels, out_channels, stride) -> module`; `h` pixels become `ceil(h / stride)`."""


class Resize(nn.Module):
    """Bilinear resize of images to `size x size`; images of that size pass as they are."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c s s"]:
        if x.shape[-2:] == (self.size, self.size):
            return x
        return F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False)


class Residual(nn.Module):
    """The basic block of ResNet (arXiv 1512.03385, figure 5): two 3x3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first = conv_bn(inputs, outputs, 3, stride, activation=nn.ReLU)
        self.body = nn.Sequential(first, conv_bn(outputs, outputs, 3))
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        out: Tensor = self.relu(self.body(x) + self.shortcut(x))
        return out


@BLOCKS.register("skip")
def skip(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Identity; where the shape changes, a 1x1 convolution and batch normalisation."""
    return nn.Identity() if stride == 1 and inputs == outputs else conv_bn(inputs, outputs, 1, stride)


@BLOCKS.register("residual")
def residual(inputs: int, outputs: int, stride: int) -> nn.Module:
    """The basic block of ResNet."""
    return Residual(inputs, outputs, stride)


def _convolution(kernel: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    return conv_bn(inputs, outputs, kernel, stride, activation=nn.ReLU)


def _separable(kernel: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    depthwise = conv_bn(inputs, inputs, kernel, stride, groups=inputs, activation=nn.ReLU)
    return nn.Sequential(depthwise, conv_bn(inputs, outputs, activation=nn.ReLU))


def _bottleneck(kernel: int, expansion: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    return MBConv(inputs, outputs, kernel, stride, hidden=inputs * expansion, expand=expansion > 1)


def _pool(kind: Callable[..., nn.Module], inputs: int, outputs: int, stride: int) -> nn.Module:
    pool = kind(3, stride, 1)
    return pool if inputs == outputs else nn.Sequential(pool, conv_bn(inputs, outputs))


BLOCKS.register("conv_1x1")(partial(_convolution, 1))
BLOCKS.register("avg_pool_3x3")(partial(_pool, partial(nn.AvgPool2d, count_include_pad=False)))
BLOCKS.register("max_pool_3x3")(partial(_pool, nn.MaxPool2d))
for _kernel in (3, 5, 7):
    BLOCKS.register(f"conv_{_kernel}x{_kernel}")(partial(_convolution, _kernel))
    BLOCKS.register(f"sep_conv_{_kernel}x{_kernel}")(partial(_separable, _kernel))
    for _expansion in (1, 3, 4, 6):
        BLOCKS.register(f"mbconv_k{_kernel}_e{_expansion}")(partial(_bottleneck, _kernel, _expansion))
