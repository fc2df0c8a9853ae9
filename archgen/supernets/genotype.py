"""The supernet of normal and reduction cells: every operation on every edge (DARTS, arXiv 1806.09055)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.errors import InvalidSpace
from archgen.graph import Architecture
from archgen.networks.cell_operations import CELL_OPERATIONS, FactorizedReduce
from archgen.networks.darts import DartsSkeleton, Inputs, Place
from archgen.networks.operations import ReLUConvBN
from archgen.spaces import GenotypeSpace, SearchSpace
from archgen.spaces.genotype_function import CELLS
from archgen.supernets.base import SUPERNETS
from archgen.supernets.relaxed import RelaxedSupernet, Weights, weighed


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
        return self._joined(values, s1)

    def mixed(self, s0: Tensor, s1: Tensor, weights: Mapping[tuple[int, int], Mapping[str, Tensor | float]]) -> Tensor:
        """As `forward`; each node sums the weighted operations of all edges into it, by source and node."""
        s0, s1 = self.preprocess_0(s0), self.preprocess_1(s1)
        values: list[Tensor | None] = [s0, s1]
        for node in range(self.nodes):
            total: Tensor | None = None
            for source in range(2 + node):
                x, edge = values[source], weights.get((source, 2 + node))
                out = weighed(self.edges[f"{node}-{source}"], x, edge) if x is not None and edge else None  # type: ignore[arg-type]
                if out is not None:
                    total = out if total is None else total + out
            values.append(total)
        return self._joined(values, s1)

    def _joined(self, values: Sequence[Tensor | None], s1: Tensor) -> Tensor:
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
class GenotypeSupernet(RelaxedSupernet):
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
        self._edges = {
            f"{cell} {source}->{node}": (cell, source, node)
            for cell in CELLS
            for node in range(2, 2 + space.nodes)
            for source in range(node)
        }

        def make(place: Place) -> nn.Module:
            return _SuperDartsCell(space, place)

        self.skeleton = DartsSkeleton(make, space.nodes, **self.network)

    def forward(self, x: Float[Tensor, "b c h w"], arch: Architecture) -> Float[Tensor, "b classes"]:
        normal, reduce = self.genotypes.inputs(arch)
        return self.skeleton.run(x, lambda cell, s0, s1: cell(s0, s1, reduce if cell.reduction else normal))[0]

    @property
    def edges(self) -> dict[str, tuple[str, ...]]:
        """Operations of the edges from each earlier node to each node, `normal 0->2`; sources are no choice here."""
        if self.space is not self.whole:
            raise InvalidSpace(f"edges of {self.space.name} can be mixed in the whole space alone, not in a part of it")
        return dict.fromkeys(self._edges, self.genotypes.operations)

    def mixed(self, x: Float[Tensor, "b c h w"], weights: Weights) -> Float[Tensor, "b classes"]:
        by_cell: dict[str, dict[tuple[int, int], Mapping[str, Tensor | float]]] = {cell: {} for cell in CELLS}
        for name, (cell, source, node) in self._edges.items():
            by_cell[cell][source, node] = weights.get(name, {})

        def run(cell: nn.Module, s0: Tensor, s1: Tensor) -> Tensor:
            assert isinstance(cell, _SuperDartsCell)
            return cell.mixed(s0, s1, by_cell["reduce" if cell.reduction else "normal"])

        return self.skeleton.run(x, run)[0]

    def strongest(self, scores: Mapping[str, Sequence[float]]) -> Architecture:
        """The two edges into each node whose best operations are strongest, `none` left out, as DARTS derives it."""
        found: dict[str, list[tuple[str, int]]] = {cell: [] for cell in CELLS}
        for cell, node in itertools.product(CELLS, range(2, 2 + self.genotypes.nodes)):
            best = []
            for source in range(node):
                values = dict(zip(self.genotypes.operations, scores[f"{cell} {source}->{node}"], strict=True))
                operation = max((op for op in values if op != self.genotypes.zero), key=values.__getitem__)
                best.append((values[operation], operation, source))
            kept = sorted(best, key=lambda edge: -edge[0])[:2]
            found[cell] += [(operation, source) for _, operation, source in kept]
        return self.genotypes.from_cells(found["normal"], found["reduce"])

    def variant(self, operations: Mapping[str, str]) -> Architecture:
        cells = {cell: [(self.genotypes.zero, 0)] * (2 * self.genotypes.nodes) for cell in CELLS}
        for edge, operation in operations.items():
            cell, source, node = self._edges[edge]
            cells[cell][2 * (node - 2)] = (operation, source)
        return self.genotypes.from_cells(cells["normal"], cells["reduce"])

    def owned(self, arch: Architecture) -> dict[str, list[nn.Parameter]]:
        found: dict[str, list[nn.Parameter]] = {}
        for kind, inputs in zip(CELLS, self.genotypes.inputs(arch), strict=True):
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
