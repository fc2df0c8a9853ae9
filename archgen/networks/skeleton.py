"""Networks made of segments: what a space of chains builds, and how it is counted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from archgen.errors import InvalidSpace, UnknownName
from archgen.networks.count import trace_network
from archgen.networks.workload import WORKLOAD, WorkloadTrace, trace_workload
from archgen.registry import Registry

SKELETONS: Registry[Skeleton] = Registry("skeleton of a chain")
"""What turns the labels of a chain's slots into segments, by the name that a TOML file's `[network]` gives."""

Costs = dict[Hashable, tuple[dict[str, float], Tensor]]
"""Counts of a segment and an example of its output (on the meta device), by key and shapes of the inputs."""
Workloads = dict[Hashable, tuple[NDArray[np.float64], Tensor]]
"""The same for workloads."""
T = TypeVar("T")


@dataclass(frozen=True)
class Segment:
    """One module of a network, described before it is made.

    Args:
        key: Describes the module fully: two segments with equal keys compute the same function of their weights and
            cost the same on the same input.
        make: Makes the module, freshly initialised.
        name: Of the slot that it realises, or a name of its own (`stem`); the module's name in the network.
        inputs: Segments whose outputs are summed to its input, by their position; -1 is the network's input. None:
            the segment before.
        identity: Whether the module returns its input.
    """

    key: Hashable
    make: Callable[[], nn.Module]
    name: str = ""
    inputs: tuple[int, ...] | None = None
    identity: bool = False


def image_example(batch: int, *, image_size: int, in_channels: int = 3, **_: int) -> Tensor:
    """Zeros of the shape of square images, `b c h w`."""
    return torch.zeros(batch, in_channels, image_size, image_size)


@dataclass(frozen=True)
class Skeleton:
    """A way to build networks of slots; call it to get the segments.

    Args:
        segments: `(slots, **arguments)` to the segments in topological order, the last of which gives the logits;
            `slots` maps the name of each slot to its label, arguments are integers (and what else the family gives).
        example: `(batch, **arguments)` to zeros of what the network reads.
        flops: Which count the published tables call FLOPs: `flops` or `macs` of `archgen.networks.count`.
        shared: Slots that all segments may depend on. Given these, each slot that is there makes one segment of its
            name, which depends on that slot's label alone as long as no stage is left out whole, and so does what it
            costs; all other segments stay the same. None: a segment may depend on every label.
        identities: Whether a segment of a slot may be the identity. Where none can, what an architecture computes is
            known from its labels, which is twice as fast as from its segments.
    """

    segments: Callable[..., list[Segment]]
    example: Callable[..., Tensor] = image_example
    flops: str = "flops"
    shared: tuple[str, ...] | None = None
    identities: bool = True

    def __call__(self, slots: Mapping[str, str], **arguments: Any) -> list[Segment]:
        """The segments of an architecture."""
        return self.segments(slots, **arguments)


def register_skeleton(
    name: str,
    *,
    example: Callable[..., Tensor] = image_example,
    flops: str = "flops",
    shared: tuple[str, ...] | None = None,
    identities: bool = True,
) -> Callable[[Callable[..., list[Segment]]], Callable[..., list[Segment]]]:
    """Decorator that adds a function `(slots, **arguments) -> segments` to `SKELETONS`; arguments as in `Skeleton`."""

    def add(segments: Callable[..., list[Segment]]) -> Callable[..., list[Segment]]:
        SKELETONS.register(name)(Skeleton(segments, example, flops, shared, identities))
        return segments

    return add


def check_slots(slots: Collection[str], known: Collection[str], skeleton: str) -> None:
    """Raise `InvalidSpace` unless the skeleton gets the slots that it knows, no more and no fewer."""
    for slot in slots:
        if slot not in known:
            raise InvalidSpace(f"skeleton '{skeleton}': {UnknownName('slot', slot, known)}")
    for slot in known:
        if slot not in slots:
            raise InvalidSpace(f"skeleton '{skeleton}' needs a slot '{slot}', which the space does not have")


def sources(segments: Sequence[Segment]) -> list[tuple[int, ...]]:
    """Positions of the inputs of each segment; -1 is the network's input."""
    return [s.inputs if s.inputs is not None else (i - 1,) for i, s in enumerate(segments)]


