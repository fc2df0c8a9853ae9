"""Several sets of weights of one space, between which its architectures are shared out."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from archgen.errors import InvalidOption
from archgen.graph import Architecture
from archgen.spaces import SearchSpace
from archgen.supernets.base import Supernet
from archgen.supernets.split import PartedSupernet

GROUPS_A_PART = 8
"""Groups of architectures for each set of weights, at least, where nothing else is said."""


class MixtureSupernet(PartedSupernet):
    """Sets of weights that differ; each group of architectures has the weights of one of them.

    A group is the architectures that agree in some variables. Which set a group has is a tensor of the supernet, so
    that a training strategy can learn it (`balanced_mixture`) and a checkpoint keeps it; at first they take turns.

    Args:
        space: What all sets hold.
        variables: Those that make a group, at least one.
        parts: The sets of weights, at least two, each a supernet of the whole space.

    Raises:
        InvalidOption: Fewer than two sets, or groups than sets, or an unknown variable.
    """

    assignment: Int[Tensor, " g"]
    """The set of each group."""

    def __init__(self, space: SearchSpace, variables: Sequence[str], parts: Sequence[Supernet]) -> None:
        super().__init__(space, parts)
        self.variables, self.sizes = tuple(variables), _sizes(space, variables, len(parts))
        self.groups = math.prod(self.sizes)
        """How many groups there are."""
        self.register_buffer("assignment", torch.arange(self.groups) % len(parts))

    def group(self, arch: Architecture) -> int:
        """The group of an architecture as it is written."""
        choices, found = self.whole.to_choices(arch), 0
        for name, size in zip(self.variables, self.sizes, strict=True):
            found = found * size + choices[name]
        return found

    def place(self, arch: Architecture) -> int:
        return int(self.assignment[self.group(arch)])

    def forward(self, x: Float[Tensor, "b ..."], arch: Architecture, at: int | None = None) -> Tensor:
        """Logits, `b x classes`, with the weights of the architecture's own set, or of the set `at`."""
        out: Tensor = (self.part(arch) if at is None else self.parts[at])(x, arch)
        return out


def mixture(supernet: Supernet, parts: int, variables: Sequence[str] | None = None) -> MixtureSupernet:
    """Copies of a supernet whose weights are drawn anew, but for the first.

    Args:
        supernet: Of a family, neither split nor mixed: its space, and the weights of the first set.
        parts: Sets of weights, at least 2.
        variables: Those that make the groups; where None, the first of the space that make `GROUPS_A_PART` groups for
            each set, or all.

    Raises:
        InvalidOption: As in `MixtureSupernet`.
    """
    if variables is None:
        known = supernet.whole.variables
        sizes = list(itertools.accumulate((len(values) for values in known.values()), lambda a, b: a * b))
        enough = next((i for i, size in enumerate(sizes) if size >= GROUPS_A_PART * parts), len(sizes) - 1)
        variables = list(known)[: enough + 1]
    _sizes(supernet.space, variables, parts)  # before the copies are made
    copies = [supernet, *(redrawn(supernet) for _ in range(parts - 1))]
    return MixtureSupernet(supernet.space, variables, copies)


def _sizes(space: SearchSpace, variables: Sequence[str], parts: int) -> tuple[int, ...]:
    """How many values each variable has, where they can make groups for so many sets of weights."""
    known = space.whole.variables
    if not variables or any(name not in known for name in variables):
        raise InvalidOption(f"expected variables of {space.name} ({', '.join(known)}), got {list(variables)}")
    sizes = tuple(len(known[name]) for name in variables)
    groups = math.prod(sizes)
    if not 2 <= parts <= groups:
        raise InvalidOption(
            f"expected from 2 sets of weights to one a group ({groups} by {', '.join(variables)}), got {parts}"
        )
    return sizes


def redrawn(supernet: Supernet) -> Supernet:
    """A copy with weights of its own, from torch's global generator, as each of its modules draws them."""
    other = copy.deepcopy(supernet)
    fresh = type(supernet)(supernet.whole, dict(supernet.network))
    other.load_state_dict(fresh.state_dict())
    return other
