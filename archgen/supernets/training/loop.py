"""The training loop of supernets and of stand-alone networks: optimiser, schedule, checkpoints, resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from archgen import artifacts
from archgen.errors import ArchgenError, InvalidCheckpoint

Step = Callable[[tuple[Tensor, Tensor], np.random.Generator], dict[str, float]]
Epoch = Callable[[torch.Generator], Iterable[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Args:
        epochs: Passes over the data, at least 1.
        lr: Peak learning rate of SGD with Nesterov momentum 0.9; linear warm-up over a twentieth, then cosine.
        tail: Least factor of the learning rate after the warm-up, in [0, 1): BigNAS (arXiv 2003.11142, section 3.1)
            ends at a constant 0.05.
        weight_decay: L2 penalty on convolution and linear weights; none on biases and batch normalisation.
        clip: Largest gradient norm.
    """

    epochs: int
    lr: float = 0.1
    weight_decay: float = 5e-4
    clip: float = 5.0
    tail: float = 0.0

    def factor(self, progress: float) -> float:
        """Learning-rate factor in [0, 1] at `progress` in [0, 1]."""
        cosine = 0.5 * (1 + math.cos(math.pi * progress)) if progress < 1 else 0.0
        return min(progress / 0.05, max(cosine, self.tail))


def train(
    module: nn.Module,
    step: Step,
    epoch: Epoch,
    schedule: Schedule,
    *,
    seed: int,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """Train `module` in place; exact resume from `checkpoint`, which is written after every epoch's tenth.

    Randomness of an epoch depends only on `seed` and its number, so a resumed training gives the same weights.

    Args:
        module: Holds the parameters that `step` gives gradients to.
        step: Accumulates the gradients of one batch; returns losses by name.
        epoch: Shuffled batches of one epoch from a torch generator.
        schedule: Length and learning rate.
        seed: Of the order of the data and of the paths.
        checkpoint: File to resume from and to write to; None keeps nothing.
        on_epoch: Called after each epoch with its number (from 1) and mean losses.

    Raises:
        ArchgenError: The loss became NaN or infinite.
        InvalidCheckpoint: The checkpoint is truncated or of another network.
    """
    decay = [p for p in module.parameters() if p.ndim > 1]
    plain = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": schedule.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=schedule.lr, momentum=0.9, nesterov=True)
    start = _restore(checkpoint, module, optimizer) if checkpoint is not None and checkpoint.exists() else 0
    module.train()
    for number in range(start, schedule.epochs):
        rng = np.random.default_rng([seed, number])
        batches = list(epoch(torch.Generator().manual_seed(seed * 100_003 + number)))
        sums: dict[str, float] = {}
        for i, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = schedule.lr * schedule.factor((number + (i + 0.5) / len(batches)) / schedule.epochs)
            optimizer.zero_grad(set_to_none=True)
            losses = step(batch, rng)
            if not all(math.isfinite(value) for value in losses.values()):
                raise ArchgenError(f"the loss became {losses} in epoch {number + 1}; lower the learning rate")
            nn.utils.clip_grad_norm_([p for p in module.parameters() if p.grad is not None], schedule.clip)
            optimizer.step()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value / len(batches)
        if checkpoint is not None and ((number + 1) % max(1, schedule.epochs // 10) == 0):
            _save(checkpoint, module, optimizer, number + 1)
        if on_epoch is not None:
            on_epoch(number + 1, sums)
    if checkpoint is not None and start < schedule.epochs:
        _save(checkpoint, module, optimizer, schedule.epochs)
    module.eval()


def _named_momenta(module: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in module.named_parameters():
        momentum = optimizer.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            yield f"momentum.{name}", momentum


def _save(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    tensors = {f"module.{name}": value for name, value in module.state_dict().items()}
    tensors |= dict(_named_momenta(module, optimizer))
    artifacts.write_tensors(path, {**tensors, "epochs": torch.tensor(epochs)})


def _restore(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    tensors = artifacts.read_tensors(path)
    epochs = tensors.get("epochs")
    if epochs is None or epochs.numel() != 1:
        raise InvalidCheckpoint(f"{path} does not say how many epochs it was trained for; remove it to start anew")
    weights = {name[7:]: value for name, value in tensors.items() if name.startswith("module.")}
    artifacts.load_weights(module, weights, str(path))
    for name, parameter in module.named_parameters():
        momentum = tensors.get(f"momentum.{name}")
        if momentum is not None:
            if momentum.shape != parameter.shape:
                raise InvalidCheckpoint(f"{path}: the momentum of {name} has another shape; remove it to start anew")
            optimizer.state[parameter]["momentum_buffer"] = momentum
    return int(epochs)
