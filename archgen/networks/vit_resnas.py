"""ViT-ResNAS (Searching for Efficient Multi-Stage Vision Transformers, arXiv 2109.00642)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from archgen.errors import InvalidSpace
from archgen.networks.labels import layers, read_label
from archgen.networks.skeleton import Segment, register_skeleton
from archgen.networks.transformer import Attention, Embedding, EncoderBlock, Head, linear, normal, patch_grid

EPS = 1e-6
STEM = 24
"""Channels of the convolutions before the patches."""


class ConvPatches(nn.Module):
    """Features of patches by three 3x3 convolutions, the first of stride 2, and one as large as half a patch.

    Args:
        in_channels: Channels of the image.
        width: Features of a patch.
        patch: Side of a patch, pixels; even, unless the image is one patch.
    """

    def __init__(self, in_channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.first, self.second, self.third = _conv(in_channels, 2), _conv(STEM, 1), _conv(STEM, 1)
        half = max(patch // 2, 1)
        self.project = nn.Conv2d(STEM, width, half, stride=half)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b width grid grid"]:
        x = self.first(x)
        out: Tensor = self.project(x + self.third(self.second(x)))
        return out


def _conv(inputs: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(inputs, STEM, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(STEM), nn.ReLU())


class SpatialReduction(nn.Module):
    """Residual spatial reduction (section 3.2): a quarter of the patches, with more features each.

    Patches: normalise, 3x3 convolution of stride 2, position, beside a mean over 2x2. Class token: normalise, linear,
    beside itself. What stands beside gets zeros for the new features. An odd grid, which the published sizes never
    give, is rounded up.

    Args:
        width: Features of a token.
        out_width: Features of a token afterwards, at least `width`.
        grid: Patches along a side before.

    Raises:
        InvalidSpace: Features would get fewer.
    """

    def __init__(self, width: int, out_width: int, grid: int) -> None:
        super().__init__()
        if out_width < width:
            raise InvalidSpace(f"a spatial reduction keeps all features: it can not go from {width} to {out_width}")
        self.grid, self.more = grid, out_width - width
        self.norm = nn.LayerNorm(width, EPS)
        self.reduce = nn.Conv2d(width, out_width, 3, stride=2, padding=1)
        self.pool = nn.AvgPool2d(2, ceil_mode=True)
        self.token = linear(width, out_width)
        self.position = normal(1, ((grid + 1) // 2) ** 2, out_width)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b m d"]:
        normal = self.norm(x)
        patches = self.reduce(self._image(normal)).flatten(2).transpose(1, 2) + self.position
        beside = self.pool(self._image(x)).flatten(2).transpose(1, 2)
        residual = F.pad(torch.cat([x[:, :1], beside], 1), (0, self.more))
        return torch.cat([self.token(normal[:, :1]), patches], 1) + residual

    def _image(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b c grid grid"]:
        return x[:, 1:].transpose(1, 2).reshape(x.shape[0], -1, self.grid, self.grid)


def _embedding(width: int, patch: int, grid: int, in_channels: int) -> nn.Module:
    return Embedding(ConvPatches(in_channels, width, patch), width, grid)


def _block(width: int, heads: int, head_width: int, hidden: int) -> nn.Module:
    return EncoderBlock(Attention(width, heads, head_width), width, hidden, EPS)


@register_skeleton("vit_resnas", flops="macs", identities=False)
def vit_resnas(
    slots: Mapping[str, str], *, patch: int, image_size: int, in_channels: int, classes: int
) -> list[Segment]:
    """ViT-ResNAS: stages of encoder blocks, each with a width of its own, and a class token for the classifier.

    Without what the reference adds for training only: token mixup's head for the patches.

    Args:
        slots: For each stage `width<n>`; then for each of its blocks `heads<n>x<n>` (heads and the features of one)
            and `mlp<n>x<n>` (the product is the number of hidden features), or `skip` twice.
        patch: Side of a patch, pixels, even; a smaller image is one patch.
        image_size: Side of the image, pixels.
        in_channels: Channels of the image.
        classes: Number of classes.

    Raises:
        InvalidSpace: The patch is odd, or a label is none of these.
    """
    if patch % 2:
        raise InvalidSpace(f"patch = {patch} must be even: convolutions halve the image first")
    grid, side = patch_grid(image_size, patch)
    segments: list[Segment] = []
    width = 0
    for name, labels in layers(slots, each=2, alone="width"):
        if len(labels) == 2:
            if not segments:
                raise InvalidSpace(f"a network of ViT-ResNAS begins with a width, got {', '.join(labels)}")
            head_sizes, hidden = read_label(labels[0], "heads<n>x<n>"), read_label(labels[1], "mlp<n>x<n>")
            sizes = (width, int(head_sizes[0]), int(head_sizes[1]), int(hidden[0]) * int(hidden[1]))
            segments.append(Segment(("vit_resnas block", *sizes), partial(_block, *sizes), name))
            continue
        wider = int(*read_label(labels[0], "width<n>"))
        if not segments:
            make = partial(_embedding, wider, side, grid, in_channels)
            segments.append(Segment(("vit_resnas embedding", wider, side, grid, in_channels), make, "embedding"))
        else:
            reduction = partial(SpatialReduction, width, wider, grid)
            segments.append(Segment(("spatial reduction", width, wider, grid), reduction, f"{name}.reduction"))
            grid = (grid + 1) // 2
        width = wider
    head = partial(Head, width, classes, mean=False, eps=EPS)
    return [*segments, Segment(("token head", width, classes, EPS), head, "head")]
