"""Blocks of Accel-NASBench's networks: inverted bottlenecks with EfficientNet's squeeze-and-excitation."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from archgen.networks.mbconv import conv_bn


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation as in EfficientNet (arXiv 1905.11946): the bottleneck has a quarter of the block's inputs.

    Args:
        channels: Channels that are weighed.
        hidden: Of the bottleneck.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.expand(nn.functional.silu(self.reduce(pooled))))


class Bottleneck(nn.Module):
    """1x1 expansion unless it is 1, depthwise convolution, squeeze-and-excitation if asked, 1x1 projection."""

    def __init__(self, kernel: int, expansion: int, squeeze: bool, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [conv_bn(inputs, hidden, activation=nn.SiLU)] if expansion > 1 else []
        layers.append(conv_bn(hidden, hidden, kernel, stride, groups=hidden, activation=nn.SiLU))
        if squeeze:
            layers.append(SqueezeExcite(hidden, max(1, inputs // 4)))
        self.layers = nn.Sequential(*layers, conv_bn(hidden, outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


k3_e1, k3_e4, k3_e6, k5_e1, k5_e4, k5_e6 = (partial(Bottleneck, k, e, False) for k in (3, 5) for e in (1, 4, 6))
k3_e1_se, k3_e4_se, k3_e6_se, k5_e1_se, k5_e4_se, k5_e6_se = (
    partial(Bottleneck, k, e, True) for k in (3, 5) for e in (1, 4, 6)
)
