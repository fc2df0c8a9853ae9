"""Superkernels: norms of parts of a kernel decide what a bottleneck is (Single-Path NAS, arXiv 1904.02877)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from archgen.errors import InvalidSpace
from archgen.networks.mbconv import MBConv
from archgen.networks.skeleton import Segment
from archgen.spaces import ChainSpace
from archgen.supernets.base import Supernet
from archgen.supernets.elastic import ElasticSupernet
from archgen.supernets.shared import centre, hollow


def indicator(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """1 where `x` is above 0, else 0; its derivative is that of the sigmoid."""
    smooth = x.sigmoid()
    return smooth + ((x > 0).to(x) - smooth).detach()


@dataclass(frozen=True)
class Decision:
    """What a superkernel is, each number 0 or 1 and differentiable.

    Args:
        kernel: The depthwise kernel, with zeros around the chosen size.
        kernels: Which of the `k` sizes is chosen.
        widths: Which of the `e` widths is chosen.
        gate: Which channels are there.
        there: Whether the block is there, as far as it decides for itself.
    """

    kernel: Float[Tensor, "h 1 s s"]
    kernels: Float[Tensor, " k"]
    widths: Float[Tensor, " e"]
    gate: Float[Tensor, " h"]
    there: Float[Tensor, ""]


@dataclass(frozen=True)
class Superkernel:
    """The choices of one block: depthwise kernel sizes, channels between the 1x1 convolutions, and to be left out.

    Args:
        slot: Name of the slot.
        kernels: Kernel sizes, ascending.
        widths: Channels, ascending.
        labels: Of each size and width.
        optional: Whether shallower stages leave it out.
        layers: Layers of the bottleneck, the last of which projects.
    """

    slot: str
    kernels: tuple[int, ...]
    widths: tuple[int, ...]
    labels: Mapping[tuple[int, int], str]
    optional: bool
    layers: int

    @property
    def thresholds(self) -> tuple[str, ...]:
        """Names of its thresholds: one for each size and width but the smallest, and one for being there."""
        sizes, widths = (f"kernel {k}" for k in self.kernels[1:]), (f"width {w}" for w in self.widths[1:])
        return (*sizes, *widths, *(["there"] if self.optional else []))

    def decide(
        self, kernel: Float[Tensor, "h 1 s s"], thresholds: Float[Tensor, " t"], kept: Float[Tensor, " t"]
    ) -> Decision:
        r"""The superkernel after its decisions.

        With shells :math:`w_{5 \setminus 3}`, the kernel is :math:`w_3 + \mathbb{1}[\lVert w_{5 \setminus 3} \rVert >
        t] \, (w_{5 \setminus 3} + \mathbb{1}[\dots] \dots)`, and likewise for the channels beyond each width, by the
        norms of what is left of the kernel; the block is there by the norm of its narrowest part.

        Args:
            kernel: Of the largest size and width.
            thresholds: In the order of `thresholds`.
            kept: 0 for a decision that is against the larger, whatever the norm; else 1.
        """
        size, names = kernel.shape[-1], iter(zip(thresholds, kept, strict=True))

        def larger(part: Tensor) -> Tensor:
            threshold, keep = next(names)
            chosen: Tensor = keep * indicator(torch.linalg.vector_norm(part) - threshold)
            return chosen

        inner = [F.pad(centre(kernel, k), [(size - k) // 2] * 4) for k in self.kernels]
        shells = [inner[0], *(b - a for a, b in pairwise(inner))]
        sizes = _nested([larger(shell) for shell in shells[1:]], kernel)
        masked = torch.stack([one * shell for one, shell in zip(sizes, shells, strict=True)]).sum(0)
        counts = [self.widths[0], *(b - a for a, b in pairwise(self.widths))]
        first, *others = masked.split(counts)  # type: ignore[no-untyped-call]
        widths = _nested([larger(part) for part in others], kernel)
        gate = widths.repeat_interleave(torch.tensor(counts, device=kernel.device))
        there = larger(first) if self.optional else kernel.new_ones(())
        return Decision(masked, _only_last(sizes), _only_last(widths), gate, there)

    def replaced(self, state: Mapping[str, Tensor], decision: Decision, there: Float[Tensor, ""]) -> dict[str, Tensor]:
        """The tensors of a bottleneck that a decision changes, by their names in `ElasticSupernet.inherited`.

        Channels that are not there are 0 after normalisation and activation, and so is what a block adds that is not
        there: what is left computes what the smaller bottleneck does, squeeze-and-excitation apart, whose hidden
        channels stay.

        Args:
            state: What the largest architecture inherits.
            decision: Of this block.
            there: Whether it, and all that it needs, is there.
        """
        found = {self.name("1.0.weight"): decision.kernel}
        for name, scale in (("1.1", decision.gate), (f"{self.layers - 1}.1", there)):
            for parameter in ("weight", "bias"):
                found[self.name(f"{name}.{parameter}")] = scale * state[self.name(f"{name}.{parameter}")]
        return found

    def name(self, tensor: str) -> str:
        """Name of a tensor of the bottleneck's layers among those that an architecture inherits."""
        return f"segments.{self.slot.replace('.', '-')}.layers.{tensor}"

    def label(self, decision: Decision) -> str:
        """The label of a decision."""
        size, width = int(decision.kernels.argmax()), int(decision.widths.argmax())
        return self.labels[self.kernels[size], self.widths[width]]


