"""Drawing, listing and changing the architectures of a chain, where a stage's depth is a choice of its own."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from archgen.errors import InvalidSpace
from archgen.graph import Architecture
from archgen.spaces.stages import SKIP, Stage

if TYPE_CHECKING:
    from archgen.spaces.chain import ChainSpace


def sample(space: ChainSpace, n: int, rng: np.random.Generator) -> list[Architecture]:
    """Depths uniform, then the label of each slot uniform, as Once-for-All draws (arXiv 1908.09791, section 3.3)."""
    labels = {slot: np.array(ls, object)[rng.integers(len(ls), size=n)] for slot, ls in space.active.items()}
    for stage in space.stages:
        depth = rng.choice(stage.depths, size=n)
        for block, slots in enumerate(stage.blocks):
            for slot in slots:
                labels[slot][depth <= block] = SKIP
    rows = zip(*(column.tolist() for column in labels.values()), strict=True)
    return [Architecture(space.name, ("input", *row, "output"), space.edges) for row in rows]


def enumerate_chain(space: ChainSpace) -> list[Architecture]:
    """Every architecture, in lexicographic order of the slots; raises `InvalidSpace` above a million."""
    if space.size > 1_000_000:
        raise InvalidSpace(f"{space.name} has {space.size:.3g} points, too many to list; sample it instead")
    rows = itertools.product(*(part.settings(space.slots, space.active) for part in space.parts))
    return [
        Architecture(space.name, ("input", *itertools.chain.from_iterable(row), "output"), space.edges) for row in rows
    ]


def mutate(space: ChainSpace, arch: Architecture, rng: np.random.Generator) -> Architecture:
    """Change one slot that is there, or the depth of one stage, drawn uniformly; new blocks get uniform labels."""
    labels = space.to_labels(arch)
    depths = space.depths(arch)
    present = [slot for slot in space.active if not space.left_out(slot, depths) and len(space.active[slot]) > 1]
    moves: list[str | Stage] = [*present, *(stage for stage in space.stages if len(stage.depths) > 1)]
    move = moves[int(rng.integers(len(moves)))]
    if isinstance(move, str):
        others = [label for label in space.active[move] if label != labels[move]]
        return space.from_labels({**labels, move: others[int(rng.integers(len(others)))]})
    others_ = [depth for depth in move.depths if depth != depths[move.name]]
    depth = others_[int(rng.integers(len(others_)))]
    new = {slot: space.active[slot][int(rng.integers(len(space.active[slot])))] for slot in move.slots}
    return space.from_labels({**labels, **_at_depth(move, depth, {**new, **_active(move, labels)})})


def crossover(space: ChainSpace, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
    """The depth of each stage from either parent, then each slot that is there from a parent that has it."""
    first, second = space.to_labels(a), space.to_labels(b)
    child = {slot: (first if rng.random() < 0.5 else second)[slot] for slot in space.slots}
    for stage in space.stages:
        if len(stage.depths) == 1:
            continue
        depth = stage.depth(first if rng.random() < 0.5 else second)
        assert depth is not None, "both parents are points of the space"
        present = {**_active(stage, first), **_active(stage, second), **_active(stage, child)}
        child.update(_at_depth(stage, depth, present))
    return space.from_labels(child)


def neighbours(space: ChainSpace, arch: Architecture) -> list[Architecture]:
    """Every other label of one slot that is there, and every other depth of one stage.

    A stage that grows by a single slot gets each label there; one that grows by more repeats its last block (or
    the first label of each slot, if it had none), so that there is one neighbour a depth.
    """
    labels, depths = space.to_labels(arch), space.depths(arch)
    near = [
        {**labels, slot: label}
        for slot, active in space.active.items()
        if not space.left_out(slot, depths)
        for label in active
        if label != labels[slot]
    ]
    for stage in space.stages:
        here = depths[stage.name]
        for depth in stage.depths:
            new = stage.there(depth)[len(stage.there(here)) :]
            present = _active(stage, labels)
            if len(new) == 1:
                near += [{**labels, new[0]: label} for label in space.active[new[0]]]
            elif depth != here:
                last = stage.blocks[here - 1] if here else [None] * len(stage.blocks[0])
                for block in stage.blocks[here:depth]:
                    for slot, before in zip(block, last, strict=True):
                        present[slot] = labels[before] if before else space.active[slot][0]
                near.append({**labels, **_at_depth(stage, depth, present)})
    return [space.from_labels(changed) for changed in near]


def _active(stage: Stage, labels: dict[str, str]) -> dict[str, str]:
    """Labels of the slots of a stage that are there."""
    depth = stage.depth(labels)
    return {slot: labels[slot] for slot in stage.there(depth or 0)}


def _at_depth(stage: Stage, depth: int, labels: dict[str, str]) -> dict[str, str]:
    there = set(stage.there(depth))
    return {slot: labels[slot] if slot in there else SKIP for slot in stage.slots}
