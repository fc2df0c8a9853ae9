"""The training loop of supernets and of stand-alone networks: optimiser, schedule, checkpoints, resume, roll-back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from archgen.errors import ArchgenError, InvalidOption
from archgen.supernets.training.progress import Memory, TrainingProgress
from archgen.supernets.training.updates import Updates

Step = Callable[[tuple[Tensor, Tensor], np.random.Generator], dict[str, float]]


class EndTraining(Exception):
    """Raised by `on_epoch` to end a training early: its state is kept as the last one, and a resume trains no more."""


@dataclass(frozen=True)
class Batches:
    """The batches of every epoch.

    Args:
        steps: Batches an epoch.
        draw: The batches of one epoch, `steps` of them, from a torch generator.
    """

    steps: int
    draw: Callable[[torch.Generator], Iterable[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Args:
        epochs: Passes over the data, at least 1.
        lr: Peak learning rate of SGD with Nesterov momentum 0.9; linear warm-up over a twentieth, then cosine.
        weight_decay: L2 penalty on convolution and linear weights; none on biases and batch normalisation.
        clip: Largest gradient norm.
        tail: Least factor of the learning rate after the warm-up, in [0, 1): BigNAS (arXiv 2003.11142, section 3.1)
            ends at a constant 0.05.
        power: Base `p` of cosine power annealing, at least 1 (sharpDARTS, arXiv 1903.09900): the cosine `c` becomes
            `(p^c - 1) / (p - 1)`, which falls faster at first and more slowly at the end; 1 leaves it.

    Raises:
        InvalidOption: No epoch, or a rate that is not positive and finite.
    """

    epochs: int
    lr: float = 0.1
    weight_decay: float = 5e-4
    clip: float = 5.0
    tail: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 < self.lr < math.inf:
            raise InvalidOption(
                f"expected at least 1 epoch and a finite rate above 0, got {self.epochs} and {self.lr:g}"
            )

    def factor(self, progress: float) -> float:
        """Learning-rate factor in [0, 1] at `progress` in [0, 1]."""
        cosine = 0.5 * (1 + math.cos(math.pi * progress)) if progress < 1 else 0.0
        if self.power > 1:
            cosine = (self.power**cosine - 1) / (self.power - 1)
        return min(progress / 0.05, max(cosine, self.tail))

    def optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        """SGD on the parameters of a module."""
        decay = [p for p in module.parameters() if p.ndim > 1]
        plain = [p for p in module.parameters() if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": self.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        return torch.optim.SGD(groups, lr=self.lr, momentum=0.9, nesterov=True)


def train(
    module: nn.Module,
    step: Step,
    batches: Batches,
    schedule: Schedule,
    *,
    seed: int,
    checkpoint: Path | None = None,
    every: int | None = None,
    memory: Memory | None = None,
    updates: Updates | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Train `module` in place; exact resume from `checkpoint`.

    The randomness of a step depends on `seed` and its number alone, so a training that was killed and resumed gives the
    weights of one that was not. A loss or a gradient that is not finite takes the training back to the last state that
    was kept and halves the learning rate, once.

    Several processes call it with the same arguments but for `updates`; each has its part of every batch, see
    `Processes`, and only the first writes. How many there are may change when a training is resumed.

    Nothing is compiled. On a CPU `torch.compile` took 70 s of processor time for one network of NAS-Bench-201 (one
    cell a stage, 16 channels) and made its steps 1.9 times as fast, 17 ms instead of 31: it pays after 5,000 steps of
    one path, and a supernet, whose every path is compiled anew, has few paths that come twice.

    Args:
        module: Holds the parameters that `step` gives gradients to.
        step: Accumulates the gradients of one batch; returns losses by name.
        batches: Of each epoch.
        schedule: Length and learning rate.
        seed: Of the order of the data and of the paths.
        checkpoint: File to resume from and to write to; None keeps the last good state in memory alone.
        every: Steps between two states that are kept; a tenth of the training where None.
        memory: What `step` and `batches` learn, kept with the weights.
        updates: What makes gradients of the losses of `step`, and moves the weights; one process in full precision
            where None.
        on_epoch: Called after each epoch with its number (from 1) and the mean losses of the steps that this call made;
            may raise `EndTraining`, in all processes or in none.

    Raises:
        ArchgenError: The loss or a gradient was not finite again after the learning rate was halved.
        InvalidCheckpoint: The checkpoint is truncated or of another network.
        RunConflict: Processes see different checkpoints.
    """
    updates = updates or Updates(module, schedule.optimizer(module))
    devices = [updates.device] if updates.device.type == "cuda" else []
    total = schedule.epochs * batches.steps
    every = max(1, total // 10) if every is None else every
    progress = TrainingProgress(updates, checkpoint, memory)
    module.train()
    while progress.steps < total and not progress.ended:
        epoch, first = divmod(progress.steps, batches.steps)
        drawn = batches.draw(torch.Generator().manual_seed(seed * 100_003 + epoch))
        sums: dict[str, float] = {}
        for i, batch in enumerate(islice(drawn, first, None), start=first):
            updates.clear()
            # dropout draws from the global generator, other features in each process
            entropy = [seed, epoch, i, *([updates.processes.rank] if updates.processes.rank else [])]
            with torch.random.fork_rng(devices=devices), updates.precision.autocast(updates.device):
                torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
                losses = updates.mean(step(updates.batch(batch), np.random.default_rng([seed, epoch, i])))
            for group in updates.optimizer.param_groups:
                group["lr"] = schedule.lr * progress.scale * schedule.factor((progress.steps + 0.5) / total)
            if memory is not None and memory.restarted:
                updates.forget()
            sound = all(map(math.isfinite, losses.values()))
            norm = updates.apply(schedule.clip, sound=sound)
            if not sound or not math.isfinite(norm):
                if not progress.roll_back():
                    raise ArchgenError(
                        f"the loss became {losses}, its gradient {norm:g}, in epoch {epoch + 1}, "
                        "at half the rate too; lower the learning rate"
                        + (f", the last good state is in {checkpoint}" if checkpoint and checkpoint.exists() else "")
                    )
                break
            progress.steps += 1
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            if progress.steps % every == 0 or progress.steps == total:
                progress.keep()
        else:
            if on_epoch is not None:
                try:
                    on_epoch(epoch + 1, {name: value / (batches.steps - first) for name, value in sums.items()})
                except EndTraining:
                    progress.ended = True
                    progress.keep()
    module.eval()
