"""Several supernets of one space, each of which holds a part of it (few-shot NAS, arXiv 2006.06863)."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from archgen.errors import InvalidSpace
from archgen.graph import Architecture
from archgen.spaces import RestrictedSpace, SearchSpace
from archgen.supernets.base import Supernet

Tree = Mapping[str, Any]
"""How a supernet was split: `variable`, its name, `groups`, positions of its values, and `parts`, the tree of each part
or None."""


class PartedSupernet(Supernet):
    """Several supernets; an architecture has the weights of one of them.

    Args:
        space: What all parts hold together.
        parts: Of that space, or of a part of it.
    """

    def __init__(self, space: SearchSpace, parts: Sequence[Supernet]) -> None:
        super().__init__(space.whole, parts[0].network)
        self.space = space
        self.parts = nn.ModuleList(parts)

    @abstractmethod
    def place(self, arch: Architecture) -> int:
        """Position of the part that an architecture belongs to.

        As it is written: not by what is left once it is simplified.
        """

    def part(self, arch: Architecture) -> Supernet:
        """The supernet that an architecture belongs to."""
        self.whole.validate(arch)
        found: Supernet = self.parts[self.place(arch)]  # type: ignore[assignment]
        return found

    def forward(self, x: Float[Tensor, "b ..."], arch: Architecture) -> Float[Tensor, "b classes"]:
        out: Tensor = self.part(arch)(x, arch)
        return out

    def inherited(self, arch: Architecture) -> dict[str, Tensor]:
        return self.part(arch).inherited(arch)

    def owned(self, arch: Architecture) -> dict[str, list[nn.Parameter]]:
        return self.part(arch).owned(arch)

    def silence_residuals(self) -> None:
        for part in self.parts:
            assert isinstance(part, Supernet)
            part.silence_residuals()

    def subnet(self, arch: Architecture) -> nn.Module:
        return self.part(arch).subnet(arch)


class SplitSupernet(PartedSupernet):
    """Sub-supernets, told apart by the values of one variable; an architecture has the weights of its own part.

    Architectures of different parts share nothing. A part may itself be split. Each part is a supernet with a `space`
    of its own, so every training strategy can train it; the whole can be trained too, each step by the parts that its
    paths are in.

    Args:
        space: What all parts hold together.
        variable: Name of the variable.
        groups: Positions of its values, each in one group, at least two groups.
        parts: The supernet of each group.

    Raises:
        InvalidSpace: No such variable, or groups that are no partition of its values.
    """

    def __init__(
        self, space: SearchSpace, variable: str, groups: Sequence[Sequence[int]], parts: Sequence[Supernet]
    ) -> None:
        super().__init__(space, parts)
        self.variable, self.groups = variable, [tuple(group) for group in groups]
        values = _divided_values(space, variable, groups)
        self._part = {values[v]: i for i, group in enumerate(self.groups) for v in group}

    def place(self, arch: Architecture) -> int:
        return self._part[self.whole.variables[self.variable][self.whole.to_choices(arch)[self.variable]]]

    @property
    def tree(self) -> Tree:
        """How it is split, for `split_as`."""
        parts = [part.tree if isinstance(part, SplitSupernet) else None for part in self.parts]
        return {"variable": self.variable, "groups": [list(group) for group in self.groups], "parts": parts}


def split(supernet: Supernet, variable: str, groups: Sequence[Sequence[int]]) -> SplitSupernet:
    """Copies of a supernet, weights included, each for the architectures whose variable is in one of the groups.

    Args:
        supernet: Stays as it is.
        variable: Of its space.
        groups: Positions of the variable's values.

    Raises:
        InvalidSpace: As in `SplitSupernet`, or a group that leaves no two architectures.
    """
    spaces = divided_space(supernet.space, variable, groups)
    parts = [copy.deepcopy(supernet) for _ in spaces]
    for part, space in zip(parts, spaces, strict=True):
        part.space = space
    return SplitSupernet(supernet.space, variable, groups, parts)


def divided_space(space: SearchSpace, variable: str, groups: Sequence[Sequence[int]]) -> list[SearchSpace]:
    """The part of a space of each group of a variable's values; arguments and errors as in `split`."""
    values = _divided_values(space, variable, groups)
    return [RestrictedSpace(space, {variable: [values[v] for v in group]}) for group in groups]


def _divided_values(space: SearchSpace, variable: str, groups: Sequence[Sequence[int]]) -> Sequence[str]:
    """The values of a variable, which the groups divide."""
    values = space.variables.get(variable, ())
    if len(groups) < 2 or sorted(v for group in groups for v in group) != list(range(len(values))):
        raise InvalidSpace(
            f"{[tuple(group) for group in groups]} do not divide the {len(values)} values of '{variable}' among two or "
            "more"
        )
    return values


def split_as(supernet: Supernet, tree: Tree | None) -> Supernet:
    """A supernet, or copies of it that are split as another was.

    Args:
        supernet: Not split.
        tree: What `SplitSupernet.tree` gave; the groups are positions of the values that each part is left with.

    Raises:
        InvalidSpace: No such tree, or one that does not fit the space.
    """
    if tree is None:
        return supernet
    _check_tree(tree)
    divided = split(supernet, tree["variable"], tree["groups"])
    parts = [split_as(part, below) for part, below in zip(divided.parts, tree["parts"], strict=True)]  # type: ignore[arg-type]
    return SplitSupernet(supernet.space, divided.variable, divided.groups, parts)


def _check_tree(tree: object) -> None:
    """Refuse what `SplitSupernet.tree` did not give, as far as types go."""
    if isinstance(tree, Mapping) and tree.keys() == {"variable", "groups", "parts"}:
        variable, groups, parts = tree["variable"], tree["groups"], tree["parts"]
        divided = isinstance(groups, list) and all(isinstance(group, list) for group in groups)
        if (
            isinstance(variable, str)
            and divided
            and all(type(value) is int for group in groups for value in group)
            and isinstance(parts, list)
            and len(parts) == len(groups)
        ):
            return
    raise InvalidSpace(f"{str(tree)[:60]} does not say how a supernet was split")
