"""Search spaces: the only holders of encodings."""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor, nn

from archgen.errors import InvalidArchitecture, InvalidSpace, UnknownName
from archgen.graph import Architecture, GraphBatch
from archgen.registry import Registry
from archgen.spaces.flow import Flow, flow_of
from archgen.spaces.sized import MARK

FAMILIES: Registry[type[SearchSpace]] = Registry("family of search spaces")

MOST, MOST_CELLS = 1_000_000, 200
"""Largest argument of a network, and most cells of a stage, which are built one by one."""


class SearchSpace(ABC):
    """A set of architectures: how to draw, change, name, encode and build them.

    A space is described by *variables*, each with a finite list of values; `to_choices` and `from_choices` map an
    architecture to the index chosen for each variable and back. Sampling, mutation, crossover and neighbourhoods
    follow from that and are written once, here.
    """

    family: ClassVar[str]

    name: str
    variables: dict[str, tuple[str, ...]]
    """Name of each free variable and the values it can take."""
    labels: tuple[str, ...]
    """Vocabulary of node labels, `k` of them."""
    node_domain: Bool[Tensor, "n k"]
    """Which labels each node may carry; every row has at least one."""
    edge_domain: Bool[Tensor, "n n 2"]
    """Which states (absent, present) each edge may take; every entry has at least one."""
    computing_labels: tuple[str, ...]
    """Node labels that `computation` keeps, besides `input` and `output`."""
    depth: int
    """Most operations on one path from input to output."""
    extremes: tuple[Architecture, Architecture] | None
    """The smallest and the largest architecture where the space has an order, else None."""
    network_defaults: dict[str, int]
    """Keyword arguments of `build` and their published values."""
    free: bool = True
    """Whether every combination of states that the domains allow is a point of its own; else see `project`."""
    _least_arguments: Mapping[str, int] = MappingProxyType({})
    """Least value of an argument of the network, where that is not 1."""
    variable_nodes: Mapping[str, int] = MappingProxyType({})
    """Position of the node whose label is the value of a variable, for those variables that are just that."""
    summary: str
    paper: str

    @property
    def whole(self) -> SearchSpace:
        """The space that this one is a part of; itself for all but parts."""
        return self

    @property
    def origin(self) -> str:
        """Name of the space whose graphs these are: generators fit all sizes of a space (`archgen.spaces.sized`)."""
        return self.name.partition(MARK)[0]

    @property
    def size(self) -> int:
        """Number of points (settings of the variables)."""
        return math.prod(len(values) for values in self.variables.values())

    # -- to be given by a family ------------------------------------------------------------------------------

    @abstractmethod
    def to_choices(self, arch: Architecture) -> dict[str, int]:
        """Index chosen for each variable."""

    @abstractmethod
    def from_choices(self, choices: Mapping[str, int]) -> Architecture:
        """The architecture of one index a variable; raises `InvalidArchitecture`.

        Several settings may give one architecture (the kernel of a block that a shallower network leaves out);
        `to_choices` gives one of them, always the same.
        """

    @abstractmethod
    def validate(self, arch: Architecture) -> None:
        """Raise `InvalidArchitecture`, saying what is wrong, unless `arch` is a point of this space."""

    @abstractmethod
    def parse(self, text: str) -> Architecture:
        """Read the space's published string form; raises `InvalidArchitecture`."""

    @abstractmethod
    def format(self, arch: Architecture) -> str:
        """Write the space's published string form."""

    @abstractmethod
    def simplify(self, arch: Architecture) -> Architecture:
        """The same function with everything cut that the output does not depend on; still a point of the space."""

    @abstractmethod
    def computation(self, arch: Architecture) -> Architecture:
        """The DAG of the operations that matter: identities contracted, dead ones gone; not a point of the space."""

    @abstractmethod
    def canonical(self, arch: Architecture) -> str:
        """A text that is equal for architectures that compute the same function."""

    @abstractmethod
    def build(self, arch: Architecture, **network: int) -> nn.Module:
        """The network of an architecture; keyword arguments as in `network_defaults`."""

    @abstractmethod
    def count(self, arch: Architecture, **network: int) -> dict[str, float]:
        """Exact `params` and `flops` (published convention) of the network that `build` would give."""

    # -- the same for all, unless a family knows better ---------------------------------------------------------

    def _check_choices(self, choices: Mapping[str, int]) -> None:
        """Raise `InvalidArchitecture` unless there is one index in range for each variable, and no other."""
        unknown = choices.keys() ^ self.variables.keys()
        if unknown:
            raise InvalidArchitecture(f"expected a choice for each variable of {self.name}; check {sorted(unknown)}")
        for name, values in self.variables.items():
            if not 0 <= choices[name] < len(values):
                raise InvalidArchitecture(f"{name} must be from 0 to {len(values) - 1}, got {choices[name]}")

    def _network(self, network: Mapping[str, int]) -> dict[str, int]:
        """All arguments of the network; raises `UnknownName`, or `InvalidSpace` for one out of its range."""
        for name, value in network.items():
            if name not in self.network_defaults:
                raise UnknownName("argument of the network", name, self.network_defaults)
            least = self._least_arguments.get(name, 1)
            if value < least:
                raise InvalidSpace(f"argument {name} of the network must be at least {least}, got {value}")
            most = MOST_CELLS if name == "cells" else MOST
            if value > most:
                raise InvalidSpace(f"argument {name} of the network must be at most {most}, got {value}")
        return {**self.network_defaults, **network}

    def matters(self, arch: Architecture, name: str, other: int) -> bool:
        """Whether another value of a variable gives another architecture, or none.

        Args:
            arch: A point of this space.
            name: The variable.
            other: Position of a value that is not the one of `to_choices`.
        """
        return self._changed(self.to_choices(arch), name, other) != arch

    def size_within(self, allowed: Mapping[str, Sequence[int]]) -> int | None:
        """Number of points whose every choice is one of the allowed positions; None if only listing them can tell.

        Args:
            allowed: For each variable the positions of its values that are left.
        """
        return math.prod(map(len, allowed.values())) if self.free else None

    def sample(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """Draw `n` architectures, each variable uniformly and independently, with repetition; drops invalid draws."""
        archs: list[Architecture] = []
        while len(archs) < n:
            drawn = {name: rng.integers(len(values), size=n) for name, values in self.variables.items()}
            for i in range(n):
                with contextlib.suppress(InvalidArchitecture):
                    archs.append(self.from_choices({name: int(index[i]) for name, index in drawn.items()}))
        return archs[:n]

    def project(self, drawn: GraphBatch, probabilities: GraphBatch, *, generator: torch.Generator) -> GraphBatch:
        """Graphs that decode: those of `drawn` that do, and near ones in place of the others.

        A family may also replace a graph that decodes, but that `encode` would give in another form; graphs as `encode`
        gives them stay. A generator draws each label and edge on its own, given probabilities of their states. Where
        the space has constraints among them, a family replaces a draw that breaks one by a draw from the same
        probabilities given that all constraints hold.

        Args:
            drawn: `b` clean graphs, one-hot, inside the domains.
            probabilities: Of the labels of each node (`b n k`) and of the presence of each edge (`b n n`), from
                which `drawn` was drawn.
            generator: Source of randomness.
        """
        return drawn if self.free else self._redrawn(drawn, probabilities, generator)

    def _redrawn(self, drawn: GraphBatch, probabilities: GraphBatch, generator: torch.Generator) -> GraphBatch:
        """Draws again, up to 32 times, what does not decode; what is left becomes a random architecture."""
        ops, edges = drawn.ops.clone(), drawn.edges.clone()
        bad = [i for i, arch in enumerate(self.decode(drawn)) if arch is None]
        for _ in range(32):
            if not bad:
                break
            p = probabilities[torch.tensor(bad)]
            labels = torch.multinomial(p.ops.flatten(0, 1), 1, generator=generator).view(p.ops.shape[:2])
            ops[bad] = nn.functional.one_hot(labels, ops.shape[-1]).to(ops.dtype)
            edges[bad] = (torch.rand(p.edges.shape, generator=generator) < p.edges).to(edges.dtype)
            fresh = self._mended(GraphBatch(ops[bad], edges[bad], drawn.node_mask[bad]), p, generator)
            ops[bad], edges[bad] = fresh.ops, fresh.edges
            again = self.decode(fresh)
            bad = [i for i, arch in zip(bad, again, strict=True) if arch is None]
        if bad:
            seed = int(torch.randint(2**31, (1,), generator=generator))
            random = self.encode(self.sample(len(bad), np.random.default_rng(seed)))
            ops[bad], edges[bad] = random.ops, random.edges
        return GraphBatch(ops, edges, drawn.node_mask)

    def _mended(self, drawn: GraphBatch, probabilities: GraphBatch, generator: torch.Generator) -> GraphBatch:
        """What `_redrawn` makes of new draws before it looks whether they decode."""
        return drawn

    def example_input(self, batch: int = 1, **network: int) -> Tensor:
        """Zeros of the shape and type that the network of `build` reads, here images `b c h w`."""
        arguments = {**self.network_defaults, **network}
        size = arguments["image_size"]
        return torch.zeros(batch, arguments["in_channels"], size, size)

    def workload(self, arch: Architecture) -> NDArray[np.float64] | None:
        """What the architecture asks of a device for one input: the `w` numbers that `WORKLOAD` names, or None.

        `WORKLOAD` is that of `archgen.networks.workload`: layers, multiply-adds, parameters and elements, plain counts.

        A family whose networks are sums of layers of many shapes gives it; where every cell repeats the same shapes,
        counting operations says as much.
        """
        return None

    # -- many at once: a family that knows how is faster than these loops -------------------------------------------

    def simplified(self, archs: Sequence[Architecture]) -> list[Architecture]:
        """`simplify` of each architecture."""
        return [self.simplify(arch) for arch in archs]

    def without_unused(self, archs: Sequence[Architecture]) -> list[Architecture]:
        """Each of `b` architectures without the operations that the output is not reached from.

        Unlike `simplified` it keeps those that have only zeros to work on, as a runtime does that does not look at
        values; the two are the same in a family whose operations give no zeros.
        """
        return self.simplified(archs)

    def choices(self, archs: Sequence[Architecture]) -> NDArray[np.int64]:
        """`to_choices` of `b` architectures as an array `b x v`, in the order of the `v` variables."""
        rows = [[chosen[name] for name in self.variables] for chosen in map(self.to_choices, archs)]
        return np.array(rows, dtype=np.int64).reshape(len(archs), len(self.variables))

    def simple_choices(self, archs: Sequence[Architecture]) -> NDArray[np.int64]:
        """`choices` of the simplified architectures."""
        return self.choices(self.simplified(archs))

    def flow(self, archs: Sequence[Architecture]) -> Flow:
        """What `b` architectures compute, as arrays; contracting what passes gives the DAGs of `computation`."""
        return flow_of([self.computation(arch) for arch in archs], self.computing_labels)

    def workloads(self, archs: Sequence[Architecture]) -> NDArray[np.float64] | None:
        """`workload` of `b` architectures, `b x w`, or None."""
        found = [self.workload(arch) for arch in archs]
        return None if any(w is None for w in found) else np.array(found, dtype=float).reshape(len(archs), -1)

    def enumerate(self) -> list[Architecture]:
        """Every architecture once, in lexicographic order of the variables.

        Raises:
            InvalidSpace: The space has more than a million points.
        """
        if self.size > 1_000_000:
            raise InvalidSpace(f"{self.name} has {self.size:.3g} points, too many to list; sample it instead")
        shape = [len(values) for values in self.variables.values()]
        archs: dict[Architecture, None] = {}
        for index in np.ndindex(*shape):
            with contextlib.suppress(InvalidArchitecture):
                archs[self.from_choices(dict(zip(self.variables, map(int, index), strict=True)))] = None
        return list(archs)

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """Give one variable, drawn uniformly, another value, drawn uniformly; again if nothing valid changes."""
        choices = self.to_choices(arch)
        open_ = [name for name, values in self.variables.items() if len(values) > 1]
        while True:
            name = open_[int(rng.integers(len(open_)))]
            shift = 1 + int(rng.integers(len(self.variables[name]) - 1))
            mutant = self._changed(choices, name, (choices[name] + shift) % len(self.variables[name]))
            if mutant not in (None, arch):
                return mutant

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        """Take each variable from one of the two parents, with equal chance; `a` if 100 such children are invalid."""
        first, second = self.to_choices(a), self.to_choices(b)
        for _ in range(100):
            with contextlib.suppress(InvalidArchitecture):
                return self.from_choices(
                    {name: (first if rng.random() < 0.5 else second)[name] for name in self.variables}
                )
        return a

    def neighbours(self, arch: Architecture) -> list[Architecture]:
        """All other architectures that another value of exactly one variable gives."""
        choices = self.to_choices(arch)
        near = [
            self._changed(choices, name, value)
            for name, values in self.variables.items()
            for value in range(len(values))
            if value != choices[name]
        ]
        return list(dict.fromkeys(a for a in near if a not in (None, arch)))

    def _changed(self, choices: Mapping[str, int], name: str, value: int) -> Architecture | None:
        try:
            return self.from_choices({**choices, name: value})
        except InvalidArchitecture:
            return None

    def encode(self, archs: Sequence[Architecture]) -> GraphBatch:
        """One-hot encode architectures.

        Returns:
            A batch of `b = len(archs)` graphs with `n` nodes and `k` labels of this space.

        Raises:
            InvalidArchitecture: One of them is not a point of this space.
        """
        n, k = self.node_domain.shape
        index = {label: i for i, label in enumerate(self.labels)}
        for arch in archs:
            self.validate(arch)
        ops = torch.zeros(len(archs), n, k)
        edges = torch.zeros(len(archs), n, n)
        mask = torch.zeros(len(archs), n, dtype=torch.bool)
        if archs:
            width = max(len(arch.ops) for arch in archs)
            padded = torch.tensor([[index[op] for op in a.ops] + [-1] * (width - len(a.ops)) for a in archs])
            mask[:, :width] = padded >= 0
            ops[:, :width] = nn.functional.one_hot(padded.clamp(min=0), k) * mask[:, :width, None]
            rows = [b for b, arch in enumerate(archs) for _ in arch.edges]
            pairs = torch.tensor([edge for arch in archs for edge in arch.edges], dtype=torch.long).reshape(-1, 2)
            edges[rows, pairs[:, 0], pairs[:, 1]] = 1.0
        return GraphBatch(ops, edges, mask)

    def decode(self, batch: GraphBatch) -> list[Architecture | None]:
        """Architectures of a batch: the most probable allowed label of each node, edges above one half.

        Returns:
            One entry a graph, None where the graph is not a point of the space.
        """
        domain = self.node_domain.to(batch.ops.device)
        b, n = batch.node_mask.shape
        labels = batch.ops.masked_fill(~domain, -torch.inf).argmax(-1)
        rows = torch.cat([batch.node_mask.sum(-1, keepdim=True), labels, (batch.edges > 0.5).view(b, n * n)], 1)
        distinct, inverse = torch.unique(rows, dim=0, return_inverse=True)  # samples repeat: decode each graph once
        known: dict[bytes, tuple[tuple[int, int], ...]] = {}  # and so do topologies, in most spaces
        archs: list[Architecture | None] = []
        adjacency = distinct[:, n + 1 :].bool().view(-1, n, n).cpu().numpy()
        for (size, *ops), edges in zip(distinct[:, : n + 1].tolist(), adjacency, strict=True):
            key = edges[:size, :size].tobytes()
            if key not in known:
                known[key] = tuple((int(i), int(j)) for i, j in np.argwhere(edges[:size, :size]))
            archs.append(self._point(tuple(self.labels[i] for i in ops[:size]), known[key]))
        return [archs[i] for i in inverse.tolist()]

    def _point(self, ops: tuple[str, ...], edges: tuple[tuple[int, int], ...]) -> Architecture | None:
        try:
            arch = Architecture(self.name, ops, edges)
            self.validate(arch)
        except InvalidArchitecture:
            return None
        return arch
