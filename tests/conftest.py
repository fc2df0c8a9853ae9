"""Fixtures of all tests."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from archgen import config, spaces
from archgen.spaces import SearchSpace

with warnings.catch_warnings():
    # linear_operator (under botorch) and torch_geometric script functions while they are imported, which torch
    # deprecates; warnings are errors in the tests, so they are imported here, once, with that one silenced
    warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
    import linear_operator  # noqa: F401
    import torch_geometric.data  # noqa: F401

settings.register_profile("archgen", deadline=None, derandomize=True, database=None)
settings.load_profile("archgen")


# tensors in tests are tiny: a second thread only waits, and on a busy machine it makes them twenty times slower
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return spaces.load("nasbench201")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def tables() -> Path:
    """The folder of the published benchmark tables; tests that need it are skipped without it."""
    folder = config.data_dir()
    if folder is None:
        pytest.skip("the benchmark tables are absent: set ARCHGEN_DATA or put them in ../shared/data")
    return folder
