"""Trees of graph convolutions (the family of NAS-Bench-Graph, arXiv 2206.09166)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from archgen.errors import InvalidArchitecture, InvalidSpace, UnknownName
from archgen.graph import Architecture, GraphBatch
from archgen.networks.tree_network import GRAPH_OPERATIONS, TreeNetwork, count_tree_network
from archgen.spaces.base import FAMILIES, SearchSpace
from archgen.spaces.contraction import contract
from archgen.spaces.tree_forms import canonical_tree, distinct_trees, links

_TEXT = re.compile(r"\s*Arch\(\s*(\[[\d,\s]*\])\s*,\s*(\[[\w,'\"\s]*\])\s*\)\s*")


@FAMILIES.register("tree")
class TreeSpace(SearchSpace):
    """Trees of operations: every node reads one node before it, and what no node reads is joined to the output.

    A point is a tree in the published form (`archgen.spaces.tree_forms`): trees that compute the same are one point,
    and the one of identities alone, which computes nothing, is none. Any setting of the variables is taken to its
    point, as the published `valid_hash` does. Node `v` of a point sits in slot `v`, the input in slot 0 and the output
    in the last one.

    Args:
        name: Name of the space.
        nodes: Operations of an architecture, 2 to 5.
        operations: Their names; the published hash depends on the order.
        identity: The operation that passes on what it reads.
        network: Keyword arguments of `build` and their values, see there.
        summary: One line for the list of spaces.
        paper: arXiv id.

    Raises:
        InvalidSpace: A number of nodes outside its range, an operation named twice, or an identity that is none.
        UnknownName: An operation that `archgen.networks.tree_network` does not have.
    """

    family = "tree"
    free = False
    extremes = None
    _least_arguments = {"pre": 0, "post": 0, "edges": 0}  # noqa: RUF012

    def __init__(
        self,
        name: str,
        nodes: int,
        operations: Sequence[str],
        identity: str,
        network: Mapping[str, int],
        summary: str = "",
        paper: str = "",
    ) -> None:
        if not 2 <= nodes <= 5:
            raise InvalidSpace(f"[tree] nodes = {nodes}: expected 2 to 5, more can not be listed")
        if len(set(operations)) != len(operations) or not {identity} < set(operations):
            raise InvalidSpace(
                f"[[operations]]: expected two or more, each once, {identity!r} among them; got {list(operations)}"
            )
        for operation in operations:
            if operation not in GRAPH_OPERATIONS:
                raise UnknownName("graph operation", operation, GRAPH_OPERATIONS)
        self.name, self.summary, self.paper = name, summary, paper
        self.nodes, self.operations, self.identity = nodes, tuple(operations), identity
        self._skip = self.operations.index(identity)
        self.variables = {f"link {v}": tuple(map(str, range(v))) for v in range(2, nodes + 1)}
        self.variables |= {f"operation {v}": self.operations for v in range(1, nodes + 1)}
        self.labels = ("input", *operations, "output")
        self.computing_labels = tuple(op for op in operations if op != identity)
        self.depth, self.network_defaults = nodes, dict(network)
        n = nodes + 2
        self.node_domain = torch.zeros(n, len(self.labels), dtype=torch.bool)
        self.node_domain[0, 0] = self.node_domain[-1, -1] = True
        self.node_domain[1:-1, 1:-1] = True
        present = torch.ones(n, n, dtype=torch.bool).triu(1)
        present[0, -1] = False  # the raw input is joined to no output
        absent = torch.ones_like(present)
        absent[0, 1] = False  # the first node can read nothing else
        self.edge_domain = torch.stack([absent, present], -1)

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> TreeSpace:
        """Make the space of a parsed TOML file; raises `InvalidSpace` naming the table and key."""
        try:
            return cls(
                description["name"],
                int(description["tree"]["nodes"]),
                [entry["name"] for entry in description["operations"]],
                description["tree"]["identity"],
                {key: int(value) for key, value in description["network"].items()},
                description.get("summary", ""),
                description.get("paper", ""),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidSpace(
                "expected name, [tree] nodes and identity, [[operations]] name, and a [network] table of integers; "
                f"{error!r} is missing or of the wrong type"
            ) from None

    @cached_property
    def size(self) -> int:
        """Number of points: trees that compute different functions."""
        return sum(len(labels) for _, labels in distinct_trees(self.nodes, len(self.operations), self._skip))

    def enumerate(self) -> list[Architecture]:
        """Every point, by link, then operations."""
        found = distinct_trees(self.nodes, len(self.operations), self._skip)
        return [self._architecture(link, row) for link, rows in found for row in rows.tolist()]

    # -- encodings ------------------------------------------------------------------------------------------------

    def from_tree(self, link: Sequence[int], operations: Sequence[str]) -> Architecture:
        """The point of any tree, in any order.

        Args:
            link: What each node reads: 0 is the input, `i` the `i`-th node, which must come before.
            operations: Of each node.

        Raises:
            InvalidArchitecture: No such tree, an unknown operation, or identities alone.
        """
        if len(link) != self.nodes or len(operations) != self.nodes:
            raise InvalidArchitecture(
                f"expected {self.nodes} links and operations, got {len(link)} and {len(operations)}"
            )
        for i, source in enumerate(link):
            if not 0 <= source <= i:
                raise InvalidArchitecture(f"link {i + 1} must be from 0 to {i}, a node before it; got {source}")
        for operation in operations:
            if operation not in self.operations:
                raise InvalidArchitecture(str(UnknownName(f"operation of {self.name}", operation, self.operations)))
        if set(operations) == {self.identity}:
            raise InvalidArchitecture(f"operations are all '{self.identity}', which computes nothing; change one")
        labels = tuple(map(self.operations.index, operations))
        return self._architecture(*canonical_tree(tuple(link), labels, self._skip))

    def _architecture(self, link: Sequence[int], labels: Sequence[int]) -> Architecture:
        leaves = [(v, self.nodes + 1) for v in range(1, self.nodes + 1) if v not in link]
        edges = [(source, v) for v, source in enumerate(link, start=1)]
        ops = (self.operations[label] for label in labels)
        return Architecture(self.name, ("input", *ops, "output"), tuple(sorted(edges + leaves)))

    def link(self, arch: Architecture) -> tuple[int, ...]:
        """What each node of a point reads."""
        source = {j: i for i, j in arch.edges if j <= self.nodes}
        return tuple(source[v] for v in range(1, self.nodes + 1))

    def to_choices(self, arch: Architecture) -> dict[str, int]:
        choices = {f"link {v}": source for v, source in enumerate(self.link(arch), start=1) if v > 1}
        return choices | {f"operation {v}": self.operations.index(op) for v, op in enumerate(arch.ops[1:-1], start=1)}

    def from_choices(self, choices: Mapping[str, int]) -> Architecture:
        """The point of a setting; raises `InvalidArchitecture` for identities alone."""
        self._check_choices(choices)
        slots = range(1, self.nodes + 1)
        link = [0 if v == 1 else choices[f"link {v}"] for v in slots]
        return self.from_tree(link, [self.operations[choices[f"operation {v}"]] for v in slots])

    def validate(self, arch: Architecture) -> None:
        if arch.space != self.name:
            raise InvalidArchitecture(f"expected an architecture of '{self.name}', got one of '{arch.space}'")
        point = self._tree(arch.ops, arch.edges)
        if isinstance(point, InvalidArchitecture):
            raise point
        if point != arch:
            raise InvalidArchitecture(f"expected the published form of this tree, {self.format(point)}; got {arch}")

    def _tree(self, ops: Sequence[str], edges: Sequence[tuple[int, int]]) -> Architecture | InvalidArchitecture:
        """The point of a graph, whatever its edges to the output; or why it has none."""
        if len(ops) != self.nodes + 2 or (ops[0], ops[-1]) != ("input", "output"):
            return InvalidArchitecture(f"expected input, {self.nodes} operations and output, got {tuple(ops)}")
        sources = [[i for i, j in edges if j == v] for v in range(1, self.nodes + 1)]
        if any(len(found) != 1 for found in sources):
            return InvalidArchitecture(f"every node must read exactly one other, got {tuple(edges)}")
        try:
            return self.from_tree([found[0] for found in sources], ops[1:-1])
        except InvalidArchitecture as error:
            return error

    def _point(self, ops: tuple[str, ...], edges: tuple[tuple[int, int], ...]) -> Architecture | None:
        point = self._tree(ops, edges)
        return point if isinstance(point, Architecture) else None

    def _mended(self, drawn: GraphBatch, probabilities: GraphBatch, generator: torch.Generator) -> GraphBatch:
        """One source of each node, drawn with the odds of its edges: edges that are drawn on their own, given that."""
        edges = drawn.edges.clone()
        odds = probabilities.edges.double() / (1 - probabilities.edges.double()).clamp(min=1e-9) + 1e-30
        for v in range(1, self.nodes + 1):
            source = torch.multinomial(odds[:, :v, v], 1, generator=generator)
            edges[:, :, v] = nn.functional.one_hot(source[:, 0], edges.shape[1]).to(edges.dtype)
        return GraphBatch(drawn.ops, edges, drawn.node_mask)

    # -- text and function --------------------------------------------------------------------------------------

    def parse(self, text: str) -> Architecture:
        """Read `Arch([0, 1, 1, 2], ['gcn', 'cheb', 'gin', 'fc'])`, in any order of the nodes, or the published hash.

        Raises:
            InvalidArchitecture: Neither of them, or no tree of this space.
        """
        if text.strip().isdecimal() and len(text) < 40:
            return self._of_hash(int(text))
        parts = match.groups() if (match := _TEXT.fullmatch(text)) else ()
        try:
            link, operations = (json.loads(part.replace("'", '"')) for part in parts)
        except ValueError:  # no match, or a comma too many
            raise InvalidArchitecture(f"expected {self.example()} or the published hash, got {text[:80]!r}") from None
        if not all(isinstance(operation, str) for operation in operations):
            raise InvalidArchitecture(f"operations must be texts, such as in {self.example()}; got {text[:80]!r}")
        return self.from_tree(link, operations)

    def example(self) -> str:
        """A text of the space, for messages."""
        return _written([*range(self.nodes)], [self.computing_labels[0]] * self.nodes)

    def format(self, arch: Architecture) -> str:
        return _written(list(self.link(arch)), list(arch.ops[1:-1]))

    def hash(self, arch: Architecture) -> int:
        """The published hash: the position of the link and those of the operations as digits, one base above."""
        number = links(self.nodes).index(self.link(arch))
        for op in arch.ops[1:-1]:
            number = number * (len(self.operations) + 1) + self.operations.index(op)
        return number

    def _of_hash(self, number: int) -> Architecture:
        base, known, rest = len(self.operations) + 1, links(self.nodes), number
        labels: list[int] = []
        for _ in range(self.nodes):
            rest, label = divmod(rest, base)
            labels.insert(0, label)
        if rest >= len(known) or max(labels) >= len(self.operations):
            raise InvalidArchitecture(f"{number} is not the hash of an architecture of {self.name}")
        return self.from_tree(known[rest], [self.operations[label] for label in labels])

    def simplify(self, arch: Architecture) -> Architecture:
        """The architecture itself: points are simple."""
        return arch

    def computation(self, arch: Architecture) -> Architecture:
        """The operations without the identities; the output may read a node twice, as it is joined twice."""
        reads: list[list[int]] = [[] for _ in arch.ops]
        for i, j in arch.edges:
            reads[j].append(i)
        kept, edges = contract(reads, [v for v, op in enumerate(arch.ops) if op == self.identity])
        return Architecture(self.name, tuple(arch.ops[v] for v in kept), tuple(sorted(edges.elements())))

    def canonical(self, arch: Architecture) -> str:
        """The text of the architecture: different points compute different functions."""
        return self.format(arch)

    # -- networks -----------------------------------------------------------------------------------------------

    def _network(self, network: Mapping[str, int]) -> dict[str, int]:
        arguments = super()._network(network)
        if arguments["channels"] % TreeNetwork.HEADS:
            raise InvalidSpace(f"channels must be a multiple of {TreeNetwork.HEADS}, got {arguments['channels']}")
        return arguments

    def build(self, arch: Architecture, **network: int) -> nn.Module:
        """The published network for node classification, of PyTorch Geometric's layers.

        Args:
            arch: A point of this space.
            **network: `features` (of a node), `channels` (a multiple of 4), `classes`, `pre` and `post` (linear layers
                before and after); `nodes` and `edges` of the graph matter to `count` alone.
        """
        self.validate(arch)
        arguments = self._network(network)
        del arguments["nodes"], arguments["edges"]
        return TreeNetwork(self.link(arch), arch.ops[1:-1], identity=self.identity, **arguments)

    def count(self, arch: Architecture, **network: int) -> dict[str, float]:
        """Exact `params`, and `flops` for one graph (see `archgen.networks.tree_network`)."""
        self.validate(arch)
        return count_tree_network(self.link(arch), arch.ops[1:-1], identity=self.identity, **self._network(network))

    def example_input(self, batch: int = 1, **network: int) -> Tensor:
        """Features of `batch` nodes without edges, `b x features`."""
        return torch.zeros(batch, {**self.network_defaults, **network}["features"])


def _written(link: list[int], operations: list[str]) -> str:
    return f"Arch({link}, {operations})"
