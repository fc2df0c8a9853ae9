"""Every registered search space keeps the promises of `SearchSpace`."""

import numpy as np
import pytest

from archgen import spaces
from archgen.spaces import ChainSpace
from archgen.spaces.contraction import contract
from archgen.spaces.stages import SKIP
from archgen.testing import check_space


@pytest.mark.parametrize("name", spaces.available())
def test_space_keeps_its_promises(name: str, rng: np.random.Generator) -> None:
    check_space(spaces.load(name), n=64, rng=rng)


@pytest.mark.parametrize("name", spaces.available())
def test_space_has_what_the_list_of_spaces_shows(name: str) -> None:
    space = spaces.load(name)
    assert space.name == name
    assert space.summary
    assert space.paper
    assert space.size > 1


@pytest.mark.parametrize("name", spaces.available())
def test_a_space_says_whether_segments_can_be_the_identity(name: str, rng: np.random.Generator) -> None:
    space = spaces.load(name)
    if isinstance(space, ChainSpace) and not space.skeleton.identities:
        for arch in space.sample(20, rng):
            assert not any(segment.identity for segment in space.segments(arch))
            reads = [[i for i, j in arch.edges if j == node] for node in range(len(arch.ops))]
            kept, edges = contract(reads, {i for i, op in enumerate(arch.ops) if op == SKIP})
            computed = space.computation(arch)
            assert computed.ops == tuple(arch.ops[i] for i in kept)
            assert computed.edges == tuple(sorted(edges.elements()))