def _nested(larger: list[Tensor], like: Tensor) -> Float[Tensor, " n"]:
    """Whether each part is there: the first is, each other where it and all before it are chosen."""
    return torch.stack([like.new_ones(()), *larger]).cumprod(0)


def _only_last(nested: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return nested - F.pad(nested[1:], (0, 1))


def superkernels(supernet: Supernet) -> list[Superkernel]:
    """The blocks that thresholds can decide about, in order; other slots have no weights.

    Raises:
        InvalidSpace: The space is no chain of bottlenecks whose labels are all pairs of a kernel and a width, or its
            stages leave out several blocks at once.
    """
    space = supernet.space
    if not isinstance(supernet, ElasticSupernet) or not isinstance(space, ChainSpace) or space.extremes is None:
        raise InvalidSpace(f"{space.name} is no chain with an [order], so it has no superkernels; use 'uniform'")
    for stage in space.stages:
        if stage.depths != tuple(range(stage.depths[0], stage.depths[-1] + 1)) or any(len(b) > 1 for b in stage.blocks):
            raise InvalidSpace(f"'{stage.name}': thresholds leave out one block of one slot at a time; use 'uniform'")
    optional = {slot for stage in space.stages for slot in stage.optional}
    found = [_superkernel(supernet, space, slot, slot in optional) for slot in _weighted(supernet, space)]
    if not found:
        raise InvalidSpace(f"{space.name} has no block with weights of its own to choose; use 'uniform'")
    return found


def _weighted(supernet: ElasticSupernet, space: ChainSpace) -> Iterator[str]:
    assert space.extremes is not None
    for segment in space.segments(space.extremes[1], **supernet.network):
        if segment.name in space.variables and hollow(segment.make).state_dict():
            yield segment.name


def _superkernel(supernet: ElasticSupernet, space: ChainSpace, slot: str, optional: bool) -> Superkernel:
    assert space.extremes is not None
    labels = space.to_labels(space.extremes[1])
    found, layers = {}, 0
    for label in space.active[slot]:
        segments = space.segments(space.from_labels({**labels, slot: label}), **supernet.network)
        module = hollow(_named(segments, slot).make)
        if not isinstance(module, MBConv) or not module.exchangeable:
            raise InvalidSpace(f"'{slot}': '{label}' is no bottleneck with an expansion in one group; use 'uniform'")
        if optional and not module.residual:
            raise InvalidSpace(f"'{slot}' can not be left out by a threshold: it has no residual; use 'uniform'")
        depthwise = module.get_parameter("layers.1.0.weight")
        found[depthwise.shape[-1], depthwise.shape[0]], layers = label, len(module.layers)
    kernels, widths = (tuple(sorted({pair[i] for pair in found})) for i in (0, 1))
    if len(found) < len(space.active[slot]) or set(found) != set(product(kernels, widths)):
        raise InvalidSpace(f"'{slot}': its labels must be all pairs of a kernel and a width, one each; use 'uniform'")
    if labels[slot] != found[kernels[-1], widths[-1]]:
        raise InvalidSpace(f"'{slot}': the largest of [order] must have the largest kernel and width")
    return Superkernel(slot, kernels, widths, found, optional, layers)


def _named(segments: list[Segment], slot: str) -> Segment:
    return next(segment for segment in segments if segment.name == slot)
