"""What the cells of a genotype compute: dead connections, the DAG of operations, and equality of functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

from archgen.graph import canonical_form

CELLS = ("normal", "reduce")
INPUTS = ("c_{k-2}", "c_{k-1}")
"""Labels of the inputs of both cells: the outputs of the cell before the previous one and of the previous one."""

Cell = tuple[tuple[str, int], ...]
"""Operation and source of the inputs of a cell's nodes, two a node; 0 and 1 are the cell's inputs, 2 its first node."""

Atom = tuple[int, tuple[str, ...]]
"""A node of a graph of functions, and the linear operations applied to its value, in order."""


def cut_dead(cell: Cell, zero: str) -> Cell:
    """The cell with the zero operation, reading source 0, for everything that is cut or reads a cut node."""
    inputs: list[tuple[str, int]] = []
    alive = [True, True]
    for i, (operation, source) in enumerate(cell):
        dead = operation == zero or not alive[source]
        inputs.append((zero, 0) if dead else (operation, source))
        if i % 2:
            alive.append(any(op != zero for op, _ in inputs[-2:]))
    return tuple(inputs)


def computation_of(
    cells: Mapping[str, Cell], roles: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Labels and edges of the DAG of both cells' operations between `input` and `output`.

    Args:
        cells: The cell called `normal` and that called `reduce`, as `cut_dead` gives them.
        roles: Role of each operation.
    """
    ops, edges = ["input", *INPUTS], [(0, 1), (0, 2)]
    concatenated: Counter[int] = Counter()
    for name, cell in cells.items():
        values: list[Counter[int]] = [Counter({1: 1}), Counter({2: 1})]  # which operations each one sums, how often
        for i, (operation, source) in enumerate(cell):
            if i % 2 == 0:
                values.append(Counter())
            if roles[operation] == "identity" and not (name == "reduce" and source < 2):
                values[-1].update(values[source])
            elif roles[operation] != "zero":
                edges += [(j, len(ops)) for j in values[source].elements()]
                values[-1][len(ops)] += 1
                ops.append(f"{name}:{operation}")
        for value in values[2:]:
            concatenated.update(value)
    edges += [(j, len(ops)) for j in concatenated.elements()]
    ops.append("output")
    kept = sorted({i for i, _ in edges} | {len(ops) - 1})  # without an input of the cells that nothing reads
    place = {i: at for at, i in enumerate(kept)}
    return tuple(ops[i] for i in kept), tuple(sorted((place[i], place[j]) for i, j in edges if j in place))


@lru_cache(maxsize=2**16)
def cell_function(cell: Cell, roles: tuple[tuple[str, str], ...], reduction: bool) -> str:
    """A text that is equal exactly for cells that compute the same function of their inputs, up to renaming weights.

    The value of a node is a formal sum of atoms `A^k x`: `x` is an input, the result of a weighted operation or that
    of a maximum, `A` the linear operations. A maximum of the same value is the same atom, and one of `m` times a
    value is `m` times that of the value. Atoms and nodes are the nodes of a graph, the sums that they read label its
    edges, and isomorphic graphs get one name. Nodes that nothing feeds are only counted.
    """
    role_of = dict(roles)
    labels: list[str] = list(INPUTS)
    edges: dict[tuple[int, int], tuple[tuple[tuple[str, ...], int], ...]] = {}
    maxima: dict[tuple[str, frozenset[tuple[Atom, int]]], int] = {}
    values: list[Counter[Atom]] = [Counter({(0, ()): 1}), Counter({(1, ()): 1})]

    def read(value: Counter[Atom], label: str) -> int:
        labels.append(label)
        for i in {atom for atom, _ in value}:
            words = sorted((word, times) for (atom, word), times in value.items() if atom == i)
            edges[(i, len(labels) - 1)] = tuple(words)
        return len(labels) - 1

    for i, (operation, source) in enumerate(cell):
        if i % 2 == 0:
            values.append(Counter())
        role, value = role_of[operation], values[source]
        halves = reduction and source < 2
        label = f"{operation}/2" if halves else operation
        if role == "zero":
            continue
        if role == "identity" and not halves:
            values[-1].update(value)
        elif role == "linear":
            values[-1].update({(atom, (*word, label)): times for (atom, word), times in value.items()})
        elif role == "maximum":
            common = math.gcd(*value.values())
            scaled = Counter({atom: times // common for atom, times in value.items()})
            key = (label, frozenset(scaled.items()))
            if key not in maxima:
                maxima[key] = read(scaled, label)
            values[-1][(maxima[key], ())] += common
        elif i % 2 and cell[i - 1][0] == operation and values[cell[i - 1][1]] == value:
            labels[-1] = f"2 {label}"  # twins are always read together, so one atom stands for both
        else:
            values[-1][(read(value, label), ())] += 1
    dead = 0
    for value in values[2:]:
        if value:
            read(value, "node")
        dead += not value
    return f"{dead}{canonical_form(labels, edges)}"
