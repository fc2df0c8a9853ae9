"""The listed architectures of a large space, as a space of their own."""

import numpy as np
import pytest
import torch

from archgen import spaces
from archgen.errors import InvalidSpace
from archgen.spaces.base import SearchSpace
from archgen.spaces.listed import NEAR, ListedSpace


@pytest.fixture(scope="module")
def darts() -> SearchSpace:
    return spaces.load("darts")


@pytest.fixture(scope="module")
def listed(darts: SearchSpace) -> ListedSpace:
    return ListedSpace(darts, darts.sample(200, np.random.default_rng(0)))


def test_all_that_is_drawn_or_changed_is_listed(listed: ListedSpace, darts: SearchSpace) -> None:
    rng, every = np.random.default_rng(1), set(listed.enumerate())
    assert listed.size == len(every) == 200
    drawn = listed.sample(3000, rng)
    assert set(drawn) == every  # 200 exp(-15) < .0001 are expected to be missing
    a, b = drawn[:2]
    assert {listed.mutate(a, rng) for _ in range(500)} == set(listed.neighbours(a))
    assert {listed.crossover(a, b, rng) for _ in range(20)} <= every
    assert set(listed.neighbours(darts.sample(1, rng)[0])) <= every, "of one that is not listed too"


def test_neighbours_are_the_nearest(listed: ListedSpace, darts: SearchSpace) -> None:
    arch = listed.enumerate()[7]
    near = listed.neighbours(arch)
    assert len(near) == NEAR
    assert arch not in near

    def common(other: object) -> int:
        return int((darts.choices([arch]) == darts.choices([other])).sum())  # type: ignore[list-item]

    others = sorted((common(other) for other in listed.enumerate() if other != arch), reverse=True)
    assert [common(other) for other in near] == others[:NEAR]


def test_graphs_decode_to_the_nearest_listed(listed: ListedSpace, darts: SearchSpace) -> None:
    archs = listed.enumerate()[:5]
    assert listed.decode(darts.encode(archs)) == archs
    strangers = darts.encode(darts.sample(100, np.random.default_rng(2)))
    assert set(listed.decode(strangers)) <= set(listed.enumerate())


def test_everything_else_is_that_of_the_space(listed: ListedSpace, darts: SearchSpace) -> None:
    arch = listed.enumerate()[3]
    assert listed.parse(darts.format(arch)) == arch
    assert listed.canonical(arch) == darts.canonical(arch)
    assert listed.from_choices(listed.to_choices(arch)) == arch
    assert torch.equal(listed.encode([arch]).ops, darts.encode([arch]).ops)


def test_one_architecture_is_no_space(darts: SearchSpace) -> None:
    (arch,) = darts.sample(1, np.random.default_rng(0))
    with pytest.raises(InvalidSpace, match="1 architectures of darts are no space to search"):
        ListedSpace(darts, [arch, arch])
