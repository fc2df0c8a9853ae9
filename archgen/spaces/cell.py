"""Dense cells with one operation on each edge (the family of NAS-Bench-201, arXiv 2001.00326).

A cell has `M` nodes; each pair `s < t` carries an operation. As a labelled DAG every *operation* is a node:
`input`, then the edges in the order of the published string (by target, then source), then `output`. The graph is
the same for all cells of the space, only the labels are free.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from archgen.errors import InvalidArchitecture, InvalidSpace, UnknownName
from archgen.graph import Architecture, canonical_form, live_nodes
from archgen.networks.cell import CellNetwork
from archgen.networks.count import count_network
from archgen.networks.operations import OPERATIONS
from archgen.spaces.base import FAMILIES, SearchSpace
from archgen.spaces.custom import custom_operations, try_operation
from archgen.spaces.flow import ABSENT, PASS, Flow

ROLES = ("zero", "identity", "linear", "weighted")
_ENTRY = re.compile(r"([A-Za-z0-9_]+)~(0|[1-9][0-9]*)")


@FAMILIES.register("cell")
class CellSpace(SearchSpace):
    """Cells with an operation on each of the `M (M - 1) / 2` edges, stacked to the published network.

    Args:
        name: Name of the space.
        nodes: Number of nodes `M` of a cell, at least 2.
        roles: Role of each operation, by its name: `zero` (cuts the edge), `identity`, `linear` (a fixed linear
            map) or `weighted` (has weights of its own).
        network: Published keyword arguments of `build`: `cells`, `channels`, `classes`, `in_channels`, `image_size`.
        order: Operation of every edge of the smallest and of the largest cell, if the space has an order.
        summary: One line for the list of spaces.
        paper: arXiv id.

    Raises:
        InvalidSpace: Fewer than two nodes, no operation, an unknown role, or no zero operation.
        UnknownName: An operation that `archgen.networks.operations` does not have.
    """

    family = "cell"

    def __init__(
        self,
        name: str,
        nodes: int,
        roles: Mapping[str, str],
        network: Mapping[str, int],
        order: tuple[str, str] | None = None,
        summary: str = "",
        paper: str = "",
    ) -> None:
        if nodes < 2:
            raise InvalidSpace(f"[cell] nodes = {nodes}: a cell needs at least 2 nodes")
        for operation, role in roles.items():
            if operation not in OPERATIONS:
                raise UnknownName("operation", operation, OPERATIONS)
            if role not in ROLES:
                raise InvalidSpace(f"[[operations]] {operation}: role {role!r} is not one of {', '.join(ROLES)}")
        zeros = [operation for operation, role in roles.items() if role == "zero"]
        if len(zeros) != 1:
            raise InvalidSpace(f"[[operations]]: expected one operation with role 'zero', got {len(zeros)}")
        self.name, self.summary, self.paper = name, summary, paper
        self.nodes, self.roles, self.zero = nodes, dict(roles), zeros[0]
        self.pairs = [(s, t) for t in range(1, nodes) for s in range(t)]
        self.variables = {f"{s}->{t}": tuple(roles) for s, t in self.pairs}
        self.variable_nodes = {variable: i for i, variable in enumerate(self.variables, start=1)}
        self.labels = ("input", *roles, "output")
        self.computing_labels = tuple(op for op, role in roles.items() if role in ("linear", "weighted"))
        self.depth = nodes - 1
        self.network_defaults = dict(network)
        self._edges = self._dag()
        for operation in order or ():
            if operation not in roles:
                raise UnknownName("operation in [order]", operation, roles)
        whole = [self.from_operations([operation] * len(self.pairs)) for operation in order or ()]
        self.extremes = (whole[0], whole[1]) if order else None
        n, k = len(self.pairs) + 2, len(self.labels)
        self.node_domain = torch.zeros(n, k, dtype=torch.bool)
        self.node_domain[0, 0] = self.node_domain[-1, -1] = True
        self.node_domain[1:-1, 1:-1] = True
        present = torch.zeros(n, n, dtype=torch.bool)
        present[tuple(torch.tensor(self._edges).T)] = True
        self.edge_domain = torch.stack([~present, present], -1)

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> CellSpace:
        """Make the space of a parsed TOML file; raises `InvalidSpace` naming the table and key.

        An operation of your own has an `import` (`archgen.spaces.custom`): a factory `channels -> module` that keeps
        the shape.
        """
        try:
            roles = {entry["name"]: entry["role"] for entry in description["operations"]}
            if len(roles) != len(description["operations"]):
                raise InvalidSpace("[[operations]]: an operation is named twice")
            network = {key: int(value) for key, value in description["network"].items()}
            nodes, order = int(description["cell"]["nodes"]), description.get("order")
            _register_own(description, network.get("channels", 8))
            return cls(
                description["name"],
                nodes,
                roles,
                network,
                order and (order["smallest"], order["largest"]),
                description.get("summary", ""),
                description.get("paper", ""),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidSpace(
                "expected name, [cell] nodes, [[operations]] name and role, and a [network] table of integers; "
                f"{error!r} is missing or of the wrong type"
            ) from None

    def _dag(self) -> tuple[tuple[int, int], ...]:
        index = {pair: i for i, pair in enumerate(self.pairs, start=1)}
        last = len(self.pairs) + 1
        edges = []
        for (s, t), i in index.items():
            edges += [(0, i)] if s == 0 else [(index[(u, s)], i) for u in range(s)]
            if t == self.nodes - 1:
                edges.append((i, last))
        return tuple(sorted(edges))

    # -- encodings ----------------------------------------------------------------------------------------------

    def from_operations(self, operations: list[str]) -> Architecture:
        """The architecture with the given operation on each edge, in the order of `variables`."""
        return Architecture(self.name, ("input", *operations, "output"), self._edges)

    def to_choices(self, arch: Architecture) -> dict[str, int]:
        return {name: self.variables[name].index(op) for name, op in zip(self.variables, arch.ops[1:-1], strict=True)}

    def from_choices(self, choices: Mapping[str, int]) -> Architecture:
        unknown = choices.keys() ^ self.variables.keys()
        if unknown:
            raise InvalidArchitecture(f"expected a choice for each of {', '.join(self.variables)}; check {unknown}")
        if not all(0 <= index < len(self.roles) for index in choices.values()):
            raise InvalidArchitecture(f"every choice must be from 0 to {len(self.roles) - 1}, got {dict(choices)}")
        return self.from_operations([values[choices[name]] for name, values in self.variables.items()])

    def validate(self, arch: Architecture) -> None:
        if arch.space != self.name:
            raise InvalidArchitecture(f"expected an architecture of '{self.name}', got one of '{arch.space}'")
        if len(arch.ops) != len(self.pairs) + 2:
            raise InvalidArchitecture(
                f"expected {len(self.pairs) + 2} nodes (input, {len(self.pairs)} operations, output), "
                f"got {len(arch.ops)}"
            )
        if (arch.ops[0], arch.ops[-1]) != ("input", "output"):
            raise InvalidArchitecture(f"the first and last node must be input and output, got {arch.ops}")
        for operation in arch.ops[1:-1]:
            self._check_operation(operation)
        if tuple(sorted(arch.edges)) != self._edges:
            raise InvalidArchitecture(f"the graph of every {self.name} cell is {self._edges}, got {arch.edges}")

    def _check_operation(self, operation: str) -> None:
        if operation not in self.roles:
            raise InvalidArchitecture(str(UnknownName(f"operation of {self.name}", operation, self.roles)))

    def parse(self, text: str) -> Architecture:
        """Read the published form, `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|` for four nodes.

        Raises:
            InvalidArchitecture: Wrong number of nodes or inputs, an unknown operation, or a wrong source node.
        """
        groups = text.strip().split("+")
        if len(groups) != self.nodes - 1:
            raise InvalidArchitecture(
                f"expected {self.nodes - 1} groups joined by '+', such as '{self.example()}', "
                f"got {len(groups)} in {text[:120]!r}"
            )
        operations = []
        for target, group in enumerate(groups, start=1):
            entries = group[1:-1].split("|")
            if not (group.startswith("|") and group.endswith("|")) or len(entries) != target:
                raise InvalidArchitecture(
                    f"node {target} has {target} inputs, '|op~0|...|op~{target - 1}|'; got '{group[:120]}'"
                )
            for source, entry in enumerate(entries):
                match = _ENTRY.fullmatch(entry)
                if match is None or int(match[2]) != source:
                    raise InvalidArchitecture(
                        f"input {source} of node {target} must read 'op~{source}', got '{entry[:60]}'"
                    )
                self._check_operation(match[1])
                operations.append(match[1])
        return self.from_operations(operations)

    def format(self, arch: Architecture) -> str:
        operations = dict(zip(self.pairs, arch.ops[1:-1], strict=True))
        return "+".join(
            "|" + "|".join(f"{operations[(s, t)]}~{s}" for s in range(t)) + "|" for t in range(1, self.nodes)
        )

    def example(self) -> str:
        """A string of the space, for messages."""
        return self.format(self.from_operations([list(self.roles)[-1]] * len(self.pairs)))

    # -- what a cell computes -------------------------------------------------------------------------------------

    def live_edges(self, arch: Architecture) -> dict[tuple[int, int], str]:
        """Operation of each cell edge that carries something from the input to the output."""
        operations = {pair: op for pair, op in zip(self.pairs, arch.ops[1:-1], strict=True) if self.roles[op] != "zero"}
        live = live_nodes(self.nodes, list(operations), 0, self.nodes - 1)
        return {(s, t): op for (s, t), op in operations.items() if s in live and t in live}

    def simplify(self, arch: Architecture) -> Architecture:
        live = self.live_edges(arch)
        return self.from_operations([live.get(pair, self.zero) for pair in self.pairs])

    def computation(self, arch: Architecture) -> Architecture:
        """Linear and weighted operations with `input` and `output`; an edge listed `m` times carries weight `m`.

        A cell that cuts its input off has no edges and only the two end nodes.
        """
        live = self.live_edges(arch)
        ops, edges = ["input"], []
        sources: list[Counter[int]] = [Counter({0: 1})]  # of each cell node: which operations it sums, how often
        for target in range(1, self.nodes):
            total: Counter[int] = Counter()
            for source in range(target):
                op = live.get((source, target))
                if op is None:
                    continue
                if self.roles[op] == "identity":
                    total.update(sources[source])
                else:
                    edges += [(i, len(ops)) for i in sources[source].elements()]
                    total[len(ops)] += 1
                    ops.append(op)
            sources.append(total)
        edges += [(i, len(ops)) for i in sources[-1].elements()]
        return Architecture(self.name, (*ops, "output"), tuple(sorted(edges)))

    # -- many at once ---------------------------------------------------------------------------------------------

    def choices(self, archs: Sequence[Architecture]) -> NDArray[np.int64]:
        at = {op: i for i, op in enumerate(self.roles)}
        rows = [[at[op] for op in arch.ops[1:-1]] for arch in archs]
        return np.array(rows, dtype=np.int64).reshape(len(archs), len(self.pairs))

    def simple_choices(self, archs: Sequence[Architecture]) -> NDArray[np.int64]:
        dead = self.flow(archs).labels[:, 1:-1] == ABSENT
        return np.where(dead, list(self.roles).index(self.zero), self.choices(archs))

    def without_unused(self, archs: Sequence[Architecture]) -> list[Architecture]:
        used = self._as_written(archs).used()[:, 1:-1].tolist()
        return [
            self.from_operations([op if there else self.zero for op, there in zip(arch.ops[1:-1], row, strict=True)])
            for arch, row in zip(archs, used, strict=True)
        ]

    def flow(self, archs: Sequence[Architecture]) -> Flow:
        return self._as_written(archs).pruned()

    def _as_written(self, archs: Sequence[Architecture]) -> Flow:
        """The flow with what is dead."""
        place = {op: i for i, op in enumerate(self.computing_labels)}
        of_op = [place.get(op, ABSENT if role == "zero" else PASS) for op, role in self.roles.items()]
        labels = np.full((len(archs), len(self.pairs) + 2), PASS)
        labels[:, 1:-1] = np.array(of_op)[self.choices(archs)]
        reads = np.zeros((1, labels.shape[1], labels.shape[1]), dtype=np.int64)
        for i, j in self._edges:
            reads[0, i, j] = 1
        return Flow(labels, reads)

    def canonical(self, arch: Architecture) -> str:
        """Equal exactly when two cells compute the same function for every value of the weights, up to renaming them.

        The value of a cell node is a formal sum of atoms `A^k x`: `x` is the input or the result of a weighted
        operation, `A` the linear operation (so pooling a sum is the sum of the poolings). Weighted operations are
        the nodes of a graph, the sums that they read label its edges, and isomorphic graphs get one name. Edges
        that no path from input to output uses are dropped: the networks here skip an operation that nothing feeds
        (the published code runs it on zeros, which leaves a batch-norm offset).
        """
        live = self.live_edges(arch)
        labels: list[str] = ["input"]
        edges: dict[tuple[int, int], tuple[tuple[tuple[str, ...], int], ...]] = {}

        def read(value: Counter[tuple[int, tuple[str, ...]]], into: int) -> None:
            for i in {atom for atom, _ in value}:
                edges[(i, into)] = tuple(sorted((word, times) for (atom, word), times in value.items() if atom == i))

        values: list[Counter[tuple[int, tuple[str, ...]]]] = [Counter({(0, ()): 1})]
        for target in range(1, self.nodes):
            total: Counter[tuple[int, tuple[str, ...]]] = Counter()
            for source in range(target):
                op = live.get((source, target))
                if op is None:
                    continue
                if self.roles[op] == "identity":
                    total.update(values[source])
                elif self.roles[op] == "linear":
                    total.update({(atom, (*word, op)): times for (atom, word), times in values[source].items()})
                else:
                    labels.append(op)
                    read(values[source], len(labels) - 1)
                    total[(len(labels) - 1, ())] += 1
            values.append(total)
        labels.append("output")
        read(values[-1], len(labels) - 1)
        return canonical_form(labels, edges)

    # -- networks -------------------------------------------------------------------------------------------------

    def build(self, arch: Architecture, **network: int) -> nn.Module:
        """The published network: stem, 3 stages of `cells` cells with `channels` (x1, x2, x4), residual reductions.

        Every edge that is not `none` is built, dead ones too, as published; build `simplify(arch)` to leave them out.

        Args:
            arch: A point of this space.
            **network: `cells` (N), `channels` (C), `classes`, `in_channels`, `image_size` (of a square image, pixels).
        """
        self.validate(arch)
        arguments = self._network(network)
        arguments.pop("image_size")
        operations = dict(zip(self.pairs, arch.ops[1:-1], strict=True))
        edges = {pair: op for pair, op in operations.items() if self.roles[op] != "zero"}
        return CellNetwork(edges, nodes=self.nodes, **arguments)

    def count(self, arch: Architecture, **network: int) -> dict[str, float]:
        """Exact counts, as in NAS-Bench-Suite-Zero; additive over the edges, so each operation is counted once.

        Returns:
            `params` (number) and `flops` (number for one image, see `archgen.networks.count`).
        """
        self.validate(arch)
        per_operation = _operation_costs(self, tuple(sorted(self._network(network).items())))
        counts = Counter(arch.ops[1:-1])
        total = dict(per_operation[self.zero])
        for op, times in counts.items():
            for metric in total:
                total[metric] += times * (per_operation[op][metric] - per_operation[self.zero][metric])
        return total


def _register_own(description: Mapping[str, Any], channels: int) -> None:
    """Add the operations of the file that have `import`, tried on `channels` channels, to `OPERATIONS`."""
    entries = [(f"[[operations]] '{entry['name']}'", entry) for entry in description["operations"]]
    own = custom_operations(entries, Path(description.get("folder", ".")), OPERATIONS)
    for name, make in own.items():
        try_operation(make, (channels,), channels, (1, channels, 8, 8), f"[[operations]] '{name}'")
    for name, make in own.items():
        if name not in OPERATIONS:
            OPERATIONS.register(name)(make)


@lru_cache(maxsize=32)
def _operation_costs(space: CellSpace, network: tuple[tuple[str, int], ...]) -> dict[str, dict[str, float]]:
    """Counts of the network whose cells have `op` on their first edge and nothing elsewhere, for each `op`."""
    arguments = dict(network)
    size, channels = arguments["image_size"], arguments["in_channels"]
    rest = [space.zero] * (len(space.pairs) - 1)
    costs = {}
    for op in space.roles:
        with torch.device("meta"):
            module = space.build(space.from_operations([op, *rest]), **arguments)
        counts = count_network(module, (channels, size, size))
        costs[op] = {metric: counts[metric] for metric in ("params", "flops")}
    assert all(math.isfinite(v) for cost in costs.values() for v in cost.values())
    return costs
