"""A part of another space: some variables keep only some of their values.

    name = "my_part"
    family = "restricted"
    base = "nasbench201"                 # a name that `archgen spaces` lists, or a TOML file, relative to this one

    [values]                             # what each variable may still be; one that is not named keeps all
    "0->1" = ["nor_conv_1x1", "nor_conv_3x3"]

`archgen spaces nasbench201` lists a space's variables and their values. `archgen prune` writes such files; it adds a
table `[pruned]`, which says how, and may be left out.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from archgen.errors import InvalidArchitecture, InvalidSpace, UnknownName
from archgen.graph import Architecture, GraphBatch
from archgen.spaces.base import FAMILIES, SearchSpace
from archgen.spaces.flow import Flow
from archgen.spaces.loading import read_base
from archgen.spaces.toml_tables import known_keys, take, take_texts

_KEYS = ("name", "family", "summary", "paper", "folder", "base", "values", "pruned")
TRIES = 100
"""Draws, each changed into the part, before something else is tried."""


@FAMILIES.register("restricted")
class RestrictedSpace(SearchSpace):
    """The architectures of a space whose choices are all among the values that are left.

    The choices are those that `base.to_choices` gives. One that does not matter (another value gives the same
    architecture, as for a vertex that a module has not) may be anything. Strings, graphs and networks are the base's,
    so tables of the base can be read, as far as their rows are in the part.

    Drawing takes an architecture of the base and gives what is outside other values, uniformly; where the choices of
    the base are independent and uniform, so are those of the part.

    Args:
        base: The whole space, made under the name of the part.
        allowed: Values that each variable may still have; those that are not named keep all.
        summary: One line for the list of spaces.

    Raises:
        InvalidSpace: A variable is left without a value, names one twice, or no two architectures are left.
        UnknownName: The base has no such variable or value.
    """

    family = "restricted"

    def __init__(self, base: SearchSpace, allowed: Mapping[str, Sequence[str]], summary: str = "") -> None:
        self.base = base
        self.name, self.paper = base.name, base.paper
        self.summary = summary or f"a part of: {base.summary}"
        self._allowed = {name: tuple(range(len(values))) for name, values in base.variables.items()}
        for name, values in allowed.items():
            self._allowed[name] = self._positions(name, values)
        self._restricted = {n: frozenset(p) for n, p in self._allowed.items() if len(p) < len(base.variables[n])}
        self.variables = {n: tuple(base.variables[n][i] for i in p) for n, p in self._allowed.items() if len(p) > 1}
        self.labels, self.computing_labels, self.depth = base.labels, base.computing_labels, base.depth
        self.network_defaults = base.network_defaults
        self.node_domain, self.edge_domain = base.node_domain.clone(), base.edge_domain
        for name in self._restricted.keys() & base.variable_nodes.keys():
            node = base.variable_nodes[name]
            kept = [self.labels.index(base.variables[name][i]) for i in self._allowed[name]]
            self.node_domain[node] &= torch.zeros(len(self.labels), dtype=torch.bool).index_fill(
                0, torch.tensor(kept), True
            )
        self.free = base.free and self._restricted.keys() <= base.variable_nodes.keys()
        if not self.variables or len(set(self._drawn(64, np.random.default_rng(0)))) < 2:
            raise InvalidSpace("[values] leave no two architectures: allow more of the variables' values")
        ends = base.extremes
        self.extremes = ends if ends is not None and all(not self._outside(arch) for arch in ends) else None

    def _positions(self, name: str, values: Sequence[str]) -> tuple[int, ...]:
        if name not in self.base.variables:
            raise UnknownName("variable in [values]", name, self.base.variables)
        known = self.base.variables[name]
        for value in values:
            if value not in known:
                raise UnknownName(f"value of '{name}' in [values]", value, known)
        if not values or len(set(values)) != len(values):
            raise InvalidSpace(f"[values] '{name}': expected one or more different values, got {list(values)}")
        return tuple(sorted(known.index(value) for value in values))

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> RestrictedSpace:
        """Make the space of a parsed TOML file; raises `InvalidSpace` naming the table and key."""
        known_keys(description, _KEYS, "the file")
        name, reference = take(description, "name", str, "the file"), take(description, "base", str, "the file")
        values = take(description, "values", dict, "the file")
        allowed = {variable: take_texts(values, variable, "[values]") for variable in values}
        base = read_base(reference, Path(description.get("folder", ".")), name)
        return cls(base, allowed, take(description, "summary", str, "the file", ""))

    @property
    def whole(self) -> SearchSpace:
        return self.base.whole

    @cached_property
    def size(self) -> int:
        """Number of points; of a space of modules, of those that `enumerate` lists."""
        if self.base.free:
            return math.prod(map(len, self._allowed.values()))
        counted = self.base.size_within(self._allowed)
        return len(self._listed()) if counted is None else counted

    def size_within(self, allowed: Mapping[str, Sequence[int]]) -> int | None:
        positions = {name: [kept[i] for i in allowed.get(name, (0,))] for name, kept in self._allowed.items()}
        return self.base.size_within(positions)

    def enumerate(self) -> list[Architecture]:
        """Every architecture once, in the base's order; raises `InvalidSpace` above a million."""
        if self.size > 1_000_000:
            raise InvalidSpace(f"{self.name} has {self.size:.3g} points, too many to list; sample it instead")
        return self._listed() if self.base.size <= 1_000_000 else super().enumerate()

    def _listed(self) -> list[Architecture]:
        return [arch for arch in self.base.enumerate() if not self._outside(arch)]

    # -- encodings ----------------------------------------------------------------------------------------------

    def _outside(self, arch: Architecture) -> list[str]:
        """Variables whose choice is not allowed, though it matters."""
        choices = self.base.to_choices(arch)
        wrong = [name for name, allowed in self._restricted.items() if choices[name] not in allowed]
        return [name for name in wrong if self.base.matters(arch, name, self._allowed[name][0])]

    def to_choices(self, arch: Architecture) -> dict[str, int]:
        choices = self.base.to_choices(arch)
        found = {}
        for name in self.variables:
            allowed = self._allowed[name]
            found[name] = allowed.index(choices[name]) if choices[name] in allowed else 0  # 0: it does not matter
        return found

    def from_choices(self, choices: Mapping[str, int]) -> Architecture:
        self._check_choices(choices)
        arch = self.base.from_choices({name: kept[choices.get(name, 0)] for name, kept in self._allowed.items()})
        self._check(arch)
        return arch

    def validate(self, arch: Architecture) -> None:
        self.base.validate(arch)
        self._check(arch)

    def _check(self, arch: Architecture) -> None:
        outside = self._outside(arch)
        if outside:
            name = outside[0]
            value = self.base.variables[name][self.base.to_choices(arch)[name]]
            kept = ", ".join(self.base.variables[name][i] for i in self._allowed[name])
            raise InvalidArchitecture(f"'{name}' of {self.name} must be one of {kept}, got '{value}'")

    def parse(self, text: str) -> Architecture:
        arch = self.base.parse(text)
        self._check(arch)
        return arch

    def format(self, arch: Architecture) -> str:
        return self.base.format(arch)

    def encode(self, archs: Sequence[Architecture]) -> GraphBatch:
        for arch in archs:
            self._check(arch)
        return self.base.encode(archs)

    def decode(self, batch: GraphBatch) -> list[Architecture | None]:
        """As the base decodes, among the labels that are left; None also for a graph outside the part."""
        ops = batch.ops.masked_fill(~self.node_domain.to(batch.ops.device), -torch.inf)
        archs = self.base.decode(GraphBatch(ops, batch.edges, batch.node_mask))
        return [None if arch is None or self._outside(arch) else arch for arch in archs]

    def project(self, drawn: GraphBatch, probabilities: GraphBatch, *, generator: torch.Generator) -> GraphBatch:
        """As the base projects, again until it is inside the part; see `SearchSpace.project`."""
        if self.free:
            return drawn
        return self._redrawn(self._mended(drawn, probabilities, generator), probabilities, generator)

    def _mended(self, drawn: GraphBatch, probabilities: GraphBatch, generator: torch.Generator) -> GraphBatch:
        return self.base.project(drawn, probabilities, generator=generator)

    # -- drawing and changing -----------------------------------------------------------------------------------

    def sample(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """Draw `n` architectures with repetition, as described above."""
        archs: list[Architecture] = []
        while len(archs) < n:
            archs += self._drawn(n - len(archs), rng)
        return archs

    def _drawn(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """At most `n` draws; fewer where some could not be changed into the part."""
        changed = (self._inside(arch, rng) for arch in self.base.sample(n, rng))
        return [arch for arch in changed if arch is not None]

    def _inside(self, arch: Architecture, rng: np.random.Generator) -> Architecture | None:
        """The architecture with other values where it is outside; None where changing them leads nowhere."""
        for _ in range(2 * len(self._restricted) + 1):
            outside = self._outside(arch)
            if not outside:
                return arch
            other = self._reset(arch, outside, rng)
            if other is None:
                return None
            arch = other
        return None

    def _reset(self, arch: Architecture, names: list[str], rng: np.random.Generator) -> Architecture | None:
        """All the variables given allowed values at once, or else the first one for which that is possible."""
        choices = self.base.to_choices(arch)
        drawn = {name: self._allowed[name][int(rng.integers(len(self._allowed[name])))] for name in names}
        with contextlib.suppress(InvalidArchitecture):
            return self.base.from_choices({**choices, **drawn})
        for name in names:
            for i in rng.permutation(len(self._allowed[name])):
                other = self.base._changed(choices, name, self._allowed[name][int(i)])
                if other is not None:
                    return other
        return None

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """As the base mutates, until it is inside the part; where that takes too long, a neighbour or a new draw."""
        for _ in range(TRIES):
            mutant = self.base.mutate(arch, rng)
            if not self._outside(mutant):
                return mutant
        near = self.neighbours(arch)
        while not near:
            near = [other for other in self._drawn(TRIES, rng) if other != arch]
        return near[int(rng.integers(len(near)))]

    def crossover(self, a: Architecture, b: Architecture, rng: np.random.Generator) -> Architecture:
        for _ in range(TRIES):
            child = self.base.crossover(a, b, rng)
            if not self._outside(child):
                return child
        return a

    def neighbours(self, arch: Architecture) -> list[Architecture]:
        return [other for other in self.base.neighbours(arch) if not self._outside(other)]

    # -- what they compute --------------------------------------------------------------------------------------

    def simplify(self, arch: Architecture) -> Architecture:
        """As the base simplifies, as far as the values that are left allow."""
        simple = self.base.simplify(arch)
        if not self._outside(simple):
            return simple
        goal, choices = self.base.to_choices(simple), self.base.to_choices(arch)
        mixed = {n: goal[n] if goal[n] in self._allowed[n] else choices[n] for n in goal}
        with contextlib.suppress(InvalidArchitecture):
            partly = self.base.from_choices(mixed)
            if self.base.simplify(partly) == simple and not self._outside(partly):
                return partly
        return arch

    def without_unused(self, archs: Sequence[Architecture]) -> list[Architecture]:
        """Those of the base; some of its values may have been taken away here."""
        return self.base.without_unused(archs)

    def computation(self, arch: Architecture) -> Architecture:
        return self.base.computation(arch)

    def canonical(self, arch: Architecture) -> str:
        return self.base.canonical(arch)

    # -- networks -----------------------------------------------------------------------------------------------

    def build(self, arch: Architecture, **network: int) -> nn.Module:
        """The network that the base builds."""
        return self.base.build(arch, **network)

    def count(self, arch: Architecture, **network: int) -> dict[str, float]:
        """What the base counts."""
        return self.base.count(arch, **network)

    def example_input(self, batch: int = 1, **network: int) -> Tensor:
        return self.base.example_input(batch, **network)

    def workload(self, arch: Architecture) -> NDArray[np.float64] | None:
        return self.base.workload(arch)

    def workloads(self, archs: Sequence[Architecture]) -> NDArray[np.float64] | None:
        return self.base.workloads(archs)

    def flow(self, archs: Sequence[Architecture]) -> Flow:
        return self.base.flow(archs)
