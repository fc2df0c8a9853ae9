"""What architectures of a chain compute: the graph that is left once what only passes on its input is contracted."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from archgen.graph import Architecture, canonical_form
from archgen.networks.skeleton import sources
from archgen.spaces.contraction import contract

if TYPE_CHECKING:
    from archgen.spaces.chain import ChainSpace


class ChainComputation:
    """The computations of a chain's architectures, one at a time; what all of them share is worked out once.

    Args:
        space: The chain; its skeleton's `identities` says whether a segment has to be asked if it is one.
    """

    def __init__(self, space: ChainSpace) -> None:
        self.space = space
        nodes = range(len(space.slots) + 2)
        self._optional = [
            (i, stage.name, block)
            for i, slot in enumerate(space.slots, start=1)
            for stage in space.stages
            for block, names in enumerate(stage.blocks)
            if slot in names and slot in stage.optional
        ]
        self._reads = [[i for i, j in space.edges if j == node] for node in nodes]
        self._straight = space.edges == tuple(itertools.pairwise(nodes))

    def graph(self, arch: Architecture) -> Architecture:
        """The DAG without the slots that are left out or whose module is the identity.

        Raises:
            InvalidArchitecture: It is none of the space.
        """
        space = self.space
        space.validate(arch)
        depths = space.depths(arch)
        passed = {i for i, stage, block in self._optional if block >= depths[stage]}
        if space.skeleton.identities:
            same = {segment.name for segment in space.segments(arch) if segment.identity}
            passed |= {i for i, slot in enumerate(space.slots, start=1) if slot in same}
        if self._straight:
            ops = tuple(op for i, op in enumerate(arch.ops) if i not in passed)
            return Architecture(space.name, ops, tuple(itertools.pairwise(range(len(ops)))))
        kept, edges = contract(self._reads, passed)
        return Architecture(space.name, tuple(arch.ops[i] for i in kept), tuple(sorted(edges.elements())))

    def canonical(self, arch: Architecture) -> str:
        """Equal for architectures whose segments form the same graph once identities are contracted.

        Raises:
            InvalidArchitecture: It is none of the space.
        """
        segments = self.space.segments(arch)
        positions = sources(segments)
        if all(read == (i - 1,) for i, read in enumerate(positions)):  # a chain: nothing to rename
            return repr(["input", *(segment.key for segment in segments if not segment.identity)])
        reads = [[], *([i + 1 for i in read] for read in positions)]
        kept, edges = contract(reads, {i for i, segment in enumerate(segments, start=1) if segment.identity})
        labels = ["input", *(segments[i - 1].key for i in kept[1:])]
        if list(edges) == [(i, i + 1) for i in range(len(labels) - 1)] and set(edges.values()) == {1}:
            return repr(labels)  # it has become one
        return canonical_form(labels, edges)
