"""Training of a supernet on images by a training strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from archgen.data import ImageData, batches, steps
from archgen.supernets.base import Supernet
from archgen.supernets.training.base import Plan, TrainingStrategy
from archgen.supernets.training.loop import Batches, Schedule, train
from archgen.supernets.training.standalone import batch_size


def train_supernet(
    supernet: Supernet,
    strategy: TrainingStrategy,
    data: ImageData,
    schedule: Schedule,
    *,
    seed: int,
    checkpoint: Path | None = None,
    every: int | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Train on the augmented training part, in the order that the strategy wants; other arguments as in `train`.

    Raises:
        ArchgenError: As in `train`, and what the strategy raises for a space that it can not train.
    """
    size = batch_size(data)
    per_epoch = steps(len(data.train), size)
    strategy.prepare(supernet, Plan(len(data.train), per_epoch, schedule.epochs))

    def draw(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        order = strategy.order(generator)
        return batches(data.train, size, generator=generator, augmented=True, flip=data.flip, order=order)

    train(
        supernet,
        lambda batch, rng: strategy.step(supernet, batch, rng),
        Batches(per_epoch, draw),
        schedule,
        seed=seed,
        checkpoint=checkpoint,
        every=every,
        memory=strategy,
        on_epoch=on_epoch,
    )
