"""Operations of cells, by the names that NAS-Bench-201 (arXiv 2001.00326) gives them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from archgen.registry import Registry

OPERATIONS: Registry[Callable[[int], nn.Module]] = Registry("operation")
"""Name to a factory `channels -> module` that keeps the shape `b c h w`."""


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution without bias, batch normalisation.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        kernel: Odd kernel size; padded so that stride 1 keeps the image size.
        stride: Stride of the convolution.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
        )


class ResidualReduction(nn.Module):
    """The residual block of stride 2 between two stages: two 3x3 convolutions beside pooling and a 1x1 convolution.

    Shapes:
        `b c h w` to `b outputs ceil(h/2) ceil(w/2)`. The published block's shortcut needs even sizes; here it pads
        an odd size up, which changes nothing for even ones.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_a = ReLUConvBN(inputs, outputs, 3, stride=2)
        self.conv_b = ReLUConvBN(outputs, outputs, 3)
        self.downsample = nn.Sequential(
            nn.AvgPool2d(2, stride=2, ceil_mode=True), nn.Conv2d(inputs, outputs, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.downsample(x) + self.conv_b(self.conv_a(x))
        return out


class Zero(nn.Module):
    """Cuts an edge: zeros of the input's shape."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape)


@OPERATIONS.register("none")
def none(channels: int) -> nn.Module:
    """No connection."""
    return Zero()


@OPERATIONS.register("skip_connect")
def skip_connect(channels: int) -> nn.Module:
    """Identity."""
    return nn.Identity()


@OPERATIONS.register("nor_conv_1x1")
def nor_conv_1x1(channels: int) -> nn.Module:
    """ReLU, 1x1 convolution, batch normalisation."""
    return ReLUConvBN(channels, channels, 1)


@OPERATIONS.register("nor_conv_3x3")
def nor_conv_3x3(channels: int) -> nn.Module:
    """ReLU, 3x3 convolution, batch normalisation."""
    return ReLUConvBN(channels, channels, 3)


@OPERATIONS.register("avg_pool_3x3")
def avg_pool_3x3(channels: int) -> nn.Module:
    """3x3 mean over the pixels inside the image, stride 1."""
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
