"""Supernets of chains: slots share weights by slicing (Once-for-All, BigNAS, AutoFormer), or have them by label."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.errors import InvalidArchitecture, InvalidSpace
from archgen.graph import Architecture
from archgen.networks.mbconv import MBConv
from archgen.networks.skeleton import Segment, sources
from archgen.spaces import ChainSpace, SearchSpace
from archgen.spaces.stages import SKIP
from archgen.supernets.base import SUPERNETS
from archgen.supernets.relaxed import RelaxedSupernet, Weights, open_values, strongest_values, weighed
from archgen.supernets.shared import SharedModule, hollow, structure

_Part = tuple[str, Segment, Hashable]
"""Name of a segment, the segment, and the labels that its weights are kept apart by."""


@SUPERNETS.register("chain")
class ElasticSupernet(RelaxedSupernet):
    """Each slot has the weights of its largest module; smaller ones are cut out of it (`SharedModule`).

    Width is the first channels, kernels are centres, depth is the first blocks of a stage; resolutions have no weights.
    Modules of one slot that differ in more than size (a bottleneck with and without expansion, groups, strides) have
    weights of their own. What a slot's modules look like is found by changing one block of the largest architecture at
    a time, so that the weights reach as far as the largest width that other slots can ask for.

    Without `share` each label of a slot has weights of its own, as in SPOS (arXiv 1904.00420) and NAS-Bench-Macro; only
    widths that other slots ask for are cut.

    Args:
        space: A `ChainSpace`.
        network: Arguments of `space.build`.
        share: Whether labels of a slot share weights.
        transform: Whether smaller kernels are transformed (Once-for-All) or just the centre (Single-Path NAS).

    Raises:
        TypeError: A space of another family.
    """

    def __init__(
        self, space: SearchSpace, network: Mapping[str, int], *, share: bool = True, transform: bool = True
    ) -> None:
        if not isinstance(space, ChainSpace):
            raise TypeError(f"ElasticSupernet serves chains, got {type(space).__name__}")
        super().__init__(space, network)
        self.chain, self.share = space, share
        self.slots = nn.ModuleDict()
        self._kinds: dict[tuple[str, Hashable], str] = {}
        self._hollows: dict[Hashable, nn.Module] = {}
        for name, makers in self._makers().items():
            self._kinds |= {(name, kind): str(i) for i, kind in enumerate(makers)}
            shared = nn.ModuleDict()
            for i, segments in enumerate(makers.values()):
                modules = [self._hollow(segment) for segment in segments]
                shared[str(i)] = SharedModule([s.make for s in segments], modules, transform=transform)
            self.slots[name] = shared

    def _makers(self) -> dict[str, dict[Hashable, list[Segment]]]:
        """Distinct segments with weights, by the name of the segment and what they share weights by."""
        found: dict[str, dict[Hashable, list[Segment]]] = {}
        seen = set()
        for arch in _covering(self.chain):
            for name, segment, label in self._segments(arch):
                if (name, segment.key, label) not in seen:
                    seen.add((name, segment.key, label))
                    module = self._hollow(segment)
                    if module.state_dict():
                        found.setdefault(name, {}).setdefault((structure(module), label), []).append(segment)
        return found

    def _hollow(self, segment: Segment) -> nn.Module:
        """The segment's module without weights; made once for all slots."""
        if segment.key not in self._hollows:
            self._hollows[segment.key] = hollow(segment.make)
        return self._hollows[segment.key]

    def _segments(self, arch: Architecture) -> Iterator[_Part]:
        """Names and segments of an architecture's network, and the labels that their weights are kept apart by.

        The names are those of the network's modules.
        """
        segments = self.chain.segments(arch, **self.network)
        labels = self.chain.to_labels(arch)
        for i, segment in enumerate(segments):
            own: Hashable = None
            if not self.share:
                own = tuple(v for slot, v in labels.items() if f"{slot}.".startswith(f"{segment.name}."))
            yield segment.name.replace(".", "-") or str(i), segment, own

    def forward(
        self, x: Float[Tensor, "b ..."], arch: Architecture, replaced: Mapping[str, Tensor] = MappingProxyType({})
    ) -> Float[Tensor, "b classes"]:
        """As in the base.

        Args:
            x: Inputs.
            arch: Whose logits.
            replaced: Tensors in place of some that it inherits, by their names in `inherited`.
        """
        others: dict[str, dict[str, Tensor]] = {}
        for name, tensor in replaced.items():
            _, segment, own = name.split(".", 2)
            others.setdefault(segment, {})[own] = tensor
        return self._through(arch, x, lambda part, x: self._run(part, x, others.get(part[0], {})))

    def _through(self, arch: Architecture, x: Tensor, run: Callable[[_Part, Tensor], Tensor]) -> Tensor:
        """The last output, where `run` runs each segment of an architecture on the sum of its inputs."""
        segments = list(self._segments(arch))
        values: list[Tensor] = []
        for part, positions in zip(segments, sources([segment for _, segment, _ in segments]), strict=True):
            total = x if positions[0] < 0 else values[positions[0]]
            for i in positions[1:]:
                total = total + (x if i < 0 else values[i])
            values.append(run(part, total))
        return values[-1]

    @property
    def edges(self) -> dict[str, tuple[str, ...]]:
        """Labels of the slots, where each slot makes a segment of its own and no block may be left out.

        Raises:
            InvalidSpace: Another chain: a label that other segments depend on, or blocks that may be left out.
        """
        found, shared = open_values(self), self.chain.skeleton.shared
        optional = {slot for stage in self.chain.stages for slot in stage.optional}
        for slot, labels in found.items():
            if len(labels) > 1 and (shared is None or slot in shared or (slot in optional and SKIP in labels)):
                raise InvalidSpace(
                    f"labels of '{slot}' can not be mixed, since other parts of {self.space.name} depend on them; "
                    "fix it in a part of the space, or train it with 'uniform'"
                )
        return found

    def mixed(self, x: Float[Tensor, "b ..."], weights: Weights) -> Float[Tensor, "b classes"]:
        def run(part: _Part, x: Tensor) -> Tensor:
            slot = part[1].name
            if slot not in parts:
                return self._run(part, x)
            out = weighed({label: partial(self._run, own) for label, own in parts[slot].items()}, x, weights[slot])
            if out is None:
                raise ValueError(f"expected a weight for some label of '{slot}', got none")
            return out

        parts = self._mixable(self.edges)
        return self._through(self.variant({}), x, run)

    def _mixable(self, edges: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, _Part]]:
        """The segment of each label of each slot."""
        found: dict[str, dict[str, _Part]] = {slot: {} for slot in edges}
        for i in range(max(map(len, edges.values()))):  # between them they have every label
            chosen = {slot: labels[i % len(labels)] for slot, labels in edges.items()}
            for part in self._segments(self._labelled(chosen)):
                if part[1].name in edges:
                    found[part[1].name][chosen[part[1].name]] = part
        return found

    def _labelled(self, chosen: Mapping[str, str]) -> Architecture:
        return self.chain.from_labels({slot: chosen.get(slot, labels[0]) for slot, labels in self.chain.slots.items()})

    def strongest(self, scores: Mapping[str, Sequence[float]]) -> Architecture:
        """The strongest label of each slot."""
        return self._labelled(strongest_values(self.edges, scores))

    def variant(self, operations: Mapping[str, str]) -> Architecture:
        return self._labelled({slot: labels[0] for slot, labels in self.edges.items()} | dict(operations))

    def sort_channels(self, kept: Mapping[str, Sequence[str]] | None = None) -> None:
        """`SharedModule.sort_channels` of all slots; the largest architecture computes what it did.

        Args:
            kept: Labels of slots, all of a slot that is not named, with which the largest computes what it did, too.
        """
        modules: dict[SharedModule, list[nn.Module]] = {m: [] for m in self.modules() if isinstance(m, SharedModule)}
        for arch in () if kept is None else self._of_labels(kept):
            for name, segment, own in self._segments(arch):
                shared = self._shared(name, segment, own)
                if shared is not None:
                    modules[shared].append(self._hollow(segment))
        for module, narrower in modules.items():
            module.sort_channels(narrower)

    def _of_labels(self, allowed: Mapping[str, Sequence[str]]) -> Iterator[Architecture]:
        """The largest architecture, and those that differ from it within one block, that have allowed labels only."""
        for arch in _covering(self.chain):
            if all(label in allowed.get(slot, (label,)) for slot, label in self.chain.to_labels(arch).items()):
                yield arch

    @torch.no_grad()
    def silence_residuals(self) -> None:
        """Start each residual bottleneck as the identity: its last normalisation scales by 0 (BigNAS, section 3.1)."""
        for module in self.modules():
            if isinstance(module, MBConv) and module.residual:
                *_, last = (m for m in module.modules() if isinstance(m, nn.BatchNorm2d))
                last.weight.zero_()

    def owned(self, arch: Architecture) -> dict[str, list[nn.Parameter]]:
        found: dict[str, list[nn.Parameter]] = {}
        for name, segment, label in self._segments(arch):
            shared = self._shared(name, segment, label)
            if shared is not None:
                for slot in self.chain.slots:
                    if f"{slot}.".startswith(f"{segment.name}."):
                        found[slot] = list(shared.parameters())
        return found

    def inherited(self, arch: Architecture) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for name, segment, label in self._segments(arch):
            shared = self._shared(name, segment, label)
            if shared is not None:
                own = shared.state(segment.key, segment.make)
                state |= {f"segments.{name}.{key}": value for key, value in own.items()}
        return state

    def _run(self, part: _Part, x: Tensor, replaced: Mapping[str, Tensor] = MappingProxyType({})) -> Tensor:
        name, segment, label = part
        if segment.identity:
            return x
        shared = self._shared(name, segment, label)
        out: Tensor
        if shared is None:
            out = self._hollow(segment).to(x.device).train(self.training)(x)
        else:
            out = shared(x, segment.key, segment.make, replaced)
        return out

    def _shared(self, name: str, segment: Segment, label: Hashable) -> SharedModule | None:
        """The weights of a segment; None where it has none."""
        module = self._hollow(segment)
        if not module.state_dict():
            return None
        kind = self._kinds.get((name, (structure(module), label)))
        if kind is None:
            raise InvalidArchitecture(f"the supernet holds no weights for {segment.key} at {name}")
        shared: SharedModule = self.slots[name][kind]  # type: ignore[index]
        return shared


def _covering(space: ChainSpace) -> Iterator[Architecture]:
    """The largest architecture, and those that differ from it within one block, whose slots may make one module."""
    labels = {slot: allowed[0] for slot, allowed in space.active.items()}
    base = space.from_labels(labels) if space.extremes is None else space.extremes[1]
    held = space.to_labels(base)
    for block in (block for part in space.parts for block in part.blocks):
        for chosen in itertools.product(*(space.active[slot] for slot in block)):
            yield space.from_labels({**held, **dict(zip(block, chosen, strict=True))})