class SegmentNetwork(nn.Module):
    """The network of a list of segments; a segment with several inputs reads their sum.

    Args:
        segments: In topological order; the last one's output is the network's.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        super().__init__()
        names = [segment.name.replace(".", "-") or str(i) for i, segment in enumerate(segments)]
        self.segments = nn.ModuleDict({name: s.make() for name, s in zip(names, segments, strict=True)})
        self.sources = sources(segments)

    def forward(self, x: Tensor) -> Tensor:
        values: list[Tensor] = []
        for module, positions in zip(self.segments.values(), self.sources, strict=True):
            total = x if positions[0] < 0 else values[positions[0]]
            for i in positions[1:]:
                total = total + (x if i < 0 else values[i])
            values.append(module(total))
        return values[-1]


def count_segments(segments: Sequence[Segment], example: Tensor, costs: Costs) -> dict[str, float]:
    """Counts of the network of `segments`, each distinct segment counted once.

    Args:
        segments: In topological order.
        example: What the network reads, on the meta device.
        costs: What is known from earlier calls; grows.

    Returns:
        `params`, `flops` and `macs` as `count_network` gives them.
    """
    total = {"params": 0.0, "flops": 0.0, "macs": 0.0}
    for counts in segment_counts(segments, example, costs):
        for metric, value in counts.items():
            total[metric] += value
    return total


def sum_workload(segments: Sequence[Segment], example: Tensor, workloads: Workloads) -> NDArray[np.float64]:
    """What `WORKLOAD` names, of the network of `segments`; arguments as in `count_segments`."""
    total = np.zeros(len(WORKLOAD))
    for workload in segment_workloads(segments, example, workloads):
        total += workload
    return total


def segment_counts(segments: Sequence[Segment], example: Tensor, costs: Costs) -> list[dict[str, float]]:
    """`params`, `flops` and `macs` of each segment; arguments as in `count_segments`."""
    return list(_each(segments, example, costs, trace_network))


def segment_workloads(
    segments: Sequence[Segment], example: Tensor, workloads: Workloads, trace: WorkloadTrace = trace_workload
) -> list[NDArray[np.float64]]:
    """What `WORKLOAD` names, of each segment; arguments as in `count_segments`, and how a module is traced."""
    return list(_each(segments, example, workloads, trace))


def _each(
    segments: Sequence[Segment],
    example: Tensor,
    known: dict[Hashable, tuple[T, Tensor]],
    trace: Callable[[nn.Module, Tensor], tuple[T, Tensor]],
) -> Iterator[T]:
    """Figures of each segment, traced where they are not known yet."""
    outputs: list[Tensor] = []
    for segment, positions in zip(segments, sources(segments), strict=True):
        x = example if positions[0] < 0 else outputs[positions[0]]
        place = (segment.key, x.shape, x.dtype)
        if place not in known:
            known[place] = _trace(segment, x, trace)
        figures, output = known[place]
        yield figures
        outputs.append(output)


def _trace(segment: Segment, x: Tensor, trace: Callable[[nn.Module, Tensor], tuple[T, Tensor]]) -> tuple[T, Tensor]:
    """Figures and output on the meta device; a module that can not run there runs on zeros instead."""
    try:
        with torch.device("meta"):
            return trace(segment.make(), x)
    except Exception:  # users' own modules may do anything: what is wrong with them shows again on the CPU
        figures, output = trace(segment.make(), torch.zeros(x.shape, dtype=x.dtype))
        return figures, output.to("meta")
