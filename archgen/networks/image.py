"""Networks of images for users' own chains and graphs: a stem, one block a node, a head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import nn

from archgen.errors import InvalidSpace
from archgen.networks.blocks import BLOCKS, MakeBlock, Resize, skip
from archgen.networks.labels import SKIP, read_label
from archgen.networks.mbconv import conv_bn
from archgen.networks.skeleton import Segment, register_skeleton


@dataclass(frozen=True)
class Place:
    """Where a node stands in the graph, and the shape of what it gives.

    Args:
        inputs: Names of the nodes that it reads; `input` is the stem.
        channels: Of its output; None: as many as come in.
        stride: By which it shrinks the image.
    """

    inputs: tuple[str, ...]
    channels: int | None = None
    stride: int = 1


@dataclass(frozen=True)
class _Value:
    """Output of a segment: its position, its channels, and how many times smaller the image is."""

    position: int
    channels: int
    shrunk: int


@register_skeleton("image")
def image(
    slots: Mapping[str, str],
    *,
    layout: Mapping[str, Place],
    outputs: tuple[str, ...],
    operations: Mapping[str, MakeBlock],
    channels: int,
    classes: int,
    in_channels: int,
    image_size: int,
    stem_stride: int = 1,
) -> list[Segment]:
    """Stem (3x3 convolution), the nodes, and a head (global mean, linear) that reads the sum of the outputs.

    A node reads the sum of its inputs. Where their shapes differ, those that do not have the node's channels or
    the coarsest image are brought there by a 1x1 convolution with batch normalisation.

    Args:
        slots: Operation of each node: a member of `operations` or of `archgen.networks.blocks.BLOCKS`; besides, a
            `resolution` (`r32`) to which images are resized first.
        layout: Place of each node, in topological order.
        outputs: Names of the nodes that the head reads.
        operations: The user's own.
        channels: Channels of the stem.
        classes: Number of classes.
        in_channels: Channels of the image.
        image_size: Of the image, pixels.
        stem_stride: Stride of the stem.

    Raises:
        InvalidSpace: Inputs of a node whose images can not be brought to one size.
        UnknownName: No such operation.
    """
    segments = []
    if "resolution" in slots:
        size = int(read_label(slots["resolution"], "r<n>")[0])
        segments.append(Segment(("resize", size), partial(Resize, size), "resolution"))
    stem = partial(conv_bn, in_channels, channels, 3, stem_stride, activation=nn.ReLU)
    segments.append(Segment(("stem", in_channels, channels, stem_stride), stem, "stem"))
    values = {"input": _Value(len(segments) - 1, channels, stem_stride)}
    for name, place in layout.items():
        reads = _aligned([values[source] for source in place.inputs], place.channels, name, segments)
        inputs, label = reads[0].channels, slots[name]
        width = place.channels or inputs
        make = partial(operations.get(label) or BLOCKS[label], inputs, width, place.stride)
        same = label == SKIP and label not in operations and place.stride == 1 and inputs == width
        positions = tuple(value.position for value in reads)
        segments.append(Segment((label, inputs, width, place.stride), make, name, positions, identity=same))
        values[name] = _Value(len(segments) - 1, width, reads[0].shrunk * place.stride)
    reads = _aligned([values[name] for name in outputs], None, "output", segments)
    width = reads[0].channels
    positions = tuple(value.position for value in reads)
    head = partial(_head, width, classes)
    return [*segments, Segment(("head", width, classes), head, "head", positions)]


def _aligned(reads: list[_Value], channels: int | None, name: str, segments: list[Segment]) -> list[_Value]:
    """The inputs of a node, brought to one shape by segments that are added where they differ."""
    if len({(value.channels, value.shrunk) for value in reads}) == 1:
        return reads
    width, shrunk = channels or max(v.channels for v in reads), max(v.shrunk for v in reads)
    aligned = []
    for value in reads:
        if shrunk % value.shrunk:
            sizes = sorted({v.shrunk for v in reads})
            raise InvalidSpace(f"'{name}': its inputs shrink the image {sizes} times, which no stride brings together")
        stride = shrunk // value.shrunk
        if stride == 1 and value.channels == width:
            aligned.append(value)
            continue
        key, make = (SKIP, value.channels, width, stride), partial(skip, value.channels, width, stride)
        segments.append(Segment(key, make, f"{name}<{value.position}", (value.position,)))
        aligned.append(_Value(len(segments) - 1, width, shrunk))
    return aligned


def _head(channels: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
