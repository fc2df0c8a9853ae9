"""Training a generator on samples of a space, without labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from archgen.generators.base import Generator
from archgen.graph import Architecture, GraphBatch

Encode = Callable[[list[Architecture]], GraphBatch]


def train_generator(
    generator: Generator,
    data: GraphBatch | Callable[[int], GraphBatch],
    *,
    steps: int,
    batch_size: int = 256,
    lr: float = 2e-3,
    ema: float = 0.995,
    seed: int = 0,
    progress: Callable[[Iterator[int]], Iterator[int]] = iter,
) -> list[float]:
    """Train in place with AdamW, cosine decay after a short warm-up, and an exponential average of the weights.

    Args:
        generator: What to train; holds the averaged weights afterwards.
        data: All clean graphs, drawn from with replacement; or a function from a batch size to fresh graphs.
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
    optimizer = torch.optim.AdamW(generator.parameters(), lr=lr, weight_decay=1e-4)
    warm_up = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * min(i / steps, 1.0))))
    )

    def average(mean: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
        decay = min(ema, (1 + int(count)) / (10 + int(count)))  # the first weights must not linger in a short run
        return decay * mean + (1 - decay) * new

    averaged = AveragedModel(generator, avg_fn=average)
    generator.train()
    losses = []
    for step in progress(iter(range(steps))):
        if isinstance(data, GraphBatch):
            batch = data[torch.from_numpy(rng.integers(len(data), size=batch_size))]
        else:
            batch = data(batch_size)
        loss = generator.loss(batch, generator=noise)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss became {loss.item()} at step {step}; lower lr (now {lr:g})")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(generator.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(generator)
        losses.append(float(loss.detach()))
    generator.load_state_dict(averaged.module.state_dict())
    generator.eval()
    return losses
