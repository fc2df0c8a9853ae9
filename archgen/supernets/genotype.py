"""The supernet of normal and reduction cells: every operation on every edge (DARTS, arXiv 1806.09055)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.graph import Architecture
from archgen.networks.cell_operations import CELL_OPERATIONS, FactorizedReduce
from archgen.networks.darts import DartsSkeleton, Inputs, Place
from archgen.networks.operations import ReLUConvBN
from archgen.spaces import GenotypeSpace, SearchSpace
from archgen.supernets.base import SUPERNETS, Supernet


class _SuperDartsCell(nn.Module):
    def __init__(self, space: GenotypeSpace, place: Place) -> None:
        super().__init__()
        self.nodes, self.reduction = space.nodes, place.reduction
        self.preprocess_0: nn.Module = (
            FactorizedReduce(place.before_previous, place.channels)
            if place.reduction_previous
            else ReLUConvBN(place.before_previous, place.channels, 1)
        )
        self.preprocess_1 = ReLUConvBN(place.previous, place.channels, 1)
        operations = [op for op, role in space.roles.items() if role != "zero"]
        self.edges = nn.ModuleDict(
            {
                f"{node}-{source}": nn.ModuleDict(
                    {
                        op: CELL_OPERATIONS[op](place.channels, 2 if place.reduction and source < 2 else 1, True)
                        for op in operations
                    }
                )
                for node in range(space.nodes)
                for source in range(2 + node)
            }
        )

    def forward(self, s0: Tensor, s1: Tensor, inputs: Inputs) -> Tensor:
        """As `DartsCell` does it."""
        s0, s1 = self.preprocess_0(s0), self.preprocess_1(s1)
        values: list[Tensor | None] = [s0, s1]
        for node in range(self.nodes):
            total: Tensor | None = None
            for operation, source in inputs[2 * node : 2 * node + 2]:
                x = values[source]
                if operation is not None and x is not None:
                    out = self.edges[f"{node}-{source}"][operation](x)  # type: ignore[index]
                    total = out if total is None else total + out
            values.append(total)
        halved = s1[:, :, ::2, ::2] if self.reduction else s1
        return torch.cat([torch.zeros_like(halved) if v is None else v for v in values[2:]], 1)

    def inherited(self, inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
        """State of the `DartsCell` of these inputs; the two inputs of a node may have the same weights."""
        for name, value in self.state_dict(keep_vars=True).items():
            if name.startswith("preprocess"):
                yield name, value
        for i, (operation, source) in enumerate(inputs):
            if operation is not None:
                edge = self.edges[f"{i // 2}-{source}"][operation]  # type: ignore[index]
                for name, value in edge.state_dict(keep_vars=True).items():
                    yield f"operations.{i}.{name}", value


@SUPERNETS.register("genotype")
class GenotypeSupernet(Supernet):
    """The published skeleton with every operation on every edge; an architecture runs two edges a node.

    Args:
        space: A `GenotypeSpace`.
        network: Arguments of `space.build`.

    Raises:
        TypeError: A space of another family.
    """

    def __init__(self, space: SearchSpace, network: Mapping[str, int]) -> None:
        if not isinstance(space, GenotypeSpace):
            raise TypeError(f"GenotypeSupernet serves spaces of genotypes, got {type(space).__name__}")
        super().__init__(space, network)
        self.genotypes = space

        def make(place: Place) -> nn.Module:
            return _SuperDartsCell(space, place)

        self.skeleton = DartsSkeleton(make, space.nodes, **self.network)

    def forward(self, x: Float[Tensor, "b c h w"], arch: Architecture) -> Float[Tensor, "b classes"]:
        normal, reduce = self.genotypes.inputs(arch)
        return self.skeleton.run(x, lambda cell, s0, s1: cell(s0, s1, reduce if cell.reduction else normal))[0]

    def owned(self, arch: Architecture) -> dict[str, list[nn.Parameter]]:
        found: dict[str, list[nn.Parameter]] = {}
        for kind, inputs in zip(("normal", "reduce"), self.genotypes.inputs(arch), strict=True):
            for i, (operation, source) in enumerate(inputs):
                for cell in self.skeleton.cells:
                    assert isinstance(cell, _SuperDartsCell)
                    if operation is not None and cell.reduction == (kind == "reduce"):
                        edge: nn.Module = cell.edges[f"{i // 2}-{source}"][operation]  # type: ignore[index]
                        found.setdefault(f"{kind} {2 + i // 2}.{i % 2} operation", []).extend(edge.parameters())
        return {variable: parameters for variable, parameters in found.items() if parameters}

    def inherited(self, arch: Architecture) -> dict[str, Tensor]:
        normal, reduce = self.genotypes.inputs(arch)
        state = self.skeleton.state_dict(keep_vars=True)
        own = {name: value for name, value in state.items() if not name.startswith("cells.")}
        for i, cell in enumerate(self.skeleton.cells):
            assert isinstance(cell, _SuperDartsCell)
            inherited = cell.inherited(reduce if cell.reduction else normal)
            own |= {f"cells.{i}.{name}": value for name, value in inherited}
        return own
