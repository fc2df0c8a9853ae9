"""Chains by the thousand: labels as positions, and what a slot adds as tables over its labels."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from archgen.graph import Architecture
from archgen.networks.skeleton import Segment
from archgen.networks.workload import WORKLOAD, WorkloadTraces
from archgen.spaces.flow import PASS, Flow, Ints
from archgen.spaces.last_batch import LastBatch
from archgen.spaces.stages import SKIP

if TYPE_CHECKING:
    from archgen.spaces.chain import ChainSpace


class ChainTables:
    """Positions, computations and workloads of many architectures of a chain at once.

    Args:
        space: The chain; its skeleton's `shared` says whether what a slot adds is a table.
    """

    def __init__(self, space: ChainSpace) -> None:
        self.space = space
        self._at = {label: i for i, label in enumerate(space.labels)}
        self._choice = np.full((len(space.slots), len(space.labels)), -1)
        self._computed = np.full(self._choice.shape, PASS)
        for s, (slot, labels) in enumerate(space.slots.items()):
            self._choice[s, [self._at[label] for label in labels]] = range(len(labels))
            for label in space.active[slot]:
                self._computed[s, self._at[label]] = space.computing_labels.index(label)
        place = {slot: s for s, slot in enumerate(space.slots)}
        self._variable = [place[slot] for slot in space.variables]
        self._stages = [(stage, [place[slot] for slot in stage.optional]) for stage in space.stages if stage.optional]
        self._place = place
        self._known: dict[tuple[int, ...], _Table] = {}
        self._modules: dict[Hashable, nn.Module] = {}
        self._traces = WorkloadTraces()
        self.labels = LastBatch(self._labels)
        """Position of the label of each slot in `space.labels`, `b x s`; raises `InvalidArchitecture`."""

    def _labels(self, archs: Sequence[Architecture]) -> Ints:
        space, at = self.space, self._at
        n = len(space.slots) + 2
        for arch in archs:
            if arch.edges != space.edges or len(arch.ops) != n or arch.space != space.name:
                space.validate(arch)
        rows = np.array([[at.get(op, -1) for op in arch.ops] for arch in archs], dtype=np.int64).reshape(-1, n)
        found = rows[:, 1:-1]
        right = (rows[:, 0] == 0) & (rows[:, -1] == len(at) - 1) & (found >= 0).all(1)
        right &= (self._choice[range(n - 2), found] >= 0).all(1)
        for stage, columns in self._stages:
            there = found[:, columns] != at[SKIP]
            counts = [sum(map(len, stage.blocks[stage.depths[0] : depth])) for depth in stage.depths]
            right &= np.isin(there.sum(1), counts) & (there[:, :-1] >= there[:, 1:]).all(1)
        for i in np.flatnonzero(~right).tolist():
            space.validate(archs[i])  # says what is wrong
        return found

    def choices(self, archs: Sequence[Architecture]) -> Ints:
        """`to_choices` of each architecture, `b x v`."""
        return self._choice[self._variable, self.labels(archs)[:, self._variable]]

    # -- what slots add on their own -------------------------------------------------------------------------------

    @cached_property
    def additive(self) -> bool:
        """Whether what a slot adds depends on its own label and the shared ones alone."""
        whole = all(stage.depths[0] > 0 for stage in self.space.stages)  # none left out: each is read by the next
        return self.space.skeleton.shared is not None and self._straight and whole

    @cached_property
    def flows(self) -> bool:
        """Whether labels tell what a slot passes on: in a chain, if they tell which segments are identities."""
        return self.additive or (self._straight and not self.space.skeleton.identities)

    @property
    def _straight(self) -> bool:
        return all(j == i + 1 for i, j in self.space.edges)

    def flow(self, archs: Sequence[Architecture]) -> Flow:
        """`SearchSpace.flow` where `flows`: slots in a row; what is left out, and identities, are passed."""
        labels = self.labels(archs)
        found = np.full((len(labels), labels.shape[1] + 2), PASS)
        found[:, 1:-1] = self._computed[range(labels.shape[1]), labels]
        if self.space.skeleton.identities:
            tables, which = self._tables(labels)
            same = np.array([table.same for table in tables])[which[:, None], range(labels.shape[1]), labels]
            found[:, 1:-1][same] = PASS
        return Flow(found, np.eye(found.shape[1], k=1, dtype=np.int64)[None])

    def workloads(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """`SearchSpace.workloads` where slots are additive, summed in the order of the segments."""
        labels = self.labels(archs)
        tables, which = self._tables(labels)
        total = np.zeros((len(labels), len(WORKLOAD)))
        for place, slot in enumerate(tables[0].slots):
            added = np.array([table.workload[place] for table in tables])
            total += added[which, labels[:, slot] if slot >= 0 else 0]
        return total

    def _tables(self, labels: Ints) -> tuple[list[_Table], Ints]:
        """The tables of each setting of the shared slots, and which of them is that of each row."""
        shared = [self._place[slot] for slot in self.space.skeleton.shared or ()]
        numbers: dict[tuple[int, ...], int] = {}
        which = [numbers.setdefault(tuple(row), len(numbers)) for row in labels[:, shared].tolist()]
        for setting in numbers.keys() - self._known.keys():
            self._known[setting] = self._make(dict(zip(self.space.skeleton.shared or (), setting, strict=True)))
        return [self._known[setting] for setting in numbers], np.array(which)

    def _make(self, setting: dict[str, int]) -> _Table:
        """Tables from as many networks as a slot has labels: between them they have every label."""
        space = self.space
        active = {**space.active, **{slot: (space.labels[i],) for slot, i in setting.items()}}
        table = _Table(space, self._modules, self._traces)
        for i in range(max(map(len, active.values()))):
            chosen = {slot: labels[i % len(labels)] for slot, labels in active.items()}
            segments = space.skeleton(chosen, **space.network_defaults, **space.extras)
            places = [
                (self._place[s.name], self._at[chosen[s.name]]) if s.name in chosen else (-1, 0) for s in segments
            ]
            table.add(segments, places)
        return table


class _Table:
    """What segments add, by the label of their slot."""

    def __init__(self, space: ChainSpace, modules: dict[Hashable, nn.Module], traces: WorkloadTraces) -> None:
        self.space, self._modules, self._traces = space, modules, traces
        self.slots: list[int] = []
        """Slot of each segment in turn; -1 for one that is always the same."""
        self.same = np.zeros((len(space.slots), len(space.labels)), dtype=bool)
        """Whether a slot is the identity."""
        self._networks: list[tuple[list[Segment], list[tuple[int, int]]]] = []

    def add(self, segments: list[Segment], places: list[tuple[int, int]]) -> None:
        """Add a network, given the slot and the label of each of its segments."""
        slots = [slot for slot, _ in places]
        assert slots == (self.slots or slots), "a skeleton with shared slots makes one segment of every slot"
        self.slots = slots
        self._networks.append((segments, places))
        for segment, (slot, label) in zip(segments, places, strict=True):
            if slot >= 0:
                self.same[slot, label] = segment.identity

    def _made_once(self, segment: Segment) -> Segment:
        """The segment with its module kept: it is traced for many shapes, and making it takes longer than that."""

        def make() -> nn.Module:
            place = segment.key, torch.get_default_device()
            if place not in self._modules:
                self._modules[place] = segment.make()
            return self._modules[place]

        return replace(segment, make=make)

    @cached_property
    def workload(self) -> NDArray[np.float64]:
        """Of each segment by label, `segments x k x w`; 0 for `skip`, which leaves it out."""
        found = np.zeros((len(self.slots), len(self.space.labels), len(WORKLOAD)))
        for segments, places in self._networks:
            workloads = self.space.segment_workloads([self._made_once(s) for s in segments], self._traces)
            for i, ((_, label), workload) in enumerate(zip(places, workloads, strict=True)):
                found[i, label] = workload
        return found
