"""Training on images by a strategy: it is told of the data, and images come in the order that it wants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from archgen.data import ImageData
from archgen.errors import InvalidCheckpoint
from archgen.spaces import SearchSpace
from archgen.supernets import Supernet, make_supernet
from archgen.supernets.training import PathAndData, Plan, Schedule, Uniform, train_supernet
from archgen.supernets.training.base import Batch

NETWORK = {"cells": 1, "channels": 2, "classes": 10, "in_channels": 1, "image_size": 8}


@pytest.fixture
def supernet(space: SearchSpace) -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_supernet(space, **NETWORK)


class First(Uniform):
    """Wants the first image alone, as often as there are images."""

    seen: list[Tensor]

    def order(self, generator: torch.Generator) -> Tensor:
        self.seen = []
        return torch.zeros(self.plan.images, dtype=torch.long)

    def step(self, supernet: Supernet, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        self.seen.append(batch[1])
        return super().step(supernet, batch, rng)


def test_the_strategy_is_told_of_the_data_and_decides_the_order(supernet: Supernet, data: ImageData) -> None:
    strategy = First()
    train_supernet(supernet, strategy, data, Schedule(2), seed=0)
    assert strategy.plan == Plan(images=120, steps=8, epochs=2)
    assert len(strategy.seen) == 8
    labels = torch.cat(strategy.seen)
    assert len(labels) == 120
    assert set(labels.tolist()) == {int(data.train.labels[0])}


def test_a_permutation_where_the_strategy_has_no_wish(supernet: Supernet, data: ImageData) -> None:
    seen: list[Tensor] = []

    class Spy(Uniform):
        def step(self, supernet: Supernet, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
            seen.append(batch[1])
            return super().step(supernet, batch, rng)

    train_supernet(supernet, Spy(), data, Schedule(1), seed=0)
    assert torch.cat(seen).sort().values.tolist() == data.train.labels.sort().values.tolist()


def test_a_checkpoint_of_another_strategy_is_refused(supernet: Supernet, data: ImageData, tmp_path: Path) -> None:
    path = tmp_path / "supernet.safetensors"
    train_supernet(supernet, Uniform(), data, Schedule(1), seed=0, checkpoint=path)
    with pytest.raises(InvalidCheckpoint, match="of another training strategy"):
        train_supernet(supernet, PathAndData(), data, Schedule(2), seed=0, checkpoint=path)


def test_a_strategy_without_a_memory_takes_no_state() -> None:
    with pytest.raises(ValueError, match="Uniform learns nothing"):
        Uniform().load_state({"a": torch.zeros(1)})
