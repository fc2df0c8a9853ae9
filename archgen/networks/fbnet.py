"""FBNet's layer-wise space (arXiv 1812.03443) as HW-NAS-Bench (arXiv 2103.10584) builds it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import nn

from archgen.errors import UnknownName
from archgen.networks.mbconv import MBConv, conv_bn
from archgen.networks.skeleton import Segment, check_slots, register_skeleton

BLOCKS = {
    f"k{kernel}_e{expansion}" + ("_g2" if groups == 2 else ""): (kernel, expansion, groups)
    for kernel in (3, 5)
    for expansion, groups in ((1, 1), (1, 2), (3, 1), (6, 1))
}
"""Kernel, expansion and groups of the 1x1 convolutions of each block."""

# channels, layers and stride of the first layer; CIFAR images keep their size until the third stage
STAGES = ((16, 1, 1), (24, 4, 1), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))


@register_skeleton("fbnet", shared=())
def fbnet(slots: Mapping[str, str], *, head: int, classes: int, in_channels: int, image_size: int) -> list[Segment]:
    """Stem of 16 channels, 22 searched layers in seven stages, 1x1 convolution of `head` channels, classifier.

    `skip` is the identity where the shape stays, else a 1x1 convolution with batch normalisation and ReLU. The FLOPs
    that NASFLAT's table lists for CIFAR-100 (arXiv 2403.02446) are those of `archgen.networks.count` without the
    ReLU after each block's expansion, and with `h w` instead of `(h + 1) (w + 1)` a channel for the global pooling.

    Args:
        slots: `layer1` ... `layer22`, each a member of `BLOCKS` or `skip`.
        head: Channels of the last convolution.
        classes: Number of classes.
        in_channels: Channels of the image.
        image_size: Of the image, pixels; images of more than 64 are halved by the stem and once more by the second
            stage, as in the ImageNet network.

    Raises:
        InvalidSpace: A slot too many or too few.
        UnknownName: A label that is no block.
    """
    check_slots(slots, [f"layer{i}" for i in range(1, 23)], "fbnet")
    large = image_size > 64
    stem = partial(conv_bn, in_channels, 16, 3, 2 if large else 1, activation=nn.ReLU)
    segments = [Segment(("stem", in_channels, large), stem, "stem")]
    inputs, layer = 16, 0
    for stage, (outputs, layers, first_stride) in enumerate(STAGES):
        for i in range(layers):
            layer += 1
            stride = (2 if large and stage == 1 else first_stride) if i == 0 else 1
            segments.append(_layer(f"layer{layer}", slots[f"layer{layer}"], inputs, outputs, stride))
            inputs = outputs
    end = partial(FBNetHead, inputs, head, classes)
    return [*segments, Segment(("head", inputs, head, classes), end, "head")]


def _layer(name: str, label: str, inputs: int, outputs: int, stride: int) -> Segment:
    if label == "skip":
        if stride == 1 and inputs == outputs:
            return Segment("identity", nn.Identity, name, identity=True)
        make = partial(conv_bn, inputs, outputs, 1, stride, activation=nn.ReLU)
        return Segment(("conv", inputs, outputs, stride), make, name)
    if label not in BLOCKS:
        raise UnknownName("block of fbnet", label, [*BLOCKS, "skip"])
    kernel, expansion, groups = BLOCKS[label]
    block = partial(MBConv, inputs, outputs, kernel, stride, hidden=inputs * expansion, groups=groups)
    return Segment((label, inputs, outputs, stride), block, name)


class FBNetHead(nn.Sequential):
    """1x1 convolution, global mean, classifier."""

    def __init__(self, inputs: int, channels: int, classes: int) -> None:
        super().__init__(
            conv_bn(inputs, channels, activation=nn.ReLU),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, classes),
        )
