"""Several supernets of one space, each of which holds a part of it (few-shot NAS, arXiv 2006.06863)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from archgen.errors import InvalidSpace
from archgen.graph import Architecture
from archgen.spaces import RestrictedSpace, SearchSpace
from archgen.supernets.base import Supernet


class SplitSupernet(Supernet):
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
        super().__init__(space.whole, parts[0].network)
        self.space, self.variable, self.groups = space, variable, [tuple(group) for group in groups]
        values = space.variables.get(variable, ())
        if len(groups) < 2 or sorted(v for group in groups for v in group) != list(range(len(values))):
            raise InvalidSpace(
                f"{self.groups} do not divide the {len(values)} values of '{variable}' among two or more"
            )
        self.parts = nn.ModuleList(parts)
        self._part = {values[v]: i for i, group in enumerate(self.groups) for v in group}

    def part(self, arch: Architecture) -> Supernet:
        """The supernet that an architecture belongs to, as it is written: not by what is left once it is simplified."""
        self.whole.validate(arch)
        value = self.whole.variables[self.variable][self.whole.to_choices(arch)[self.variable]]
        found: Supernet = self.parts[self._part[value]]  # type: ignore[assignment]
        return found

    def forward(self, x: Float[Tensor, "b ..."], arch: Architecture) -> Float[Tensor, "b classes"]:
        out: Tensor = self.part(arch)(x, arch)
        return out

    def inherited(self, arch: Architecture) -> dict[str, Tensor]:
        return self.part(arch).inherited(arch)

    def owned(self, arch: Architecture) -> dict[str, list[nn.Parameter]]:
        return self.part(arch).owned(arch)

    def subnet(self, arch: Architecture) -> nn.Module:
        return self.part(arch).subnet(arch)


def split(supernet: Supernet, variable: str, groups: Sequence[Sequence[int]]) -> SplitSupernet:
    """Copies of a supernet, weights included, each for the architectures whose variable is in one of the groups.

    Args:
        supernet: Stays as it is.
        variable: Of its space.
        groups: Positions of the variable's values.

    Raises:
        InvalidSpace: As in `SplitSupernet`, or a group that leaves no two architectures.
    """
    space = supernet.space
    parts = []
    for group in groups:
        part = copy.deepcopy(supernet)
        names = [space.variables[variable][v] for v in group] if variable in space.variables else []
        if names:
            part.space = RestrictedSpace(space, {variable: names})
        parts.append(part)
    return SplitSupernet(space, variable, groups, parts)
