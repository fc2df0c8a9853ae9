"""What every training strategy of supernets promises: it learns, and a training that was cut off goes on as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from archgen.data import ImageData, load_data
from archgen.spaces import CellSpace
from archgen.supernets import CellSupernet
from archgen.supernets.training import TRAINING_STRATEGIES, Schedule, train_supernet

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 8, "classes": 10, "in_channels": 1, "image_size": 8}
SPACE = CellSpace("ordered", 3, ROLES, NETWORK, ("skip_connect", "nor_conv_3x3"))


class Killed(Exception):
    """What stops a training in these tests."""


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits", limit=250)


def fresh(seed: int = 0) -> CellSupernet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CellSupernet(SPACE, NETWORK)


@pytest.mark.parametrize("name", list(TRAINING_STRATEGIES))
def test_training_lowers_the_loss(name: str, data: ImageData) -> None:
    losses: list[float] = []
    train_supernet(
        fresh(),
        TRAINING_STRATEGIES[name](),
        data,
        Schedule(30),
        seed=0,
        on_epoch=lambda number, mean: losses.append(next(iter(mean.values()))),
    )
    assert np.mean(losses[-2:]) < 0.85 * losses[0]


@pytest.mark.parametrize("name", list(TRAINING_STRATEGIES))
def test_a_training_that_was_cut_off_goes_on_as_it_was(name: str, data: ImageData, tmp_path: Path) -> None:
    """Cut off in the second of three epochs, resumed with other initial weights and a strategy that knows nothing."""
    whole = fresh()
    train_supernet(whole, TRAINING_STRATEGIES[name](), data, Schedule(3), seed=1)
    path = tmp_path / "supernet.safetensors"

    def stop(number: int, losses: dict[str, float]) -> None:
        if number == 2:
            raise Killed

    with pytest.raises(Killed):
        train_supernet(
            fresh(), TRAINING_STRATEGIES[name](), data, Schedule(3), seed=1, checkpoint=path, every=3, on_epoch=stop
        )
    resumed = fresh(seed=5)
    train_supernet(resumed, TRAINING_STRATEGIES[name](), data, Schedule(3), seed=1, checkpoint=path, every=3)
    for (key, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
