"""Training of a supernet on images by a training strategy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from archgen.data import ImageData
from archgen.supernets.base import Supernet
from archgen.supernets.training.base import Plan, TrainingStrategy
from archgen.supernets.training.loop import Schedule, train
from archgen.supernets.training.standalone import training_batches


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
    """Train on the augmented training part, in the order and by the schedule that the strategy makes of the given one.

    Other arguments as in `train`.

    Raises:
        ArchgenError: As in `train`, and what the strategy raises for a space that it can not train.
    """
    schedule = strategy.schedule(schedule)
    batches = training_batches(data, strategy.order)
    strategy.prepare(supernet, Plan(len(data.train), batches.steps, schedule.epochs))
    train(
        supernet,
        lambda batch, rng: strategy.step(supernet, batch, rng),
        batches,
        schedule,
        seed=seed,
        checkpoint=checkpoint,
        every=every,
        memory=strategy,
        on_epoch=on_epoch,
    )
