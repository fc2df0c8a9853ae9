"""Chains of slots with stages of variable depth: the spaces of Once-for-All, FBNet, FlexiBERT and users' own.

An architecture gives each *slot* a label. As a DAG: `input`, the slots in order, `output`, with the same edges for
all architectures of the space. A *stage* repeats a block of slots; where a shallower stage leaves a block out, its
slots carry the label `skip`.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from archgen.errors import InvalidArchitecture, InvalidSpace, UnknownName
from archgen.graph import Architecture, GraphBatch
from archgen.networks.skeleton import (
    SKELETONS,
    Costs,
    Segment,
    SegmentNetwork,
    Workloads,
    count_segments,
    segment_counts,
    segment_workloads,
    sum_workload,
)
from archgen.networks.workload import WorkloadTrace, trace_workload
from archgen.spaces import chain_moves
from archgen.spaces.base import FAMILIES, SearchSpace
from archgen.spaces.chain_computation import ChainComputation
from archgen.spaces.chain_tables import ChainTables
from archgen.spaces.chain_text import TEXT_FORMS
from archgen.spaces.flow import Flow
from archgen.spaces.stages import SKIP, Stage, project_stage


@FAMILIES.register("chain")
class ChainSpace(SearchSpace):
    """Architectures that give each slot a label, with stages of variable depth.

    Args:
        name: Name of the space.
        slots: Labels that each slot may carry when it is there, in order of the nodes.
        stages: Stages that the slots form; a slot in no stage is always there. Slots of blocks that a shallower
            stage leaves out may carry `skip` besides.
        skeleton: Name of a member of `archgen.networks.skeleton.SKELETONS`.
        network: Published integer arguments of the skeleton, which `build` can override.
        extras: Further arguments of the skeleton, which `build` can not override.
        edges: Pairs of node positions (0 is the input, then the slots); None is a chain.
        text: Name of a member of `archgen.spaces.chain_text.TEXT_FORMS`.
        order: Labels of the smallest and of the largest architecture: each slot takes the first that it may carry.
        summary: One line for the list of spaces.
        paper: arXiv id.

    Raises:
        InvalidSpace: A slot without labels, an order that leaves a slot open, arguments that are not the
            skeleton's, or a single architecture.
        UnknownName: No such skeleton or text form, or a label that the skeleton does not know.
    """

    family = "chain"

    def __init__(
        self,
        name: str,
        slots: Mapping[str, Sequence[str]],
        stages: Sequence[Stage] = (),
        *,
        skeleton: str,
        network: Mapping[str, int],
        extras: Mapping[str, Any] | None = None,
        edges: Sequence[tuple[int, int]] | None = None,
        text: str = "labels",
        order: tuple[Sequence[str], Sequence[str]] | None = None,
        summary: str = "",
        paper: str = "",
    ) -> None:
        self.name, self.summary, self.paper = name, summary, paper
        self.stages = tuple(stages)
        self.active = {slot: tuple(labels) for slot, labels in slots.items()}
        """Labels that each slot may carry when it is there."""
        self._block = {slot: (stage, i) for stage in stages for i, b in enumerate(stage.blocks) for slot in b}
        optional = {slot for stage in stages for slot in stage.optional}
        self._check_labels(optional)
        self.slots = {slot: (*labels, SKIP) if slot in optional else labels for slot, labels in self.active.items()}
        """Labels that each slot may carry."""
        self.free = not optional
        self.variables = {slot: labels for slot, labels in self.slots.items() if len(labels) > 1}
        self.variable_nodes = {slot: i for i, slot in enumerate(self.slots, start=1) if slot in self.variables}
        if not self.variables:
            raise InvalidSpace("the space has one architecture only: give some slot two labels or a stage two depths")
        self.labels = ("input", *dict.fromkeys(itertools.chain(*self.slots.values())), "output")
        self.computing_labels = tuple(dict.fromkeys(itertools.chain(*self.active.values())))
        self.depth = len(self.slots)
        self.edges = tuple(sorted(edges or [(i, i + 1) for i in range(len(self.slots) + 1)]))
        self._set_domains()
        self.network_defaults, self.extras = dict(network), dict(extras or {})
        self._costs: Costs = {}
        self._workloads: Workloads = {}
        self.skeleton = SKELETONS[skeleton]
        self._check_skeleton(skeleton)
        self.text = TEXT_FORMS[text](self)
        self.extremes = (self._extreme(order[0], 0), self._extreme(order[1], -1)) if order else None

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> ChainSpace:
        """Make the space of a parsed TOML file; raises `InvalidSpace` naming the table and key."""
        from archgen.spaces.chain_toml import read_chain  # a module of its own, which makes a ChainSpace

        return read_chain(description)

    def _check_labels(self, optional: set[str]) -> None:
        for slot, labels in self.active.items():
            if not labels:
                raise InvalidSpace(f"'{slot}' has no labels, so the space is empty: give it at least one")
            if len(set(labels)) != len(labels):
                raise InvalidSpace(f"'{slot}' names a label twice: {', '.join(labels)}")
            if SKIP in labels and slot in optional:
                raise InvalidSpace(f"'{slot}': '{SKIP}' stands for a block left out, so it can not be a label too")
            for label in labels:
                if label in ("", "input", "output") or not label.isprintable() or set(label) & set(" |"):
                    raise InvalidSpace(
                        f"'{slot}': {label!r} can not be a label: not empty, no blank, no '|', not input or output"
                    )

    def _check_skeleton(self, name: str) -> None:
        try:
            inspect.signature(self.skeleton.segments).bind({}, **self.network_defaults, **self.extras)
        except TypeError as error:
            raise InvalidSpace(f"[network]: skeleton '{name}': {error}") from None
        for i in range(max(len(labels) for labels in self.active.values())):  # between them they have every label
            chosen = {slot: labels[i % len(labels)] for slot, labels in self.active.items()}
            try:
                self.skeleton(chosen, **self.network_defaults, **self.extras)
            except (UnknownName, InvalidSpace) as error:
                place = next((f"'{slot}': " for slot, label in chosen.items() if f"'{label}'" in str(error)), "")
                raise InvalidSpace(f"{place}{error}") from None

    def _set_domains(self) -> None:
        n, k = len(self.slots) + 2, len(self.labels)
        self._index = {label: i for i, label in enumerate(self.labels)}
        self.node_domain = torch.zeros(n, k, dtype=torch.bool)
        self.node_domain[0, 0] = self.node_domain[-1, -1] = True
        for i, labels in enumerate(self.slots.values(), start=1):
            self.node_domain[i, [self._index[label] for label in labels]] = True
        present = torch.zeros(n, n, dtype=torch.bool)
        present[tuple(torch.tensor(self.edges).T)] = True
        self.edge_domain = torch.stack([~present, present], -1)

    def _extreme(self, wanted: Sequence[str], end: int) -> Architecture:
        labels = {}
        for slot, allowed in self.active.items():
            named = next((label for label in wanted if label in allowed), None)
            if named is None:
                raise InvalidSpace(f"[order]: '{slot}' needs one of {', '.join(allowed)}, got {', '.join(wanted)}")
            labels[slot] = named
        for stage in self.stages:
            left_out = set(stage.slots) - set(stage.there(stage.depths[end]))
            labels.update(dict.fromkeys(left_out, SKIP))
        return self.from_labels(labels)

    @property
    def size(self) -> int:
        """Number of architectures: a product over stages of sums over their depths."""
        return math.prod(part.size(self.active) for part in self.parts)

    def size_within(self, allowed: Mapping[str, Sequence[int]]) -> int:
        left = {s: {ls[i] for i in allowed.get(s, range(len(ls)))} for s, ls in self.slots.items()}
        active = {slot: [label for label in labels if label in left[slot]] for slot, labels in self.active.items()}
        return math.prod(part.size(active, {s for s in part.optional if SKIP not in left[s]}) for part in self.parts)

    @property
    def parts(self) -> list[Stage]:
        """The stages, with a stage of one block for each slot outside of them, in order of the slots."""
        parts = [self._block.get(slot, (Stage(slot, (1,), ((slot,),)), 0))[0] for slot in self.slots]
        return list(dict.fromkeys(parts))

    # -- encodings ----------------------------------------------------------------------------------------------

    def from_labels(self, labels: Mapping[str, str]) -> Architecture:
        """The architecture that gives each slot the given label.

        Raises:
            InvalidArchitecture: A slot is missing or unknown, a label is not one of its slot, or the depth of a
                stage is not one of the space.
        """
        if labels.keys() != self.slots.keys():
            wrong = sorted(labels.keys() ^ self.slots.keys())
            raise InvalidArchitecture(f"expected a label for each of {', '.join(self.slots)}; check {wrong}")
        arch = Architecture(self.name, ("input", *(labels[slot] for slot in self.slots), "output"), self.edges)
        self.validate(arch)
        return arch

    def to_labels(self, arch: Architecture) -> dict[str, str]:
        """Label of each slot, in order."""
        return dict(zip(self.slots, arch.ops[1:-1], strict=True))

    def depths(self, arch: Architecture) -> dict[str, int]:
        """Number of blocks of each stage."""
        labels = self.to_labels(arch)
        return {stage.name: stage.depth(labels) or 0 for stage in self.stages}

    def left_out(self, slot: str, depths: Mapping[str, int]) -> bool:
        """Whether a slot belongs to a block that stages of these depths leave out."""
        if slot not in self._block:
            return False
        stage, block = self._block[slot]
        return block >= depths[stage.name]

    def to_choices(self, arch: Architecture) -> dict[str, int]:
        labels = self.to_labels(arch)
        return {slot: allowed.index(labels[slot]) for slot, allowed in self.variables.items()}

    def from_choices(self, choices: Mapping[str, int]) -> Architecture:
        if choices.keys() != self.variables.keys():
            wrong = sorted(choices.keys() ^ self.variables.keys())
            raise InvalidArchitecture(f"expected a choice for each of {', '.join(self.variables)}; check {wrong}")
        for slot, index in choices.items():
            if not 0 <= index < len(self.slots[slot]):
                raise InvalidArchitecture(f"{slot} must be from 0 to {len(self.slots[slot]) - 1}, got {index}")
        return self.from_labels({slot: allowed[choices.get(slot, 0)] for slot, allowed in self.slots.items()})

    def validate(self, arch: Architecture) -> None:
        if arch.space != self.name:
            raise InvalidArchitecture(f"expected an architecture of '{self.name}', got one of '{arch.space}'")
        if len(arch.ops) != len(self.slots) + 2:
            raise InvalidArchitecture(
                f"expected {len(self.slots) + 2} nodes (input, {len(self.slots)} slots, output), got {len(arch.ops)}"
            )
        if (arch.ops[0], arch.ops[-1]) != ("input", "output"):
            raise InvalidArchitecture(f"the first and last node must be input and output, got {arch.ops}")
        labels = self.to_labels(arch)
        for slot, label in labels.items():
            if label not in self.slots[slot]:
                raise InvalidArchitecture(str(UnknownName(f"label of {slot}", label, self.slots[slot])))
        if arch.edges != self.edges and tuple(sorted(arch.edges)) != self.edges:
            raise InvalidArchitecture(f"the graph of every {self.name} network is {self.edges}, got {arch.edges}")
        for stage in self.stages:
            if stage.depth(labels) is None:
                depths = " or ".join(map(str, stage.depths))
                raise InvalidArchitecture(
                    f"'{stage.name}' has its first {depths} blocks and '{SKIP}' in every slot of the others, "
                    f"got {', '.join(labels[slot] for slot in stage.slots)}"
                )

    def parse(self, text: str) -> Architecture:
        """Read the published form (`archgen.spaces.chain_text`); raises `InvalidArchitecture`."""
        return self.from_labels(self.text.parse(text))

    def format(self, arch: Architecture) -> str:
        self.validate(arch)
        return self.text.format(self.to_labels(arch))

    def example(self) -> str:
        """An architecture's published form, for messages."""
        return self.text.format({slot: labels[0] for slot, labels in self.active.items()})

    # -- drawing and changing -----------------------------------------------------------------------------------

    def sample(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """Draw `n` architectures with repetition: depths uniform, then labels uniform."""
        return chain_moves.sample(self, n, rng)

    def enumerate(self) -> list[Architecture]:
        return chain_moves.enumerate_chain(self)

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """Change one slot that is there, or the depth of one stage."""
        return chain_moves.mutate(self, arch, rng)

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        """Take the depth of each stage, and then each slot, from one of the two parents."""
        return chain_moves.crossover(self, a, b, rng)

    def neighbours(self, arch: Architecture) -> list[Architecture]:
        """All architectures that differ in one slot or in the depth of one stage."""
        return chain_moves.neighbours(self, arch)

    def project(self, drawn: GraphBatch, probabilities: GraphBatch, *, generator: torch.Generator) -> GraphBatch:
        """Draw the depth of each stage that has none of its own, and then its slots, given that the depth is allowed.

        The result is an exact draw from the conditional distribution (`archgen.spaces.stages.project_stage`).
        """
        if self.free:
            return drawn
        labels = drawn.labels.clone()
        at = {slot: i for i, slot in enumerate(self.slots, start=1)}
        for stage in (stage for stage in self.stages if stage.optional):
            nodes = torch.tensor([at[slot] for slot in stage.optional], device=labels.device)
            p = (probabilities.ops[:, nodes].clamp(min=0) + 1e-30) * self.node_domain.to(labels.device)[nodes]
            labels[:, nodes] = project_stage(labels[:, nodes], p, stage, self._index[SKIP], generator=generator)
        ops = nn.functional.one_hot(labels, len(self.labels)).to(drawn.ops.dtype)
        return GraphBatch(ops, drawn.edges, drawn.node_mask)

    # -- what they compute --------------------------------------------------------------------------------------

    def simplify(self, arch: Architecture) -> Architecture:
        """The architecture itself: every slot that is there counts."""
        self.validate(arch)
        return arch

    @cached_property
    def _computation(self) -> ChainComputation:
        return ChainComputation(self)

    def computation(self, arch: Architecture) -> Architecture:
        """The DAG without the slots that are left out or whose module is the identity."""
        return self._computation.graph(arch)

    def canonical(self, arch: Architecture) -> str:
        """Equal for architectures whose segments form the same graph once identities are contracted."""
        return self._computation.canonical(arch)

    # -- networks -----------------------------------------------------------------------------------------------

    def segments(self, arch: Architecture, **network: int) -> list[Segment]:
        """What the network of an architecture is made of; keyword arguments as in `network_defaults`."""
        self.validate(arch)
        return self.skeleton(self.to_labels(arch), **self._network(network), **self.extras)

    def build(self, arch: Architecture, **network: int) -> nn.Module:
        """The network of an architecture, freshly initialised; keyword arguments as in `network_defaults`."""
        return SegmentNetwork(self.segments(arch, **network))

    def example_input(self, batch: int = 1, **network: int) -> Tensor:
        """Zeros of the shape and type that the skeleton's networks read."""
        return self.skeleton.example(batch, **self._network(network))

    def workload(self, arch: Architecture) -> NDArray[np.float64]:
        """Sum of the workloads of the segments, `w` as in `SearchSpace.workload`; each distinct one is traced once."""
        with torch.device("meta"):
            example = self.skeleton.example(1, **self.network_defaults)
        return sum_workload(self.segments(arch), example, self._workloads)

    def segment_workloads(
        self, segments: Sequence[Segment], trace: WorkloadTrace = trace_workload
    ) -> list[NDArray[np.float64]]:
        """Workload of each segment of a network of this space; `trace` is told those that are not known yet."""
        with torch.device("meta"):
            example = self.skeleton.example(1, **self.network_defaults)
        return segment_workloads(segments, example, self._workloads, trace)

    # -- many at once -------------------------------------------------------------------------------------------

    @cached_property
    def _tables(self) -> ChainTables:
        return ChainTables(self)

    def choices(self, archs: Sequence[Architecture]) -> NDArray[np.int64]:
        return self._tables.choices(archs)

    def simplified(self, archs: Sequence[Architecture]) -> list[Architecture]:
        self._tables.labels(archs)  # validates
        return list(archs)

    def flow(self, archs: Sequence[Architecture]) -> Flow:
        return self._tables.flow(archs) if archs and self._tables.flows else super().flow(archs)

    def workloads(self, archs: Sequence[Architecture]) -> NDArray[np.float64] | None:
        return self._tables.workloads(archs) if archs and self._tables.additive else super().workloads(archs)

    def count(self, arch: Architecture, **network: int) -> dict[str, float]:
        """Exact `params`, `macs` (multiply-adds of convolutions and linear layers) and `flops` as published."""
        segments, example = self._counted(arch, network)
        counts = count_segments(segments, example, self._costs)
        return {**counts, "flops": counts[self.skeleton.flops]}

    def segment_flops(self, arch: Architecture, **network: int) -> list[tuple[str, float]]:
        """Name and `flops`, as published, of each segment of an architecture's network."""
        segments, example = self._counted(arch, network)
        counts = segment_counts(segments, example, self._costs)
        return [(segment.name, own[self.skeleton.flops]) for segment, own in zip(segments, counts, strict=True)]

    def _counted(self, arch: Architecture, network: Mapping[str, int]) -> tuple[list[Segment], Tensor]:
        """Segments, and what the network reads."""
        segments = self.segments(arch, **network)
        with torch.device("meta"):
            return segments, self.skeleton.example(1, **self._network(network))
