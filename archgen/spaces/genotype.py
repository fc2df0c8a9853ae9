"""Genotypes: a normal and a reduction cell whose nodes choose two inputs (the family of DARTS, arXiv 1806.09055).

As a labelled DAG, both cells are in one graph: their two common inputs, the operations of the normal cell, those of
the reduction cell, and the output; see `GenotypeGraph`. Each node of a cell has two operations; the second one adds
its result to that of the first, and so stands for the node.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from archgen.errors import InvalidArchitecture, InvalidSpace, UnknownName
from archgen.graph import Architecture, GraphBatch
from archgen.networks.cell_operations import CELL_OPERATIONS
from archgen.networks.darts import DartsNetwork, Inputs, count_darts_network
from archgen.spaces.base import FAMILIES, SearchSpace
from archgen.spaces.flow import Flow
from archgen.spaces.genotype_arrays import GenotypeArrays
from archgen.spaces.genotype_function import CELLS, INPUTS, Cell, cell_function, computation_of, cut_dead
from archgen.spaces.genotype_graph import GenotypeGraph
from archgen.spaces.genotype_text import format_genotype, parse_genotype

ROLES = ("zero", "identity", "linear", "maximum", "weighted")


@FAMILIES.register("genotype")
class GenotypeSpace(SearchSpace):
    """Pairs of cells whose every node sums two operations, each on any earlier node or input of the cell.

    A point is what `parse` reads: both inputs of a node may come from one source, be the same operation, or be
    `none`, as in published tables of random genotypes (derived ones have neither). The two are unordered, and an
    architecture has them sorted by source and operation. All nodes are concatenated.

    Args:
        name: Name of the space.
        nodes: Nodes a cell, at least 1.
        roles: Role of each operation, by its name: `zero`, `identity`, `linear`, `maximum` or `weighted`.
        network: Published keyword arguments of `build`: `cells`, `channels`, `classes`, `in_channels`, `image_size`,
            `auxiliary`.
        summary: One line for the list of spaces.
        paper: arXiv id.

    Raises:
        InvalidSpace: No node, an unknown role, or not exactly one zero operation.
        UnknownName: An operation that `archgen.networks.cell_operations` does not have.
    """

    family = "genotype"
    free = False
    extremes = None

    def __init__(
        self,
        name: str,
        nodes: int,
        roles: Mapping[str, str],
        network: Mapping[str, int],
        summary: str = "",
        paper: str = "",
    ) -> None:
        if nodes < 1:
            raise InvalidSpace(f"[cell] nodes = {nodes}: a cell needs at least one node")
        for operation, role in roles.items():
            if role not in ROLES:
                raise InvalidSpace(f"[[operations]] {operation}: role {role!r} is not one of {', '.join(ROLES)}")
            if role != "zero" and operation not in CELL_OPERATIONS:
                raise UnknownName("operation", operation, CELL_OPERATIONS)
        zeros = [operation for operation, role in roles.items() if role == "zero"]
        if len(zeros) != 1 or len(roles) < 2:
            raise InvalidSpace(f"[[operations]]: expected one with role 'zero' and others, got {dict(roles)}")
        self.name, self.summary, self.paper = name, summary, paper
        self.nodes, self.roles, self.zero = nodes, dict(roles), zeros[0]
        self.operations = tuple(roles)
        self.variables = {}
        for cell in CELLS:
            for i in range(2 * nodes):
                place = f"{cell} {2 + i // 2}.{i % 2}"
                self.variables[f"{place} operation"] = self.operations
                self.variables[f"{place} source"] = tuple(map(str, range(2 + i // 2)))
        at = [variable for variable in self.variables if variable.endswith("operation")]
        self.variable_nodes = {variable: i for i, variable in enumerate(at, start=2)}
        self.labels = (*INPUTS, *self.operations, "output")
        kept = [(cell, op) for cell in CELLS for op, role in roles.items() if role != "zero"]
        computing = [f"{cell}:{op}" for cell, op in kept if (cell, roles[op]) != ("normal", "identity")]
        self.computing_labels, self.depth = (*INPUTS, *computing), nodes + 1
        self.network_defaults = dict(network)
        self._least_arguments = {"auxiliary": 0}
        self.graph = GenotypeGraph(nodes, len(self.operations))
        self.node_domain, self.edge_domain = self.graph.node_domain, self.graph.edge_domain

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> GenotypeSpace:
        """Make the space of a parsed TOML file; raises `InvalidSpace` naming the table and key."""
        try:
            roles = {entry["name"]: entry["role"] for entry in description["operations"]}
            if len(roles) != len(description["operations"]):
                raise InvalidSpace("[[operations]]: an operation is named twice")
            return cls(
                description["name"],
                int(description["cell"]["nodes"]),
                roles,
                {key: int(value) for key, value in description["network"].items()},
                description.get("summary", ""),
                description.get("paper", ""),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidSpace(
                "expected name, [cell] nodes, [[operations]] name and role, and a [network] table of integers; "
                f"{error!r} is missing or of the wrong type"
            ) from None

    @property
    def size(self) -> int:
        """Number of genotypes, the inputs of a node unordered: a node with `m` of them has `m (m + 1) / 2` pairs."""
        ways = [len(self.operations) * (2 + node) for node in range(self.nodes)]
        each: int = math.prod(m * (m + 1) // 2 for m in ways)
        return each * each

    def size_within(self, allowed: Mapping[str, Sequence[int]]) -> int:
        left = iter(allowed[name] for name in self.variables)
        inputs = [{(source, op) for source in sources for op in ops} for ops, sources in zip(left, left, strict=True)]
        nodes = zip(inputs[::2], inputs[1::2], strict=True)
        return math.prod(sum(a <= b for a in first for b in second) for first, second in nodes)

    # -- encodings ----------------------------------------------------------------------------------------------

    def from_cells(self, normal: Sequence[tuple[str, int]], reduce: Sequence[tuple[str, int]]) -> Architecture:
        """The architecture of two cells, given as operation and source of each node's inputs, in any order.

        Raises:
            InvalidArchitecture: Not two inputs a node, an unknown operation, or a source that comes too late.
        """
        for cell, inputs in zip(CELLS, (normal, reduce), strict=True):
            if len(inputs) != 2 * self.nodes:
                raise InvalidArchitecture(
                    f"{cell}: expected {2 * self.nodes} inputs, two for each of {self.nodes} nodes, got {len(inputs)}"
                )
            for i, (operation, source) in enumerate(inputs):
                if operation not in self.roles:
                    raise InvalidArchitecture(str(UnknownName(f"operation of {self.name}", operation, self.operations)))
                if not 0 <= source < 2 + i // 2:
                    raise InvalidArchitecture(f"{cell}: node {2 + i // 2} can not read {source}, which comes after it")
        chosen = [(self.operations.index(op), source) for op, source in (*normal, *reduce)]
        return self._architecture(*zip(*self._sorted(chosen), strict=True))

    @staticmethod
    def _sorted(inputs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        pairs = [sorted(inputs[i : i + 2], key=lambda pair: (pair[1], pair[0])) for i in range(0, len(inputs), 2)]
        return [pair for node in pairs for pair in node]

    def _architecture(self, operations: Sequence[int], sources: Sequence[int]) -> Architecture:
        """The architecture of sorted inputs, given as index of the operation and source of all of both cells."""
        ops = (*INPUTS, *(self.operations[i] for i in operations), "output")
        return Architecture(self.name, ops, self.graph.edges_of(sources))

    def cells(self, arch: Architecture) -> tuple[Cell, Cell]:
        """Operation and source of each input of the normal and of the reduction cell.

        Raises:
            InvalidArchitecture: The edges are not those of a genotype, or a node's inputs are not sorted.
        """
        inputs = list(zip(arch.ops[2:-1], self.graph.sources_of(arch.edges), strict=True))
        return tuple(inputs[: 2 * self.nodes]), tuple(inputs[2 * self.nodes :])

    def to_choices(self, arch: Architecture) -> dict[str, int]:
        chosen = [value for cell in self.cells(arch) for op, s in cell for value in (self.operations.index(op), s)]
        return dict(zip(self.variables, chosen, strict=True))

    def from_choices(self, choices: Mapping[str, int]) -> Architecture:
        self._check_choices(choices)
        chosen = [choices[name] for name in self.variables]
        inputs = self._sorted(list(zip(chosen[::2], chosen[1::2], strict=True)))
        return self._architecture(*zip(*inputs, strict=True))

    def validate(self, arch: Architecture) -> None:
        if arch.space != self.name:
            raise InvalidArchitecture(f"expected an architecture of '{self.name}', got one of '{arch.space}'")
        n = 4 * self.nodes + 3
        if len(arch.ops) != n:
            raise InvalidArchitecture(
                f"expected {n} nodes (2 inputs, {n - 3} operations of two cells, output), got {len(arch.ops)}"
            )
        if (*arch.ops[:2], arch.ops[-1]) != (*INPUTS, "output"):
            raise InvalidArchitecture(f"expected {INPUTS} first and output last, got {arch.ops}")
        for operation in arch.ops[2:-1]:
            if operation not in self.roles:
                raise InvalidArchitecture(str(UnknownName(f"operation of {self.name}", operation, self.operations)))
        normal, reduce = self.cells(arch)
        if self.from_cells(normal, reduce) != arch:
            raise InvalidArchitecture(
                "edges, and the inputs of a node by source and operation, must be in order; use parse"
            )

    def decode(self, batch: GraphBatch) -> list[Architecture | None]:
        """Genotypes of graphs: the most probable operation of each node, edges above one half.

        Returns:
            One entry a graph, None where an operation has not exactly one source or a fixed edge is missing.
        """
        ops = batch.ops.masked_fill(~self.node_domain.to(batch.ops.device), -torch.inf).argmax(-1).cpu()
        allowed, sources = self.graph.read((batch.edges > 0.5).cpu())
        allowed &= batch.node_mask.all(1).cpu()
        archs: list[Architecture | None] = [None] * len(allowed)
        found = self._architectures(ops[allowed, 2:-1].numpy() - 2, sources[allowed].numpy())
        for i, arch in zip(allowed.nonzero().flatten().tolist(), found, strict=True):
            archs[i] = arch
        return archs

    def _architectures(self, operations: npt.NDArray[np.int64], sources: npt.NDArray[np.int64]) -> list[Architecture]:
        """Architectures of `b` rows of inputs in any order, each distinct one made once."""
        keys = (sources * len(self.operations) + operations).reshape(-1, 2 * self.nodes, 2)
        rows = np.ascontiguousarray(np.sort(keys, -1).reshape(-1, 4 * self.nodes).astype(np.uint16))
        if not len(rows):
            return []
        as_bytes = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
        _, index, inverse = np.unique(as_bytes, return_index=True, return_inverse=True)
        source, operation = np.divmod(rows[index], len(self.operations))
        archs = [self._architecture(o, s) for o, s in zip(operation.tolist(), source.tolist(), strict=True)]
        return [archs[i] for i in inverse.ravel().tolist()]

    def sample(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """Draw operation and source of every input uniformly and independently."""
        ways = np.array([len(edges) for edges in self.graph.free])
        sources = rng.integers(ways, size=(n, len(ways)))
        return self._architectures(rng.integers(len(self.operations), size=sources.shape), sources)

    def project(self, drawn: GraphBatch, probabilities: GraphBatch, *, generator: torch.Generator) -> GraphBatch:
        """Graphs in which every operation has one source, by `GenotypeGraph.draw_sources`."""
        edges = self.graph.draw_sources(drawn.edges, probabilities.edges, generator=generator)
        return GraphBatch(drawn.ops, edges, drawn.node_mask)

    # -- text and function --------------------------------------------------------------------------------------

    def parse(self, text: str) -> Architecture:
        """Read the published form, `Genotype(normal=[...], normal_concat=[...], reduce=[...], reduce_concat=[...])`.

        Raises:
            InvalidArchitecture: Not a genotype, another number of nodes, an unknown operation, a source that does not
                come before its node, or a concatenation that leaves a node out.
        """
        return self.from_cells(*parse_genotype(text))

    def format(self, arch: Architecture) -> str:
        return format_genotype(*self.cells(arch))

    def simplify(self, arch: Architecture) -> Architecture:
        normal, reduce = (cut_dead(cell, self.zero) for cell in self.cells(arch))
        return self.from_cells(normal, reduce)

    def computation(self, arch: Architecture) -> Architecture:
        """Both cells side by side between `input` and `output`; labels carry the cell's name.

        The cells' inputs that are read are nodes of their own. Identities are contracted (a `skip_connect` of stride
        2 is none), and an edge listed `m` times carries weight `m`.
        """
        cells = [cut_dead(cell, self.zero) for cell in self.cells(arch)]
        ops, edges = computation_of(dict(zip(CELLS, cells, strict=True)), self.roles)
        return Architecture(self.name, ops, edges)

    def canonical(self, arch: Architecture) -> str:
        """Equal exactly when both cells compute the same functions for every value of the weights, up to renaming them.

        The order of the concatenated nodes renames weights of the cells that read them. Cells are compared one by
        one; see `cell_function`.
        """
        normal, reduce = (cut_dead(cell, self.zero) for cell in self.cells(arch))
        roles = tuple(self.roles.items())
        return f"{cell_function(normal, roles, False)}|{cell_function(reduce, roles, True)}"

    # -- many at once -------------------------------------------------------------------------------------------

    @cached_property
    def _many(self) -> GenotypeArrays:
        return GenotypeArrays(self, self.graph.choice, self.graph.fixed)

    def choices(self, archs: Sequence[Architecture]) -> npt.NDArray[np.int64]:
        return self._many.choices(archs)

    def simple_choices(self, archs: Sequence[Architecture]) -> npt.NDArray[np.int64]:
        return self._many.simple_choices(archs)

    def flow(self, archs: Sequence[Architecture]) -> Flow:
        return self._many.flow(archs)

    # -- networks -----------------------------------------------------------------------------------------------

    def _network(self, network: Mapping[str, int]) -> dict[str, int]:
        arguments = super()._network(network)
        if arguments["auxiliary"] and arguments["image_size"] < 21:
            raise InvalidSpace(f"the auxiliary head needs image_size of at least 21, got {arguments['image_size']}")
        return arguments

    def inputs(self, arch: Architecture) -> tuple[Inputs, Inputs]:
        """Operation (None: none) and source of each input of the normal and of the reduction cell's nodes."""
        normal, reduce = (
            [(None if op == self.zero else op, source) for op, source in cell] for cell in self.cells(arch)
        )
        return normal, reduce

    def build(self, arch: Architecture, **network: int) -> nn.Module:
        """The published network, a `DartsNetwork`: see there for its auxiliary logits and scheduled drop-path.

        Args:
            arch: A point of this space.
            **network: `cells`, `channels` (of a node of the first cell), `classes`, `in_channels`, `image_size` (of a
                square image, pixels), `auxiliary` (1 for the auxiliary head, 0 for none).
        """
        self.validate(arch)
        arguments = self._network(network)
        normal, reduce = self.inputs(arch)
        return DartsNetwork(normal, reduce, **arguments)

    def count(self, arch: Architecture, **network: int) -> dict[str, float]:
        """Exact `params`, and `macs` for one image, which in this space's publications are the `flops` too."""
        self.validate(arch)
        normal, reduce = self.inputs(arch)
        return count_darts_network(normal, reduce, **self._network(network))
