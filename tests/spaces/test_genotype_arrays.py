"""Genotypes as arrays, against the functions that take one at a time."""

from __future__ import annotations

import numpy as np
import pytest

from archgen import spaces
from archgen.errors import InvalidArchitecture
from archgen.graph import Architecture
from archgen.spaces import GenotypeSpace
from archgen.spaces.genotype_arrays import GenotypeArrays, cut_dead_inputs, read_sources
from archgen.spaces.genotype_function import cut_dead


@pytest.fixture(scope="module")
def darts() -> GenotypeSpace:
    space = spaces.load("darts")
    assert isinstance(space, GenotypeSpace)
    return space


@pytest.fixture(scope="module")
def archs(darts: GenotypeSpace) -> list[Architecture]:
    return darts.sample(200, np.random.default_rng(0))


@pytest.fixture(scope="module")
def arrays(darts: GenotypeSpace) -> GenotypeArrays:
    return GenotypeArrays(darts, darts.graph.choice, darts.graph.fixed)


def test_inputs_are_those_of_the_cells(darts: GenotypeSpace, arrays: GenotypeArrays, archs: list[Architecture]) -> None:
    operations, sources = arrays.inputs(archs)
    for row, arch in enumerate(archs):
        inputs = [pair for cell in darts.cells(arch) for pair in cell]
        found = zip([darts.operations[i] for i in operations[row]], sources[row].tolist(), strict=True)
        assert list(found) == inputs


def test_dead_inputs_are_cut_as_one_by_one(darts: GenotypeSpace, archs: list[Architecture]) -> None:
    """Half of the operations are zero, so that whole nodes die."""
    rng, zero = np.random.default_rng(1), darts.operations.index(darts.zero)
    cells = [darts.cells(arch)[0] for arch in archs]
    operations = np.array([[darts.operations.index(op) for op, _ in cell] for cell in cells])
    operations[rng.random(operations.shape) < 0.5] = zero
    sources = np.array([[source for _, source in cell] for cell in cells])
    found = cut_dead_inputs(operations, sources, zero)
    for row in range(len(archs)):
        cell = [(darts.operations[o], int(s)) for o, s in zip(operations[row], sources[row], strict=True)]
        cut = [(darts.operations.index(op), source) for op, source in cut_dead(cell, darts.zero)]
        expected = [pair for i in range(0, len(cut), 2) for pair in sorted(cut[i : i + 2], key=lambda p: (p[1], p[0]))]
        assert list(zip(found[0][row].tolist(), found[1][row].tolist(), strict=True)) == expected


def test_what_is_no_genotype_is_told_from_what_is(darts: GenotypeSpace, archs: list[Architecture]) -> None:
    arch = archs[0]
    fewer = Architecture(darts.name, arch.ops, arch.edges[1:])
    assert read_sources([arch], darts.graph.choice, darts.graph.fixed) is not None
    assert read_sources([arch, fewer], darts.graph.choice, darts.graph.fixed) is None
    with pytest.raises(InvalidArchitecture, match="one source for each"):
        darts.choices([arch, fewer])
