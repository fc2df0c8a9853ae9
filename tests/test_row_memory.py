"""Rows of architectures are computed once, come in the order asked for, and memory does not grow with the samples."""

from __future__ import annotations

import numpy as np
import pytest

from archgen import spaces
from archgen.graph import Architecture
from archgen.row_memory import RowMemory
from archgen.spaces import SearchSpace


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return spaces.load("nasbench201")


class Lengths:
    """Two numbers of an architecture, and what was asked."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.asked: list[list[Architecture]] = []

    def __call__(self, archs: list[Architecture]) -> np.ndarray:
        self.asked.append(archs)
        return self.expected(archs)

    def expected(self, archs: list[Architecture]) -> np.ndarray:
        texts = [self.space.format(arch) for arch in archs]
        return np.array([[len(text), text.count("conv")] for text in texts], dtype=float).reshape(-1, 2)


def test_each_is_computed_once_and_rows_are_in_order(space: SearchSpace) -> None:
    compute = Lengths(space)
    memory = RowMemory(compute, 2, chunk=7)
    archs = space.sample(40, np.random.default_rng(0))
    asked = [*archs, *archs[::-1]]
    assert np.array_equal(memory(asked), compute.expected(asked))
    assert np.array_equal(memory(archs[5:]), compute.expected(archs[5:]))
    once = [arch for part in compute.asked for arch in part]
    assert len(once) == len(set(once)) == len(set(archs)) == len(memory)
    assert max(map(len, compute.asked)) == 7


def test_memory_does_not_grow(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archgen.row_memory.REMEMBERED", 10)
    compute = Lengths(space)
    memory = RowMemory(compute, 2)
    archs = space.sample(64, np.random.default_rng(1))
    assert np.array_equal(memory(archs), compute.expected(archs))
    assert len(memory) <= 10
    for arch in archs:
        assert np.array_equal(memory([arch]), compute.expected([arch]))
        assert len(memory) <= 10


def test_what_is_forgotten_is_computed_anew(space: SearchSpace) -> None:
    compute = Lengths(space)
    memory, archs = RowMemory(compute, 2), space.sample(5, np.random.default_rng(2))
    memory(archs)
    memory.forget()
    assert len(memory) == 0
    memory(archs)
    assert len(compute.asked) == 2


def test_of_nothing_there_are_no_rows_and_rows_are_copies(space: SearchSpace) -> None:
    compute = Lengths(space)
    memory = RowMemory(compute, 2)
    assert memory([]).shape == (0, 2)
    (arch,) = space.sample(1, np.random.default_rng(3))
    memory([arch])[:] = -1.0
    assert np.array_equal(memory([arch]), compute.expected([arch]))


def test_each_is_looked_up_once(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    archs, hashed, own = space.sample(20, np.random.default_rng(4)), [], Architecture.__hash__

    def counted(arch: Architecture) -> int:
        hashed.append(arch)
        return own(arch)

    memory = RowMemory(Lengths(space), 2)
    monkeypatch.setattr(Architecture, "__hash__", counted)
    memory(archs)
    assert len(hashed) == len(archs)


def test_what_fails_is_not_remembered(space: SearchSpace) -> None:
    compute, archs = Lengths(space), space.sample(20, np.random.default_rng(5))

    def once(asked: list[Architecture]) -> np.ndarray:
        if len(compute.asked) == 1:
            compute.asked.append([])
            raise KeyboardInterrupt
        return compute(asked)

    memory = RowMemory(once, 2, chunk=8)
    with pytest.raises(KeyboardInterrupt):
        memory(archs)
    assert np.array_equal(memory(archs), compute.expected(archs))
