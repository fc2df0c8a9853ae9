"""Stages of variable depth: which blocks are there, and exact draws of them from factorised probabilities."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

SKIP = "skip"
"""Label of the slots of a block that a shallower stage leaves out; elsewhere an operation like any other."""

Labels = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Stage:
    """Blocks of which an architecture has the first `d`, for one `d` of `depths`.

    Args:
        name: Name of the stage.
        depths: Allowed numbers of blocks, ascending, distinct, at least 0.
        blocks: Names of the slots of each block, as many blocks as the greatest depth.
    """

    name: str
    depths: tuple[int, ...]
    blocks: tuple[tuple[str, ...], ...]

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of all slots, in order."""
        return tuple(slot for block in self.blocks for slot in block)

    @cached_property
    def optional(self) -> tuple[str, ...]:
        """Names of the slots that the shallowest stage leaves out."""
        return tuple(slot for block in self.blocks[self.depths[0] :] for slot in block)

    def there(self, depth: int) -> tuple[str, ...]:
        """Names of the slots of the first `depth` blocks."""
        return tuple(slot for block in self.blocks[:depth] for slot in block)

    def depth(self, labels: Mapping[str, str]) -> int | None:
        """Number of blocks that labels of the slots have; None where it is not one of `depths`."""
        absent = [labels[slot] == SKIP for slot in self.optional]
        count = absent.index(True) if True in absent else len(absent)
        return self._depths.get(count) if all(absent[count:]) else None

    @cached_property
    def _depths(self) -> dict[int, int]:
        """The depth by the number of optional slots that are there."""
        return {sum(map(len, self.blocks[self.depths[0] : depth])): depth for depth in self.depths}

    def size(self, active: Labels, needed: Collection[str] = ()) -> int:
        """Number of settings, given the labels that each slot may carry when its block is there.

        Args:
            active: Labels of each slot.
            needed: Slots that may not be left out.
        """
        return sum(
            math.prod(len(active[slot]) for slot in self.there(depth))
            for depth in self.depths
            if set(needed) <= set(self.there(depth))
        )

    def settings(self, allowed: Labels, active: Labels) -> list[tuple[str, ...]]:
        """All settings of the slots, in lexicographic order of the positions of the labels in `allowed`."""
        found: list[tuple[str, ...]] = []
        for depth in self.depths:
            there = self.there(depth)
            rest = (SKIP,) * (len(self.slots) - len(there))
            found += [(*labels, *rest) for labels in itertools.product(*(active[slot] for slot in there))]
        return sorted(found, key=lambda s: [allowed[slot].index(x) for slot, x in zip(self.slots, s, strict=True)])


def project_stage(
    drawn: Int[Tensor, "b o"],
    probabilities: Float[Tensor, "b o k"],
    stage: Stage,
    skip: int,
    *,
    generator: torch.Generator,
) -> Int[Tensor, "b o"]:
    r"""Labels of the optional slots of a stage, drawn given that they leave out whole blocks down to a depth.

    With independent slots the probability of depth `d` given that the depth is one of the space is
    :math:`\prod_{b < d} (1 - p_s) \prod_{b \ge d} p_s / Z`, a product over the optional slots `s` with probability
    :math:`p_s` of `skip`; the labels of those that are there follow independently. Draws that are allowed stay:
    together this draws from the conditional distribution exactly.

    Args:
        drawn: Labels drawn for the `o` optional slots.
        probabilities: Of their `k` labels, unnormalised; above zero for all labels that they may carry.
        stage: The stage.
        skip: Position of the label `skip`.
        generator: Source of randomness.
    """
    first = stage.depths[0]
    blocks = [b for b, block in enumerate(stage.blocks[first:], start=first) for _ in block]
    patterns = torch.tensor([[block < depth for block in blocks] for depth in stage.depths], device=drawn.device)
    wrong = ~((drawn != skip)[:, None] == patterns).all(-1).any(-1)
    rows = wrong.nonzero().flatten()
    if not len(rows):
        return drawn
    p_skip, p = probabilities[rows, :, skip], probabilities[rows]
    p[..., skip] = 0
    log_odds = p.sum(-1).log() - p_skip.log()
    weight = (log_odds[:, None] * patterns).sum(-1).softmax(-1)  # the same factor of every depth is left out
    there = patterns[torch.multinomial(weight, 1, generator=generator).squeeze(-1)]
    fresh = torch.multinomial(p.flatten(0, 1), 1, generator=generator).view(there.shape)
    mended = drawn.clone()
    mended[rows] = torch.where(there, fresh, skip)
    return mended
