"""Mobile inverted bottlenecks (MobileNetV2, arXiv 1801.04381) as the chains of this package use them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from jaxtyping import Float
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


@cache  # asked for by every block of every architecture that is counted
def make_divisible(channels: int | float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `channels`, but at least `divisor` and not below nine tenths of it."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


def conv_bn(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: Activation | None = None,
) -> nn.Sequential:
    """Convolution without bias, batch normalisation and, if given, an activation; stride 1 keeps the image size."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([activation()] if activation else []))


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation with a hard sigmoid (MobileNetV3, arXiv 1905.02244, section 5.3).

    Args:
        channels: Channels; a quarter of them, made divisible by 8, is the bottleneck.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = make_divisible(channels // 4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce, self.relu = nn.Conv2d(channels, hidden, 1), nn.ReLU()
        self.expand, self.gate = nn.Conv2d(hidden, channels, 1), nn.Hardsigmoid()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        gate: Tensor = self.gate(self.expand(self.relu(self.reduce(self.pool(x)))))
        return x * gate


class ChannelShuffle(nn.Module):
    """Interleave the channels of groups (ShuffleNet, arXiv 1707.01083, figure 1).

    Args:
        groups: Number of groups; divides the channels.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        b, c, h, w = x.shape
        return x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class MBConv(nn.Module):
    """1x1 expansion, depthwise convolution, optional squeeze-and-excitation, 1x1 projection; residual where it fits.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        kernel: Odd kernel size of the depthwise convolution.
        stride: Its stride.
        hidden: Channels between the two 1x1 convolutions.
        expand: Whether there is a 1x1 expansion; without it `hidden` is `inputs`.
        groups: Groups of the 1x1 convolutions; channels are shuffled after the first if there are several.
        squeeze: Whether to add squeeze-and-excitation after the depthwise convolution's activation.
        activation: Makes the activation that follows expansion and depthwise convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        hidden: int,
        expand: bool = True,
        groups: int = 1,
        squeeze: bool = False,
        activation: Activation = nn.ReLU,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if expand:
            layers.append(conv_bn(inputs, hidden, groups=groups, activation=activation))
        if groups > 1:
            layers.append(ChannelShuffle(groups))
        layers.append(conv_bn(hidden, hidden, kernel, stride, groups=hidden, activation=activation))
        if squeeze:
            layers.append(SqueezeExcite(hidden))
        layers.append(conv_bn(hidden, outputs, groups=groups))
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs
        self.exchangeable = expand and groups == 1

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        out: Tensor = self.layers(x)
        return x + out if self.residual else out

    def hidden_axes(self) -> list[dict[str, int]]:
        """Sets of channels that can be put in another order: the axis of each in the tensors of the state that have it.

        First those between the two 1x1 convolutions, then those of the squeeze's bottleneck; the last tensor of each is
        the weight that reads them. Without an expansion the first are those of the input, and in several groups they
        are not alike; then there are none.
        """
        if not self.exchangeable:
            return []
        last = len(self.layers) - 1
        norm = ("1.weight", "1.bias", "1.running_mean", "1.running_var")
        hidden = {f"{i}.{name}": 0 for i in (0, 1) for name in ("0.weight", *norm)}
        found = [hidden]
        if last == 3:
            hidden |= {"2.reduce.weight": 1, "2.expand.weight": 0, "2.expand.bias": 0}
            found.append({"2.reduce.weight": 0, "2.reduce.bias": 0, "2.expand.weight": 1})
        hidden[f"{last}.0.weight"] = 1
        return [{f"layers.{name}": axis for name, axis in axes.items()} for axes in found]
