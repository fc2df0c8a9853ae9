"""The sub-networks of Once-for-All's MobileNetV3 (arXiv 1908.09791)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import chain

from torch import nn

from archgen.networks.blocks import Resize
from archgen.networks.labels import SKIP, read_label
from archgen.networks.mbconv import MBConv, conv_bn, make_divisible
from archgen.networks.skeleton import Segment, check_slots, register_skeleton

# channels, stride of the first block, squeeze-and-excitation, hard swish: the released OFA-MobileNetV3
STAGES = ((24, 2, False, False), (40, 2, True, False), (80, 2, False, True), (112, 1, True, True), (160, 2, True, True))


@register_skeleton("mobilenetv3", flops="macs", shared=("resolution",))
def mobilenetv3(
    slots: Mapping[str, str], *, width_percent: int, classes: int, in_channels: int, image_size: int
) -> list[Segment]:
    """Stem, first block, five stages of up to four MBConv blocks, final expansion, feature mix, classifier.

    Args:
        slots: `resolution` (`r224`), which must be there, and `stage1.block1`, `stage1.block2` ... to `stage5.block4`
            (`k5_e6`: kernel 5, expansion 6; `skip` leaves the block out).
        width_percent: Channels in percent of the published ones, made divisible by 8; released are 100 and 120.
        classes: Number of classes.
        in_channels: Channels of the image.
        image_size: Of the images that come, pixels; the network resizes them to its own resolution.

    Raises:
        InvalidSpace: A slot or label that is not of these forms.
    """
    widths = [make_divisible(channels * width_percent / 100) for channels in (16, 960, 1280)]
    first, expanded, mixed = widths
    stages = [[slot for slot in slots if slot.startswith(f"stage{i}.block")] for i in range(1, len(STAGES) + 1)]
    check_slots(slots, ["resolution", *chain.from_iterable(stages)], "mobilenetv3")
    size = int(read_label(slots["resolution"], "r<n>")[0])
    segments = [Segment(("resize", size), partial(Resize, size), "resolution")]
    stem = partial(conv_bn, in_channels, first, 3, 2, activation=nn.Hardswish)
    block = partial(MBConv, first, first, 3, hidden=first, expand=False)
    segments += [Segment(("stem", in_channels, first), stem, "stem"), Segment(("first", first), block, "first")]
    channels = first
    for blocks, (base, stride, squeeze, swish) in zip(stages, STAGES, strict=True):
        outputs = make_divisible(base * width_percent / 100)
        for i, name in enumerate(blocks):
            if slots[name] == SKIP:
                continue
            kernel, expansion = map(int, read_label(slots[name], "k<n>_e<n>"))
            step = stride if i == 0 else 1
            hidden = make_divisible(channels * expansion)
            key = ("mbconv", channels, outputs, kernel, step, hidden, squeeze, swish)
            make = partial(
                MBConv,
                channels,
                outputs,
                kernel,
                step,
                hidden=hidden,
                squeeze=squeeze,
                activation=nn.Hardswish if swish else nn.ReLU,
            )
            segments.append(Segment(key, make, name))
            channels = outputs
    head = partial(MobileNetV3Head, channels, expanded, mixed, classes)
    return [*segments, Segment(("head", channels, expanded, mixed, classes), head, "head")]


class MobileNetV3Head(nn.Sequential):
    """1x1 expansion, global mean, 1x1 feature mix without normalisation, dropout of 0.1, classifier."""

    def __init__(self, channels: int, expanded: int, mixed: int, classes: int) -> None:
        super().__init__(
            conv_bn(channels, expanded, activation=nn.Hardswish),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(expanded, mixed, 1, bias=False),
            nn.Hardswish(),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(mixed, classes),
        )
