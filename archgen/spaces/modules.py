"""Modules of any topology with an operation at each vertex (the family of NAS-Bench-101, arXiv 1902.09635)."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from archgen.errors import InvalidArchitecture, InvalidSpace, UnknownName
from archgen.graph import Architecture, GraphBatch, canonical_form, live_nodes
from archgen.networks.module import ModuleNetwork, count_module_network
from archgen.networks.operations import OPERATIONS
from archgen.spaces.base import FAMILIES, SearchSpace
from archgen.spaces.module_graphs import distinct_modules, module_hash, pairs_of, prune_raw
from archgen.spaces.module_projection import draw_valid_edges
from archgen.spaces.module_text import format_spec, parse_spec

Pairs = Collection[tuple[int, int]]


@FAMILIES.register("module")
class ModuleSpace(SearchSpace):
    """Pruned modules: every vertex on a path from input to output, at most `vertices` of them and `max_edges` edges.

    A point is a labelled DAG with its vertices in one topological order; several points are isomorphic, and `size`
    and `enumerate` take each class once, as the published table does. A *raw* module, the setting of `variables`,
    has a state for every pair of `vertices` slots and an operation for every interior one; what no path uses is
    pruned. In the encoding, vertex `v` of a point sits in slot `v`, its output in the last slot, and slots between
    carry the first operation and no edge.

    Args:
        name: Name of the space.
        vertices: Most vertices of a module, input and output included, 3 to 7.
        max_edges: Most edges of a pruned module, at least `vertices - 1`.
        operations: Names of the operations of an interior vertex; the published hash depends on their order.
        network: Published keyword arguments of `build`: `stacks`, `cells`, `channels`, `classes`, `in_channels`,
            `image_size`.
        summary: One line for the list of spaces.
        paper: arXiv id.

    Raises:
        InvalidSpace: A limit outside its range, no operation, or one named twice.
        UnknownName: An operation that `archgen.networks.operations` does not have.
    """

    family = "module"
    free = False
    extremes = None

    def __init__(
        self,
        name: str,
        vertices: int,
        max_edges: int,
        operations: Sequence[str],
        network: Mapping[str, int],
        summary: str = "",
        paper: str = "",
    ) -> None:
        if not 3 <= vertices <= 7:
            raise InvalidSpace(f"[module] vertices = {vertices}: expected 3 to 7, more can not be counted")
        if max_edges < vertices - 1:
            raise InvalidSpace(f"[module] max_edges = {max_edges}: a chain of {vertices} needs {vertices - 1}")
        if not operations or len(set(operations)) != len(operations):
            raise InvalidSpace(f"[[operations]]: expected at least one, each named once; got {list(operations)}")
        for operation in operations:
            if operation not in OPERATIONS:
                raise UnknownName("operation", operation, OPERATIONS)
        self.name, self.summary, self.paper = name, summary, paper
        self.vertices, self.max_edges, self.operations = vertices, max_edges, tuple(operations)
        self.pairs = pairs_of(vertices)
        self.variables = {f"{i}->{j}": ("absent", "present") for i, j in self.pairs}
        self.variables |= {f"operation {v}": self.operations for v in range(1, vertices - 1)}
        self.labels = ("input", *operations, "output")
        self.computing_labels, self.depth = self.operations, vertices - 2
        self.network_defaults = dict(network)
        # the output's channels are divided among the vertices that feed it
        self._least_arguments = {"channels": min(self.vertices - 2, self.max_edges // 2)}
        self.node_domain = torch.zeros(vertices, len(self.labels), dtype=torch.bool)
        self.node_domain[0, 0] = self.node_domain[-1, -1] = True
        self.node_domain[1:-1, 1:-1] = True
        upper = torch.ones(vertices, vertices, dtype=torch.bool).triu(1)
        self.edge_domain = torch.stack([torch.ones_like(upper), upper], -1)
        self._rows, self._columns = torch.tensor(self.pairs).T

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> ModuleSpace:
        """Make the space of a parsed TOML file; raises `InvalidSpace` naming the table and key."""
        try:
            return cls(
                description["name"],
                int(description["module"]["vertices"]),
                int(description["module"]["max_edges"]),
                [entry["name"] for entry in description["operations"]],
                {key: int(value) for key, value in description["network"].items()},
                description.get("summary", ""),
                description.get("paper", ""),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidSpace(
                "expected name, [module] vertices and max_edges, [[operations]] name, and a [network] table of "
                f"integers; {error!r} is missing or of the wrong type"
            ) from None

    @cached_property
    def size(self) -> int:
        """Number of modules that are not isomorphic to each other, by listing their graphs (once, a quarter second)."""
        found = distinct_modules(self.vertices, len(self.operations), self.max_edges)
        return sum(len(graphs) for _, graphs, _ in found)

    def enumerate(self) -> list[Architecture]:
        """One point of each class of isomorphic modules, by number of vertices, graph, and operations.

        Raises:
            InvalidSpace: There are more than a million.
        """
        if self.size > 1_000_000:
            raise InvalidSpace(f"{self.name} has {self.size:.3g} points, too many to list; sample it instead")
        archs = []
        for m, graphs, labels in distinct_modules(self.vertices, len(self.operations), self.max_edges):
            pairs = pairs_of(m)
            for number, rows in itertools.groupby(zip(graphs.tolist(), labels.tolist(), strict=True), lambda r: r[0]):
                edges = tuple(sorted(pair for e, pair in enumerate(pairs) if number >> e & 1))
                archs += [self._architecture(row, edges) for _, row in rows]
        return archs

    def _architecture(self, labels: Sequence[int], edges: tuple[tuple[int, int], ...]) -> Architecture:
        return Architecture(self.name, ("input", *(self.operations[i] for i in labels), "output"), edges)

    # -- encodings ----------------------------------------------------------------------------------------------

    def from_graph(self, operations: Sequence[str], edges: Pairs) -> Architecture:
        """The point that a raw module of any number of vertices gives when it is pruned.

        Args:
            operations: Operation of each interior vertex.
            edges: Pairs `(i, j)`, `i < j`, of vertices; 0 is the input, `len(operations) + 1` the output.

        Raises:
            InvalidArchitecture: No path leads from the input to the output, or what is left is over a limit.
        """
        last = len(operations) + 1
        live = sorted(live_nodes(last + 1, list(edges), 0, last))
        if not live:
            raise InvalidArchitecture("no path leads from the input to the output: add edges until there is one")
        place = {v: i for i, v in enumerate(live)}
        kept = tuple(sorted({(place[i], place[j]) for i, j in edges if i in place and j in place}))
        arch = Architecture(self.name, ("input", *(operations[v - 1] for v in live[1:-1]), "output"), kept)
        self.validate(arch)
        return arch

    def to_choices(self, arch: Architecture) -> dict[str, int]:
        present = {f"{i}->{j}" for i, j in self._in_slots(arch)}
        choices = {f"{i}->{j}": int(f"{i}->{j}" in present) for i, j in self.pairs}
        choices |= {f"operation {v}": 0 for v in range(1, self.vertices - 1)}
        return choices | {f"operation {v}": self.operations.index(op) for v, op in enumerate(arch.ops[1:-1], start=1)}

    def matters(self, arch: Architecture, name: str, other: int) -> bool:
        """A choice at a slot that no vertex fills does not: what it could connect is pruned."""
        filled = {*range(len(arch.ops) - 1), self.vertices - 1}
        return all(int(slot) in filled for slot in name.removeprefix("operation ").split("->"))

    def _in_slots(self, arch: Architecture) -> list[tuple[int, int]]:
        last = len(arch.ops) - 1
        return [(i, j if j < last else self.vertices - 1) for i, j in arch.edges]

    def from_choices(self, choices: Mapping[str, int]) -> Architecture:
        """The pruned module of a raw one; raises `InvalidArchitecture` if it has no path or too many edges."""
        self._check_choices(choices)
        operations = [self.operations[choices[f"operation {v}"]] for v in range(1, self.vertices - 1)]
        return self.from_graph(operations, [(i, j) for i, j in self.pairs if choices[f"{i}->{j}"]])

    def validate(self, arch: Architecture) -> None:
        if arch.space != self.name:
            raise InvalidArchitecture(f"expected an architecture of '{self.name}', got one of '{arch.space}'")
        n = len(arch.ops)
        if not 2 <= n <= self.vertices:
            raise InvalidArchitecture(f"expected 2 to {self.vertices} vertices once pruned, got {n}")
        if (arch.ops[0], arch.ops[-1]) != ("input", "output"):
            raise InvalidArchitecture(f"the first and last vertex must be input and output, got {arch.ops}")
        for operation in arch.ops[1:-1]:
            if operation not in self.operations:
                raise InvalidArchitecture(str(UnknownName(f"operation of {self.name}", operation, self.operations)))
        if list(arch.edges) != sorted(set(arch.edges)):
            raise InvalidArchitecture(f"edges must be in order, each once, got {arch.edges}")
        if len(arch.edges) > self.max_edges:
            raise InvalidArchitecture(f"expected at most {self.max_edges} edges once pruned, got {len(arch.edges)}")
        sources, targets = {i for i, _ in arch.edges}, {j for _, j in arch.edges}
        if len(sources) < n - 1 or len(targets) < n - 1:
            loose = sorted({*range(n - 1)} - sources | {*range(1, n)} - targets)
            raise InvalidArchitecture(f"vertices {loose} are on no path from input to output: prune the module first")

    def encode(self, archs: Sequence[Architecture]) -> GraphBatch:
        for arch in archs:
            self.validate(arch)
        n, k = self.node_domain.shape
        index = {label: i for i, label in enumerate(self.labels)}
        filled = [[0, *map(index.__getitem__, a.ops[1:-1]), *[1] * (n - len(a.ops)), k - 1] for a in archs]
        labels = torch.tensor(filled, dtype=torch.long).view(-1, n)
        flat = [b * n * n + i * n + j for b, arch in enumerate(archs) for i, j in self._in_slots(arch)]
        edges = torch.zeros(len(archs) * n * n)
        edges[torch.tensor(flat, dtype=torch.long)] = 1.0
        mask = torch.ones(len(archs), n, dtype=torch.bool)
        return GraphBatch(nn.functional.one_hot(labels, k).float(), edges.view(-1, n, n), mask)

    def decode(self, batch: GraphBatch) -> list[Architecture | None]:
        """Pruned modules of raw ones: the most probable operation of each slot, edges above one half.

        Returns:
            One entry a graph, None where no path leads from input to output, too many edges are left after pruning,
            or an edge runs backwards.
        """
        ops = batch.ops.masked_fill(~self.node_domain.to(batch.ops.device), -torch.inf)
        edges = ((batch.edges > 0.5) & batch.node_mask[:, :, None] & batch.node_mask[:, None, :]).cpu()
        backward = edges.tril().flatten(1).any(1)
        return self._pruned(edges.triu(1), ops.argmax(-1)[:, 1:-1].cpu() - 1, backward)

    def _pruned(
        self, adjacency: Bool[Tensor, "b n n"], labels: Int[Tensor, "b n-2"], refused: Bool[Tensor, " b"]
    ) -> list[Architecture | None]:
        distinct, which = prune_raw(adjacency, labels, refused, len(self.operations), self.max_edges)
        archs = [module and self._architecture(*module) for module in distinct]
        return [archs[i] for i in which]

    def project(self, drawn: GraphBatch, probabilities: GraphBatch, *, generator: torch.Generator) -> GraphBatch:
        """Valid graphs, mostly as `encode` gives them; see `archgen.spaces.module_projection`. Labels stay."""
        edges = drawn.edges > 0.5
        valid = draw_valid_edges(edges, probabilities.edges, self.max_edges, generator=generator)
        return GraphBatch(drawn.ops, valid.to(drawn.edges.dtype), drawn.node_mask)

    # -- drawing and changing -----------------------------------------------------------------------------------

    def sample(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """Draw raw modules uniformly, keep the valid ones and prune them: `random_spec` of the published code."""
        archs: list[Architecture] = []
        while len(archs) < n:
            b = 2 * (n - len(archs)) + 16
            adjacency = torch.zeros(b, self.vertices, self.vertices, dtype=torch.bool)
            adjacency[:, self._rows, self._columns] = torch.from_numpy(rng.random((b, len(self.pairs))) < 0.5)
            labels = torch.from_numpy(rng.integers(len(self.operations), size=(b, self.vertices - 2)))
            drawn = self._pruned(adjacency, labels, torch.zeros(b, dtype=torch.bool))
            archs += [arch for arch in drawn if arch is not None]
        return archs[:n]

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """Flip each raw edge with chance 1 / vertices, change each operation with chance 1 / (vertices - 2).

        That is `mutate_spec` of the published code at rate 1, again until another valid module comes out. Slots
        that the module leaves empty get random operations first, since pruning forgot what they carried.
        """
        choices = self.to_choices(arch)
        while True:
            raw = dict(choices)
            for v in range(len(arch.ops) - 1, self.vertices - 1):
                raw[f"operation {v}"] = int(rng.integers(len(self.operations)))
            for i, j in self.pairs:
                raw[f"{i}->{j}"] ^= int(rng.random() < 1 / self.vertices)
            for v in range(1, self.vertices - 1):
                if len(self.operations) > 1 and rng.random() < 1 / (self.vertices - 2):
                    shift = 1 + int(rng.integers(len(self.operations) - 1))
                    raw[f"operation {v}"] = (raw[f"operation {v}"] + shift) % len(self.operations)
            try:
                mutant = self.from_choices(raw)
            except InvalidArchitecture:
                continue
            if mutant != arch:
                return mutant

    def neighbours(self, arch: Architecture) -> list[Architecture]:
        """Modules one edge or one operation away, and those with one vertex more, beside all others.

        One changed edge never brings a pruned vertex back, so a new vertex (of each operation) comes with the edges
        from the input and to the output.
        """
        near = super().neighbours(arch)
        last = len(arch.ops) - 1
        if last < self.vertices - 1 and len(arch.edges) + 2 <= self.max_edges:
            edges = sorted([*((i, j + (j == last)) for i, j in arch.edges), (0, last), (last, last + 1)])
            near += [
                Architecture(self.name, (*arch.ops[:-1], operation, "output"), tuple(edges))
                for operation in self.operations
            ]
        return near

    # -- text and function --------------------------------------------------------------------------------------

    def parse(self, text: str) -> Architecture:
        """Read a `ModelSpec` as JSON, `{"matrix": [[...]], "operations": [...]}`; prunes it.

        Raises:
            InvalidArchitecture: Not such an object, not strictly upper triangular, an unknown operation, or not
                valid once pruned.
        """
        operations, edges = parse_spec(text)
        for operation in operations:
            if operation not in self.operations:
                raise InvalidArchitecture(str(UnknownName(f"operation of {self.name}", operation, self.operations)))
        return self.from_graph(operations, edges)

    def format(self, arch: Architecture) -> str:
        return format_spec(arch)

    def simplify(self, arch: Architecture) -> Architecture:
        """The module itself: points are pruned."""
        return arch

    def computation(self, arch: Architecture) -> Architecture:
        """The module itself: every vertex computes."""
        return arch

    def canonical(self, arch: Architecture) -> str:
        """Equal exactly for isomorphic modules: the hash that the published table is keyed by.

        Where the channels of the output do not divide evenly, the order of the vertices decides which one gets the
        remainder, so isomorphic modules may differ by a channel; as published, that is not told apart. Beyond the
        published limits, where the hash was not shown to be exact, the canonical form of the graph is used.
        """
        if self.max_edges <= 9 and len(self.operations) <= 3:
            return module_hash((-1, *map(self.operations.index, arch.ops[1:-1]), -2), arch.edges)
        return canonical_form(arch.ops, dict.fromkeys(arch.edges))

    # -- networks -----------------------------------------------------------------------------------------------

    def build(self, arch: Architecture, **network: int) -> nn.Module:
        """The published network: a stem, `stacks` stacks of `cells` modules, the channels doubled at each stack.

        Args:
            arch: A point of this space.
            **network: `stacks`, `cells`, `channels` (of the first stack), `classes`, `in_channels`, `image_size` (of
                a square image, pixels).
        """
        self.validate(arch)
        arguments = self._network(network)
        arguments.pop("image_size")
        return ModuleNetwork(arch.ops[1:-1], arch.edges, **arguments)

    def count(self, arch: Architecture, **network: int) -> dict[str, float]:
        """Exact `params` (the published `trainable_parameters`), and `flops` and `macs` for one image.

        The published table has no FLOPs; the convention is that of `archgen.networks.count`.
        """
        self.validate(arch)
        return count_module_network(arch.ops[1:-1], arch.edges, **self._network(network))
