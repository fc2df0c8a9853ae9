"""Making the committed checkpoints: a generator on samples of its space, with a card that says what it can do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from archgen.errors import ArchgenError
from archgen.generators import GENERATORS, Generator, train_generator
from archgen.graph import GraphBatch
from archgen.metrics import validity_uniqueness
from archgen.spaces import SearchSpace


def pretrain_generator(
    space: SearchSpace,
    folder: Path,
    *,
    name: str = "discrete_flow",
    steps: int = 3000,
    batch_size: int = 256,
    seed: int = 0,
    progress: Callable[[Iterator[int]], Iterator[int]] = iter,
    **arguments: Any,
) -> dict[str, float]:
    """Train a generator of a space without labels and write its checkpoint and card.

    Args:
        space: Fresh uniform samples of it are the data.
        folder: Of the checkpoint; replaced.
        name: Registered name of the generator.
        steps: Optimiser steps, at least 1.
        batch_size: Graphs a step.
        seed: Of weights, data and noise.
        progress: Wraps the iterator over steps.
        **arguments: Constructor arguments of the generator.

    Returns:
        Figures of the card: `loss`, `valid` and `unique` (percent of 1,000 samples), `seconds`, `parameters`.

    Raises:
        ArchgenError: `steps` below 1.
    """
    if steps < 1:
        raise ArchgenError(f"expected at least one training step, got {steps}")
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):  # initial weights come from torch's global generator
        torch.manual_seed(seed)
        generator = GENERATORS[name](space.node_domain, space.edge_domain, **arguments)

    def fresh(n: int) -> GraphBatch:
        return space.encode(space.sample(n, rng))

    losses = train_generator(generator, fresh, steps=steps, batch_size=batch_size, seed=seed, progress=progress)
    seconds = time.perf_counter() - start
    figures = {
        "loss": float(np.mean(losses[-100:])),
        **_sample_figures(space, generator),
        "seconds": seconds,
        "parameters": float(sum(p.numel() for p in generator.parameters())),
    }
    facts = {"space": space.name, "steps": steps, "batch_size": batch_size, "seed": seed, "figures": figures}
    generator.save(name, folder, facts, _card(space, name, steps, batch_size, seed, figures))
    return figures


def _sample_figures(space: SearchSpace, generator: Generator) -> dict[str, float]:
    batches = [generator.sample(1000, steps=16, generator=torch.Generator().manual_seed(s)) for s in range(5)]
    each = [validity_uniqueness(space.decode(batch)) for batch in batches]
    return {key: float(np.mean([figures[key] for figures in each])) for key in ("valid", "unique")}


def _card(space: SearchSpace, name: str, steps: int, batch_size: int, seed: int, figures: dict[str, float]) -> str:
    return f"""# {name} generator for {space.name}

- **What**: draws architectures of {space.name} ({space.summary}; arXiv {space.paper}).
- **Data**: uniform samples of the space itself, fresh in every step; no labels.
- **Training**: `archgen train generator --space {space.name} --generator {name} --steps {steps} --seed {seed}`;
  batch {batch_size}, {figures["seconds"]:.0f} s on two CPU cores, {figures["parameters"]:,.0f} parameters.
- **Figures**: loss {figures["loss"]:.3f} (mean of the last 100 steps, nats a graph); of 1,000 unguided samples in 16
  steps, mean over 5 seeds: {figures["valid"]:.1f} % valid without repair, {figures["unique"]:.1f} % unique, drawn
  freely (uniform draws from the whole space give about the same share).
- **Files**: `model.safetensors` (weights and the space's domains), `config.json` (constructor arguments).
- **Licence**: Apache-2.0.
"""
