"""Training generators, and predictors of noised graphs, on samples of a space."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from archgen.generators.base import Generator
from archgen.generators.noised_predictor import NoisedPredictor
from archgen.graph import GraphBatch

Batch: TypeAlias = tuple[GraphBatch, Tensor | None]
"""Clean graphs, and normal scores of their properties `b x c` where there are any."""
Progress: TypeAlias = Callable[[Iterator[int]], Iterator[int]]


def train_generator(
    generator: Generator,
    data: GraphBatch | Callable[[int], Batch],
    *,
    steps: int,
    batch_size: int = 256,
    lr: float = 2e-3,
    ema: float = 0.995,
    seed: int = 0,
    progress: Progress = iter,
) -> list[float]:
    """Train in place with AdamW, cosine decay after a short warm-up, and an exponential average of the weights.

    Args:
        generator: What to train; holds the averaged weights afterwards.
        data: All clean graphs, drawn from with replacement; or a function from a batch size to a batch.
        steps: Optimiser steps, at least 1.
        batch_size: Graphs a step.
        lr: Peak learning rate.
        ema: Decay of the average.
        seed: Of the noise and the order of the data.
        progress: Wraps the iterator over steps, for a progress bar.

    Returns:
        The loss of each step.

    Raises:
        FloatingPointError: The loss became NaN or infinite.
    """
    noise = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)

    def batch() -> Batch:
        if isinstance(data, GraphBatch):
            return data[torch.from_numpy(rng.integers(len(data), size=batch_size))], None
        return data(batch_size)

    def loss() -> Tensor:
        graphs, condition = batch()
        return generator.loss(graphs, condition, generator=noise)

    return minimise(generator, loss, steps=steps, lr=lr, ema=ema, progress=progress)


def train_noised(
    predictor: NoisedPredictor,
    noise: Generator,
    data: Callable[[int], Batch],
    *,
    steps: int,
    batch_size: int = 1024,
    lr: float = 4e-3,
    ema: float = 0.995,
    seed: int = 0,
    progress: Progress = iter,
) -> list[float]:
    """Train a predictor of noised graphs in place; arguments as in `train_generator`.

    Args:
        predictor: What to train.
        noise: The generator whose noise it is for.
        data: From a batch size to clean graphs and all of their properties.
        steps, batch_size, lr, ema, seed, progress: As in `train_generator`.
    """
    source = torch.Generator().manual_seed(seed)

    def loss() -> Tensor:
        graphs, scores = data(batch_size)
        if scores is None:
            raise ValueError("a predictor of properties needs the properties of its training graphs")
        return predictor.loss(graphs, scores, noise.noise, generator=source)

    return minimise(predictor, loss, steps=steps, lr=lr, ema=ema, progress=progress)


def minimise(
    module: nn.Module, loss: Callable[[], Tensor], *, steps: int, lr: float, ema: float, progress: Progress = iter
) -> list[float]:
    """Minimise a stochastic loss as `train_generator` says; the module holds the averaged weights afterwards."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, weight_decay=1e-4)
    warm_up = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * min(i / steps, 1.0))))
    )

    def average(mean: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        decay = min(ema, (1 + int(count)) / (10 + int(count)))  # the first weights must not linger in a short run
        return decay * mean + (1 - decay) * new

    averaged = AveragedModel(module, avg_fn=average)
    module.train()
    losses = []
    for step in progress(iter(range(steps))):
        value = loss()
        if not torch.isfinite(value):
            raise FloatingPointError(f"the loss became {value.item()} at step {step}; lower lr (now {lr:g})")
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(module)
        losses.append(float(value.detach()))
    module.load_state_dict(averaged.module.state_dict())
    module.eval()
    return losses
