"""What the tests of designs share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from archgen.data import ImageData, load_data
from archgen.design import DesignRequest
from archgen.progress import Progress
from archgen.run_folder import RunFolder
from archgen.spaces import SearchSpace, load
from archgen.supernets import Supernet, make_supernet

NETWORK = {"cells": 1, "channels": 4, "classes": 10, "in_channels": 1, "image_size": 8}


@dataclass
class Bare:
    """What fine-tuning reads of a design."""

    data: ImageData
    request: DesignRequest
    folder: RunFolder
    space: SearchSpace = field(default_factory=lambda: load("nasbench201"))
    network: dict[str, int] = field(default_factory=lambda: NETWORK)
    progress: Progress = field(default_factory=Progress)
    processes: int = 1


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    folder = RunFolder(tmp_path / "run", {"seconds": {}})
    return Bare(load_data("digits", limit=200), DesignRequest("digits", "nasbench201", {}), folder)


@pytest.fixture
def supernet(space: SearchSpace) -> Supernet:
    """Untrained, for the networks of `bare`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_supernet(space, **NETWORK)
