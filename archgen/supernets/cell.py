"""The supernet of dense cells: every edge holds every operation (as in SPOS, arXiv 1904.00420, and NAS-Bench-201)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.graph import Architecture, live_nodes
from archgen.networks.cell import CellSkeleton, edge_name
from archgen.networks.operations import OPERATIONS
from archgen.spaces import CellSpace, SearchSpace
from archgen.supernets.base import SUPERNETS
from archgen.supernets.relaxed import RelaxedSupernet, Weights, open_values, strongest_values, weighed


class _SuperCell(nn.Module):
    def __init__(self, space: CellSpace, channels: int) -> None:
        super().__init__()
        self.nodes, self.pairs = space.nodes, space.pairs
        operations = [op for op, role in space.roles.items() if role != "zero"]
        self.edges = nn.ModuleDict(
            {edge_name(p): nn.ModuleDict({op: OPERATIONS[op](channels) for op in operations}) for p in space.pairs}
        )

    def forward(self, x: Tensor, path: dict[tuple[int, int], str]) -> Tensor:
        values: list[Tensor | None] = [x] + [None] * (self.nodes - 1)
        for pair in self.pairs:
            value = values[pair[0]]
            if pair in path and value is not None:
                out = self.edges[edge_name(pair)][path[pair]](value)  # type: ignore[index]
                before = values[pair[1]]
                values[pair[1]] = out if before is None else before + out
        last = values[-1]
        return torch.zeros_like(x) if last is None else last

    def mixed(self, x: Tensor, weights: Mapping[tuple[int, int], Mapping[str, Tensor | float]]) -> Tensor:
        """As `forward`, with the weighted operations of each edge; edges that do not reach the output do not run."""
        fed = [pair for pair in self.pairs if any(op in self.edges[edge_name(pair)] for op in weights.get(pair, ()))]  # type: ignore[operator]
        live = live_nodes(self.nodes, fed, 0, self.nodes - 1)
        values: list[Tensor | None] = [x] + [None] * (self.nodes - 1)
        for pair in fed:
            value = values[pair[0]]
            if value is not None and live.issuperset(pair):
                out = weighed(self.edges[edge_name(pair)], value, weights[pair])  # type: ignore[arg-type]
                before = values[pair[1]]
                values[pair[1]] = out if before is None or out is None else before + out
        last = values[-1]
        return torch.zeros_like(x) if last is None else last


@SUPERNETS.register("cell")
class CellSupernet(RelaxedSupernet):
    """The published skeleton with a super-cell at each place; the cells of one network share a path, not weights.

    Args:
        space: A `CellSpace`.
        network: Arguments of `space.build`.

    Raises:
        TypeError: A space of another family.
    """

    def __init__(self, space: SearchSpace, network: dict[str, int]) -> None:
        if not isinstance(space, CellSpace):
            raise TypeError(f"CellSupernet serves cell spaces, got {type(space).__name__}")
        super().__init__(space, network)
        self.cell_space = space
        self._pairs = dict(zip(space.variables, space.pairs, strict=True))
        arguments = {key: value for key, value in self.network.items() if key != "image_size"}
        self.skeleton = CellSkeleton(lambda width: _SuperCell(space, width), **arguments)

    def forward(self, x: Float[Tensor, "b c h w"], arch: Architecture) -> Float[Tensor, "b classes"]:
        self.whole.validate(arch)
        path = self.cell_space.live_edges(arch)
        return self._run(x, lambda cell, x: cell(x, path))

    def _run(self, x: Tensor, run: Callable[[_SuperCell, Tensor], Tensor]) -> Tensor:
        x = self.skeleton.stem(x)
        for layer in self.skeleton.layers:
            x = run(layer, x) if isinstance(layer, _SuperCell) else layer(x)
        return self.skeleton.head(x)

    @property
    def edges(self) -> dict[str, tuple[str, ...]]:
        return open_values(self)

    def mixed(self, x: Float[Tensor, "b c h w"], weights: Weights) -> Float[Tensor, "b classes"]:
        by_pair = {pair: weights.get(name, {}) for name, pair in self._pairs.items()}
        return self._run(x, lambda cell, x: cell.mixed(x, by_pair))

    def strongest(self, scores: Mapping[str, Sequence[float]]) -> Architecture:
        """The strongest operation of each edge, the zero operation among them, as NAS-Bench-201 derives it."""
        return self.cell_space.from_operations(list(strongest_values(self.edges, scores).values()))

    def variant(self, operations: Mapping[str, str]) -> Architecture:
        return self.cell_space.from_operations([operations.get(name, self.cell_space.zero) for name in self._pairs])

    def owned(self, arch: Architecture) -> dict[str, list[nn.Parameter]]:
        path = self.cell_space.live_edges(arch)
        cells = [layer for layer in self.skeleton.layers if isinstance(layer, _SuperCell)]
        found = {}
        for variable, pair in self._pairs.items():
            if pair in path:
                edges = [cell.edges[edge_name(pair)][path[pair]] for cell in cells]  # type: ignore[index]
                found[variable] = [p for edge in edges for p in edge.parameters()]
        return {variable: parameters for variable, parameters in found.items() if parameters}

    def inherited(self, arch: Architecture) -> dict[str, Tensor]:
        self.whole.validate(arch)
        path = {edge_name(pair): op for pair, op in self.cell_space.live_edges(arch).items()}
        own = {}
        for name, value in self.skeleton.state_dict(keep_vars=True).items():
            parts = name.split(".")
            if "edges" in parts:
                at = parts.index("edges") + 2  # layers.<i>.edges.<edge>.<the supernet's operation>
                if path.get(parts[at - 1]) != parts.pop(at):
                    continue
            own[".".join(parts)] = value
        return own
