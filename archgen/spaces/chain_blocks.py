"""The blocks that networks of a chain are made of: what a table of measured blocks has a row for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from archgen.errors import InvalidSpace
from archgen.graph import Architecture
from archgen.networks.skeleton import Costs, Segment, segment_counts
from archgen.spaces.base import SearchSpace
from archgen.spaces.chain import ChainSpace
from archgen.spaces.chain_tables import ChainTables
from archgen.spaces.restricted import RestrictedSpace
from archgen.spaces.stages import SKIP

MOST = 5_000
"""Most blocks that are listed: at half a second a block, measuring them takes less than an hour."""
CALL = "call"
"""In a table of blocks, of a network that does nothing: what a runtime takes to be called at all."""
_NETWORKS = 50_000
_CHECKED = 300


@dataclass(frozen=True)
class Block:
    """One module of a network and what it reads; its latency depends on nothing else.

    Args:
        name: Equal for equal modules that read the same shape: `mbconv 16 24 3 2 64 False False @ 16x56x56`.
        make: Makes the module, freshly initialised.
        example: One input on the meta device, `1 ...`.
        output: Its output, likewise.
        flops: Operations, by which blocks are told small from large.
    """

    name: str
    make: Callable[[], nn.Module]
    example: Tensor
    output: Tensor
    flops: float


class ChainBlocks:
    """Blocks of the networks of a chain, stem and head among them; what only passes its input on is none.

    Args:
        space: A chain, or a part of one.
        network: Arguments of `space.build`; the published ones by default.

    Raises:
        InvalidSpace: The space is no chain.
    """

    def __init__(self, space: SearchSpace, network: Mapping[str, int] | None = None) -> None:
        base = space
        while isinstance(base, RestrictedSpace):
            base = base.base
        if not isinstance(base, ChainSpace):
            raise InvalidSpace(
                f"{space.name} is no chain of blocks, whose latencies would add up: predict it from measured networks"
            )
        self.space, self.network, self._base = space, dict(network or {}), base
        self._costs: Costs = {}
        with torch.device("meta"):
            self._example = base.example_input(1, **self.network)

    def of(self, arch: Architecture) -> list[Block]:
        """The blocks of an architecture's network, in order; raises `InvalidSpace` where one reads several others."""
        return self._blocks(self._base.segments(arch, **self.network))

    def setting(self, arch: Architecture) -> str:
        """The labels of what all blocks depend on (`r224`), joined by a blank; empty where there is no such slot."""
        labels = self._base.to_labels(arch)
        return " ".join(labels[slot] for slot in self._base.skeleton.shared or ())

    def all(self, most: int = MOST) -> dict[str, Block]:
        """Every block that a network of the space may have, by name.

        Raises:
            InvalidSpace: There are more than `most`, or what a block is depends on more than its stage's depth, its own
                labels and slots outside of the stages.
        """
        found: dict[str, Block] = {}
        for labels in self._covering():
            network = {**self._base.network_defaults, **self.network}
            for block in self._blocks(self._base.skeleton(labels, **network, **self._base.extras)):
                found.setdefault(block.name, block)
            if len(found) > most:
                raise self._too_many(f"more than {most:,} different blocks")
        for arch in self.space.sample(_CHECKED, np.random.default_rng(0)):
            if any(block.name not in found for block in self.of(arch)):
                raise InvalidSpace(
                    f"{self.space.name}: a block depends on the choices of others, so they can not be listed; "
                    "predict latency from measured networks"
                )
        return found

    def _blocks(self, segments: Sequence[Segment]) -> list[Block]:
        counts = segment_counts(segments, self._example, self._costs)
        blocks, x = list[Block](), self._example
        for i, (segment, counted) in enumerate(zip(segments, counts, strict=True)):
            if segment.inputs not in (None, (i - 1,)):
                raise InvalidSpace(
                    f"{self.space.name}: '{segment.name}' reads other blocks than the one before it, so latencies of "
                    "blocks do not add up; predict it from measured networks"
                )
            _, output = self._costs[(segment.key, x.shape, x.dtype)]
            if not segment.identity:
                blocks.append(Block(_name(segment.key, x), segment.make, x, output, counted["flops"]))
            x = output
        return blocks

    def _covering(self) -> Iterator[dict[str, str]]:
        """Labels of the slots of networks that have every block between them.

        For each setting of the slots that others depend on, and where it may matter each depth of each stage, as many
        networks as a block has labels.
        """
        base = self._base
        active, optional = self._allowed()
        additive = ChainTables(base).additive
        outside = set(base.slots) - {slot for stage in base.stages for slot in stage.slots}
        shared = set(base.skeleton.shared or ()) if additive else outside
        settings: list[list[tuple[tuple[str, ...], ...]]] = []
        for part in base.parts:
            depths = [
                d
                for d in part.depths
                if all(active[s] for s in part.there(d)) and set(part.slots) - set(part.there(d)) <= optional
            ]
            settings.append([part.blocks[:depth] for depth in (depths[-1:] if additive else depths)])
        fixed = [[(slot, label) for label in active[slot]] for slot in base.slots if slot in shared]
        networks = math.prod(map(len, settings)) * math.prod(map(len, fixed))
        if networks > _NETWORKS:
            raise self._too_many(f"{networks:.3g} settings of depths and of what all blocks depend on")
        for chosen in itertools.product(*settings):
            slots = [block for part in chosen for block in part]
            blocks = [list(itertools.product(*([(s, label) for label in active[s]] for s in block))) for block in slots]
            for setting in itertools.product(*fixed):
                free = [block for block in blocks if block[0][0][0] not in shared]
                for i in range(max(map(len, free), default=1)):
                    labels = {slot: label for block in free for slot, label in block[i % len(block)]}
                    found = {**labels, **dict(setting)}
                    yield {slot: found.get(slot, SKIP) for slot in base.slots}

    def _allowed(self) -> tuple[dict[str, list[str]], set[str]]:
        """Labels that each slot may carry when it is there, and the slots that may be left out."""
        domain = self.space.node_domain[1:-1]
        allowed = {
            slot: {label for label, there in zip(self.space.labels, row.tolist(), strict=True) if there}
            for slot, row in zip(self._base.slots, domain, strict=True)
        }
        active = {slot: [x for x in labels if x in allowed[slot]] for slot, labels in self._base.active.items()}
        return active, {slot for slot, labels in allowed.items() if SKIP in labels}

    def _too_many(self, what: str) -> InvalidSpace:
        return InvalidSpace(
            f"{self.space.name} has {what}, too many to list; take a part of it (family = 'restricted' in TOML), "
            "or predict latency from measured networks"
        )


def _name(key: Hashable, x: Tensor) -> str:
    words = " ".join(map(str, key)) if isinstance(key, tuple) else str(key)
    return f"{words} @ {'x'.join(map(str, x.shape[1:]))}"
