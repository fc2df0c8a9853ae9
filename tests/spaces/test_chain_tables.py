"""Tables of chains: labels as positions, which chains are additive, and what tables know of settings."""

from __future__ import annotations

import numpy as np
import pytest

from archgen import spaces
from archgen.errors import InvalidArchitecture
from archgen.graph import Architecture
from archgen.spaces import ChainSpace
from archgen.spaces.chain_tables import ChainTables

ADDITIVE = {"mobilenetv3", "fbnet", "nasbench_macro"}
CHAINS = [name for name in spaces.available() if isinstance(spaces.load(name), ChainSpace)]


def chain(name: str) -> ChainSpace:
    space = spaces.load(name)
    assert isinstance(space, ChainSpace)
    return space


@pytest.mark.parametrize("name", CHAINS)
def test_positions_are_those_of_the_labels(name: str) -> None:
    space = chain(name)
    archs = space.sample(20, np.random.default_rng(0))
    found = ChainTables(space).labels(archs)
    assert [[space.labels[i] for i in row] for row in found.tolist()] == [list(arch.ops[1:-1]) for arch in archs]


@pytest.mark.parametrize("name", CHAINS)
def test_additive_are_chains_whose_slots_stand_alone(name: str) -> None:
    tables = ChainTables(chain(name))
    assert tables.additive == (name in ADDITIVE)
    assert tables.flows, "labels tell all: transformers have no identities"


@pytest.mark.parametrize("name", sorted(ADDITIVE))
def test_tables_add_up_to_the_workload_whatever_was_asked_before(name: str) -> None:
    space, rng = chain(name), np.random.default_rng(1)
    tables = ChainTables(space)
    for _ in range(2):  # the second batch meets settings that are known and new ones
        archs = space.sample(6, rng)
        np.testing.assert_array_equal(tables.workloads(archs), [space.workload(arch) for arch in archs])


def test_a_label_that_is_not_allowed_there_is_refused() -> None:
    space = chain("fbnet")
    arch = space.sample(1, np.random.default_rng(0))[0]
    ops = list(arch.ops)
    ops[3] = "no such block"
    with pytest.raises(InvalidArchitecture):
        ChainTables(space).labels([arch, Architecture(space.name, tuple(ops), arch.edges)])
