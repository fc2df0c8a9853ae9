"""Training of a supernet on images by a training strategy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from archgen.data import ImageData, Split
from archgen.supernets.base import Supernet
from archgen.supernets.training.accelerated import make_updates
from archgen.supernets.training.base import Plan, TrainingStrategy
from archgen.supernets.training.loop import Schedule, train
from archgen.supernets.training.processes import Processes
from archgen.supernets.training.standalone import batch_size, training_batches


def train_supernet(
    supernet: Supernet,
    strategy: TrainingStrategy,
    data: ImageData,
    schedule: Schedule,
    *,
    seed: int,
    checkpoint: Path | None = None,
    every: int | None = None,
    batch: int | None = None,
    processes: Processes | None = None,
    precision: str = "no",
    channels_last: bool = True,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Train on the augmented training part, in the order and by the schedule that the strategy makes of the given one.

    Other arguments as in `train`.

    Args:
        supernet: Goes to the device of the processes.
        strategy: Says what a step trains.
        data: The images; the training part is drawn from and augmented on a GPU, where it fits there (`placed`).
        schedule: Length and learning rate.
        seed: Of everything random.
        checkpoint, every, on_epoch: As in `train`.
        batch: Images a step, over all processes; see `batch_size`.
        processes: Which train together; this one alone where None.
        precision: `no`, `bf16` or `fp16`; see `Precision`.
        channels_last: See `Updates`.

    Raises:
        ArchgenError: As in `train`, and what the strategy raises for a space that it can not train.
        InvalidOption: A batch that is larger than the data, or too small for so many processes or for the strategy.
        UnknownName: No such precision.
    """
    schedule = strategy.schedule(schedule)
    processes = processes or Processes()
    supernet.to(processes.device)
    data = replace(data, train=placed(data.train, processes.device))
    batches = training_batches(data, strategy.order, batch)
    size = min(batch_size(data, batch), len(data.train))
    processes.check(size, precision)
    strategy.check(processes, size)
    strategy.prepare(supernet, Plan(len(data.train), batches.steps, schedule.epochs))
    optimizer = schedule.optimizer(supernet)
    options = {"precision": precision, "channels_last": channels_last}
    updates = make_updates(supernet, optimizer, schedule.clip, processes, **options)
    strategy.gradients = updates
    train(
        supernet,
        lambda batch, rng: strategy.step(supernet, batch, rng),
        batches,
        schedule,
        seed=seed,
        checkpoint=checkpoint,
        every=every,
        memory=strategy,
        updates=updates,
        on_epoch=on_epoch,
    )


def placed(images: Split, device: torch.device) -> Split:
    """The images on a GPU where they take at most half of its free memory, so that no batch has to be copied there."""
    size = images.images.nbytes + images.labels.nbytes
    if device.type != "cuda" or size > torch.cuda.mem_get_info(device)[0] / 2:
        return images
    return Split(images.images.to(device), images.labels.to(device))
