"""The supernet of modules of any topology: weights by vertex and operation, channels cut to fit (NAS-Bench-101)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.graph import Architecture
from archgen.networks.module import ConvBNReLU, Edges, ModuleSkeleton, summed, vertex_channels
from archgen.networks.operations import OPERATIONS
from archgen.spaces import ModuleSpace, SearchSpace
from archgen.supernets.base import SUPERNETS, Supernet
from archgen.supernets.shared import SharedModule


class _SuperModule(nn.Module):
    """Every operation at every vertex, as wide as the module's output, which a single vertex may have to be.

    Args:
        vertices: Most vertices of a module.
        operations: Operations of an interior vertex.
        inputs, outputs: Channels of the module's input and output.
    """

    def __init__(self, vertices: int, operations: Sequence[str], inputs: int, outputs: int) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        interior = [str(v) for v in range(1, vertices - 1)]
        self.projections = nn.ModuleDict(
            {v: SharedModule([partial(ConvBNReLU, inputs, outputs, 1)]) for v in (*interior, "output")}
        )
        self.operations = nn.ModuleDict(
            {
                v: nn.ModuleDict({op: SharedModule([partial(OPERATIONS[op], outputs)]) for op in operations})
                for v in interior
            }
        )

    def forward(self, x: Tensor, operations: Sequence[str], edges: Edges) -> Tensor:
        """As `DagModule` does it."""
        vertices = len(operations) + 2
        channels = vertex_channels(self.inputs, self.outputs, vertices, edges)
        sources = [sorted(i for i, j in edges if j == v) for v in range(vertices)]
        values = [x]
        for v, operation in enumerate(operations, start=1):
            width = channels[v]
            terms = [self._project(v, width, x) if i == 0 else values[i][:, :width] for i in sources[v]]
            shared = self.operations[str(v)][operation]  # type: ignore[index]
            values.append(shared(summed(terms), width, partial(OPERATIONS[operation], width)))
        direct = [self._project("output", self.outputs, x)] if 0 in sources[-1] else []
        interior = [values[i] for i in sources[-1] if i > 0]
        return summed([torch.cat(interior, 1), *direct] if interior else direct)

    def _project(self, vertex: int | str, width: int, x: Tensor) -> Tensor:
        out: Tensor = self.projections[str(vertex)](x, width, partial(ConvBNReLU, self.inputs, width, 1))
        return out

    def inherited(self, operations: Sequence[str], edges: Edges) -> Iterator[tuple[str, Tensor]]:
        """State of the `DagModule` of these operations and edges."""
        vertices = len(operations) + 2
        channels = vertex_channels(self.inputs, self.outputs, vertices, edges)
        for v in range(1, vertices):
            if (0, v) in edges:
                shared: SharedModule = self.projections["output" if v == vertices - 1 else str(v)]  # type: ignore[assignment]
                make = partial(ConvBNReLU, self.inputs, channels[v], 1)
                for name, value in shared.state(channels[v], make).items():
                    yield f"projections.{v}.{name}", value
        for v, operation in enumerate(operations, start=1):
            shared = self.operations[str(v)][operation]  # type: ignore[index]
            for name, value in shared.state(channels[v], partial(OPERATIONS[operation], channels[v])).items():
                yield f"operations.{v}.{name}", value


@SUPERNETS.register("module")
class ModuleSupernet(Supernet):
    """The published skeleton with a super-module at each place.

    A vertex is known by its place in the order of the pruned module. How many channels it has depends on the module's
    edges (`vertex_channels`), so its weights are the first channels of those of the widest vertex there could be. Two
    isomorphic points of the space have other weights.

    Args:
        space: A `ModuleSpace`.
        network: Arguments of `space.build`.

    Raises:
        TypeError: A space of another family.
    """

    def __init__(self, space: SearchSpace, network: Mapping[str, int]) -> None:
        if not isinstance(space, ModuleSpace):
            raise TypeError(f"ModuleSupernet serves spaces of modules, got {type(space).__name__}")
        super().__init__(space, network)
        arguments = {key: value for key, value in self.network.items() if key != "image_size"}
        self.skeleton = ModuleSkeleton(partial(_SuperModule, space.vertices, space.operations), **arguments)

    def forward(self, x: Float[Tensor, "b c h w"], arch: Architecture) -> Float[Tensor, "b classes"]:
        self.whole.validate(arch)

        def run(layer: nn.Module, x: Tensor) -> Tensor:
            out: Tensor = layer(x, arch.ops[1:-1], arch.edges) if isinstance(layer, _SuperModule) else layer(x)
            return out

        return self.skeleton.run(x, run)

    def owned(self, arch: Architecture) -> dict[str, list[nn.Parameter]]:
        modules = [layer for layer in self.skeleton.layers if isinstance(layer, _SuperModule)]
        found = {
            f"operation {v}": [p for m in modules for p in m.operations[str(v)][operation].parameters()]  # type: ignore[index]
            for v, operation in enumerate(arch.ops[1:-1], start=1)
        }
        return {variable: parameters for variable, parameters in found.items() if parameters}

    def inherited(self, arch: Architecture) -> dict[str, Tensor]:
        self.whole.validate(arch)
        state = self.skeleton.state_dict(keep_vars=True)
        own = {name: value for name, value in state.items() if not name.startswith("layers.")}
        for i, layer in enumerate(self.skeleton.layers):
            if isinstance(layer, _SuperModule):
                own |= {f"layers.{i}.{name}": value for name, value in layer.inherited(arch.ops[1:-1], arch.edges)}
        return own
