"""Spaces that several files test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from archgen import spaces
from archgen.spaces import ChainSpace, GenotypeSpace, ModuleSpace
from archgen.spaces.genotype_function import Cell


@pytest.fixture(scope="session")
def once_for_all() -> ChainSpace:
    space = spaces.load("mobilenetv3")
    assert isinstance(space, ChainSpace)
    return space


@pytest.fixture(scope="session")
def my_chain() -> ChainSpace:
    """Three stages of depths 1-2, 1 or 3 and 0-1, and two resolutions: 720 architectures."""
    space = spaces.load(Path(__file__).parent / "fixtures" / "my_chain.toml")
    assert isinstance(space, ChainSpace)
    return space


@pytest.fixture(scope="session")
def graph() -> ChainSpace:
    """Two branches that meet, with a block of the tests' own."""
    space = spaces.load(Path(__file__).parent / "fixtures" / "my_net.toml")
    assert isinstance(space, ChainSpace)
    return space


@pytest.fixture(scope="session")
def darts() -> GenotypeSpace:
    space = spaces.load("darts")
    assert isinstance(space, GenotypeSpace)
    return space


@pytest.fixture(scope="session")
def cut() -> Callable[..., Cell]:
    """Makes a cell of four nodes of `none` but for the inputs named `n<node>_<0 or 1>`."""

    def make(**inputs: tuple[str, int]) -> Cell:
        return tuple(inputs.get(f"n{2 + i // 2}_{i % 2}", ("none", 0)) for i in range(8))

    return make


@pytest.fixture(scope="session")
def modules() -> ModuleSpace:
    space = spaces.load("nasbench101")
    assert isinstance(space, ModuleSpace)
    return space
