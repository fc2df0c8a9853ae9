"""The CIFAR-10 networks of NAS-Bench-Macro (arXiv 2103.11922, section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import nn

from archgen.errors import UnknownName
from archgen.networks.mbconv import MBConv, conv_bn
from archgen.networks.skeleton import Segment, check_slots, register_skeleton

BLOCKS = {"mb3_k3": (3, 3), "mb6_k5": (6, 5)}
"""Expansion and kernel of each block."""

STAGES = (2, 3, 3)
"""Layers of each stage; the first one of a stage halves the image and doubles the channels."""


@register_skeleton("nasbench_macro", flops="macs", shared=())
def nasbench_macro(
    slots: Mapping[str, str], *, channels: int, head: int, classes: int, in_channels: int, image_size: int
) -> list[Segment]:
    """Stem, eight searched layers in three stages, 1x1 convolution, classifier.

    `identity` is a 1x1 convolution with batch normalisation in the first layer of a stage, where the shape changes.

    Args:
        slots: `layer1` ... `layer8`, each `identity` or a member of `BLOCKS`.
        channels: Channels of the stem.
        head: Channels of the last convolution.
        classes: Number of classes.
        in_channels: Channels of the image.
        image_size: Of the image, pixels.

    Raises:
        InvalidSpace: A slot too many or too few.
        UnknownName: A label that is no block.
    """
    check_slots(slots, [f"layer{i}" for i in range(1, 9)], "nasbench_macro")
    stem = partial(conv_bn, in_channels, channels, 3, activation=nn.ReLU)
    segments = [Segment(("stem", in_channels, channels), stem, "stem")]
    layer = 0
    for layers in STAGES:
        for i in range(layers):
            layer += 1
            outputs, stride = (2 * channels, 2) if i == 0 else (channels, 1)
            segments.append(_layer(f"layer{layer}", slots[f"layer{layer}"], channels, outputs, stride))
            channels = outputs
    return [*segments, Segment(("head", channels, head, classes), partial(Head, channels, head, classes), "head")]


def _layer(name: str, label: str, inputs: int, outputs: int, stride: int) -> Segment:
    if label == "identity":
        if stride == 1 and inputs == outputs:
            return Segment("identity", nn.Identity, name, identity=True)
        return Segment(("conv", inputs, outputs, stride), partial(conv_bn, inputs, outputs, 1, stride), name)
    if label not in BLOCKS:
        raise UnknownName("block of nasbench_macro", label, ["identity", *BLOCKS])
    expansion, kernel = BLOCKS[label]
    make = partial(MBConv, inputs, outputs, kernel, stride, hidden=inputs * expansion)
    return Segment((label, inputs, outputs, stride), make, name)


class Head(nn.Sequential):
    """1x1 convolution, global mean, classifier."""

    def __init__(self, inputs: int, channels: int, classes: int) -> None:
        super().__init__(
            conv_bn(inputs, channels, activation=nn.ReLU),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, classes),
        )
