"""Making the committed generators: training data of a space, its properties, the training, and a card of figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from archgen.conditions import Conditions
from archgen.errors import ArchgenError
from archgen.generators import (
    GENERATORS,
    DiscreteFlow,
    Generator,
    NoisedPredictor,
    OneStep,
    adapt_to_examples,
    train_generator,
    train_noised,
)
from archgen.graph import Architecture, GraphBatch
from archgen.metrics import validity_uniqueness
from archgen.predictors import Predictor
from archgen.spaces import SearchSpace
from archgen.steering import CountedProjector

LISTED = 500_000
"""Spaces of at most so many points are listed, which gives each the same chance; others are sampled."""
POOL = 60_000
EVENLY = 1 / 3
"""Share of the training graphs of a conditional generator that are drawn evenly from the pool."""
Progress = Callable[[Iterator[int]], Iterator[int]]


@dataclass(frozen=True)
class Pool:
    """Training graphs of a space and their properties.

    Args:
        graphs: Clean graphs, `b`.
        scores: Normal scores of their properties, `b x c`.
        properties: What the columns mean.
    """

    graphs: GraphBatch
    scores: Tensor
    properties: Conditions

    def __len__(self) -> int:
        return len(self.graphs)

    def draw(self, n: int, generator: torch.Generator) -> tuple[GraphBatch, Tensor]:
        """Training graphs with repetition, and their properties."""
        picked = torch.randint(len(self), (n,), generator=generator)
        return self.graphs[picked], self.scores[picked]

    def draw_conditioned(self, n: int, generator: torch.Generator) -> tuple[GraphBatch, Tensor]:
        """Training graphs and the properties that are told of them, NaN where left open.

        A third is drawn evenly with every property open, or each with chance one half. The others are drawn evenly
        over the range of one property's normal score, which is told, so that its ends, where wishes lie, are met as
        often as its middle; of the rest, half have nothing else told and half each property with chance one quarter.
        What a graph was drawn by is always told, so the distribution given what is told stays that of the pool.
        """
        b, c = self.scores.shape
        even = torch.rand(n, generator=generator) < EVENLY
        column = torch.randint(c, (n,), generator=generator)
        ranked, order = self._ranked
        low, high = ranked[0, column], ranked[-1, column]
        aim = low + (high - low) * torch.rand(n, generator=generator)
        every = torch.arange(n)
        columns = ranked.T.contiguous()

        def place(values: Tensor, right: bool = False) -> Tensor:
            return torch.searchsorted(columns, values.expand(c, n).contiguous(), right=right)[column, every]

        value = ranked[place(aim).clamp(max=b - 1), column]
        first, last = place(value), place(value, right=True)  # many graphs may have the same parameters
        near = first + ((last - first) * torch.rand(n, generator=generator)).long()
        picked = torch.where(even, torch.randint(b, (n,), generator=generator), order[near.clamp(max=b - 1), column])
        scores = self.scores[picked]
        share = torch.where(even, 0.5, 0.25) * (torch.rand(n, generator=generator) < 0.5)
        told = torch.rand(n, c, generator=generator) < share[:, None]
        told[every, column] |= ~even
        return self.graphs[picked], scores.masked_fill(~told, torch.nan)

    @cached_property
    def _ranked(self) -> tuple[Tensor, Tensor]:
        """Scores of each property in ascending order, and whose they are."""
        sorted_ = self.scores.sort(0)
        return sorted_.values, sorted_.indices

    def conditions(self, n: int, generator: torch.Generator) -> Tensor:
        """Conditions as users give them: parts of real property vectors, single wishes of any height, and none."""
        _, real = self.draw(n, generator)
        part = real.masked_fill(torch.rand(real.shape, generator=generator) < 0.5, torch.nan)
        single = torch.full_like(real, torch.nan)
        column = torch.randint(real.shape[1], (n,), generator=generator)
        single[torch.arange(n), column] = torch.rand(n, generator=generator) * 8 - 4
        kind = torch.rand(n, 1, generator=generator)
        return torch.where(kind < 0.4, part, torch.where(kind < 0.9, single, torch.nan))


def make_pool(space: SearchSpace, predictors: Mapping[str, Predictor], *, size: int = POOL, seed: int = 0) -> Pool:
    """Draw training graphs of a space and predict their properties.

    Args:
        space: Listed where it is small, else sampled uniformly.
        predictors: By metric; the order is that of the property vector.
        size: How many to sample.
        seed: Of the sample.
    """
    archs = training_sample(space, size, seed)
    values = {metric: predictor.predict(archs).mean for metric, predictor in predictors.items()}
    properties = Conditions.fit(values)
    scores = np.stack([properties.normalise(metric, y) for metric, y in values.items()], 1)
    return Pool(space.encode(archs), torch.from_numpy(scores).float(), properties)


def training_sample(space: SearchSpace, size: int = POOL, seed: int = 0) -> list[Architecture]:
    """At most `size` architectures: all or a uniform choice of a space that can be listed, else a sample."""
    rng = np.random.default_rng(seed)
    if space.size > LISTED:
        return space.sample(size, rng)
    archs = space.enumerate()
    return archs if len(archs) <= size else [archs[i] for i in rng.choice(len(archs), size, replace=False)]


def pretrain_generator(
    space: SearchSpace,
    folder: Path,
    *,
    name: str = "discrete_flow",
    pool: Pool | None = None,
    steps: int = 3000,
    batch_size: int = 256,
    seed: int = 0,
    progress: Progress = iter,
    **arguments: Any,
) -> dict[str, float]:
    """Train a generator of a space and write its checkpoint and card.

    Without a pool the data are fresh uniform samples of the space, and the generator takes no condition. With one it is
    trained on the pool's graphs and conditioned on their properties, and a predictor of noised graphs is trained
    with it, for two thirds as many steps of four times the batch.

    Args:
        space: The space.
        folder: Of the checkpoint; replaced.
        name: Registered name of the generator.
        pool: Training graphs with properties.
        steps: Optimiser steps, at least 1.
        batch_size: Graphs a step.
        seed: Of weights, data and noise.
        progress: Wraps the iterator over steps.
        **arguments: Constructor arguments of the generator.

    Returns:
        Figures of the card: `loss`, `valid`, `unique` (percent of 1,000 samples), `seconds`, `parameters`.

    Raises:
        ArchgenError: `steps` below 1.
    """
    if steps < 1:
        raise ArchgenError(f"expected at least one training step, got {steps}")
    kind = GENERATORS[name]
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # initial weights come from torch's global generator
        torch.manual_seed(seed)
        if pool is not None:
            arguments["conditions"] = len(pool.properties.metrics)
        generator: Generator = kind(space.node_domain, space.edge_domain, **arguments)
        noised = None
        if pool is not None:
            noised = NoisedPredictor(space.node_domain, space.edge_domain, pool.properties.metrics)

    def data(n: int) -> tuple[GraphBatch, Tensor | None]:
        return (space.encode(space.sample(n, rng)), None) if pool is None else pool.draw_conditioned(n, order)

    losses = train_generator(generator, data, steps=steps, batch_size=batch_size, seed=seed, progress=progress)
    if noised is not None and pool is not None:
        some = max(2 * steps // 3, 1)
        train_noised(noised, generator, lambda n: pool.draw(n, order), steps=some, batch_size=4 * batch_size, seed=seed)
        generator.noised, generator.properties = noised, pool.properties
    described = (
        "uniform samples of the space itself, fresh in every step; no labels"
        if pool is None
        else _described(space, pool)
    )
    return _finish(space, generator, folder, losses, start, _Made(name, steps, batch_size, seed, described))


def distil(
    space: SearchSpace,
    teacher: Generator,
    pool: Pool,
    folder: Path,
    *,
    samples: int = 100_000,
    teacher_steps: int = 8,
    weight: float = 2.0,
    band: str | None = None,
    cuts: tuple[float, ...] = (-1.0, 1.0),
    steps: int = 3000,
    batch_size: int = 512,
    seed: int = 0,
    progress: Progress = iter,
    **arguments: Any,
) -> dict[str, float]:
    """Train one-step students on samples of a conditional teacher and write their checkpoint and card.

    Args:
        space: The space.
        teacher: A conditional generator of it.
        pool: Of the teacher's properties; the conditions that the teacher is asked come from it.
        folder: Of the checkpoint; replaced.
        samples: Graphs that the teacher draws.
        teacher_steps: Its solver steps.
        weight: Its classifier-free weight, which the students inherit.
        band: Metric whose range the students share out; the first by default.
        cuts: Normal scores between the bands.
        steps, batch_size, seed, progress: As in `pretrain_generator`.
        **arguments: Constructor arguments of `OneStep`.

    Returns:
        As `pretrain_generator`.
    """
    if teacher.properties is None:
        raise ArchgenError(f"the teacher of {space.name} takes no condition; train one with properties")
    start = time.perf_counter()
    order = torch.Generator().manual_seed(seed)
    properties = teacher.properties
    condition = pool.conditions(samples, order)
    projector = None if space.free else space.project
    drawn = [
        teacher.sample(
            len(part), condition=part, weight=weight, projector=projector, steps=teacher_steps, generator=order
        )
        for part in torch.split(condition, 2000)
    ]
    graphs = GraphBatch.cat(drawn)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = OneStep(
            space.node_domain,
            space.edge_domain,
            conditions=len(properties.metrics),
            band=properties.row(band or properties.metrics[0]),
            cuts=cuts,
            **arguments,
        )
    student.start_from(graphs, condition, generator=order)
    student.properties = properties

    def data(n: int) -> tuple[GraphBatch, Tensor | None]:
        picked = torch.randint(samples, (n,), generator=order)
        return graphs[picked], condition[picked]

    losses = train_generator(student, data, steps=steps, batch_size=batch_size, lr=5e-3, seed=seed, progress=progress)
    student.noised = teacher.noised
    described = (
        f"{samples:,} samples of the conditional generator, drawn in {teacher_steps} steps with weight {weight:g}; "
        f"its own data were {_described(space, pool)}"
    )
    return _finish(space, student, folder, losses, start, _Made("one_step", steps, batch_size, seed, described))


def _described(space: SearchSpace, pool: Pool) -> str:
    how = "all" if len(pool) == space.size else "a uniform sample of"
    return f"{how} {len(pool):,} architectures of the space; properties as predicted by the checkpoints"


def adapt(
    space: SearchSpace,
    generator: Generator,
    examples: Sequence[Architecture],
    folder: Path,
    *,
    steps: int = 300,
    seed: int = 0,
    progress: Progress = iter,
) -> dict[str, float]:
    """Adapt a trained flow to a few examples (`adapt_to_examples`) and write its checkpoint and card.

    Args:
        space: The space.
        generator: A trained flow of it; changed in place.
        examples: Architectures that samples shall resemble, at least 2.
        folder: Of the checkpoint; replaced.
        steps, seed, progress: As in `pretrain_generator`.

    Raises:
        ArchgenError: Another kind of generator, too few examples or no steps.
    """
    if not isinstance(generator, DiscreteFlow):
        raise ArchgenError("only a discrete_flow generator can be adapted to examples")
    if len(examples) < 2 or steps < 1:
        raise ArchgenError(f"expected at least 2 examples and one step, got {len(examples)} and {steps}")
    start = time.perf_counter()
    losses = adapt_to_examples(generator, space.encode(examples), steps=steps, seed=seed, progress=progress)
    made = _Made("discrete_flow", steps, 128, seed, f"{len(examples)} examples, to which a trained one is adapted")
    return _finish(space, generator, folder, losses, start, made)


@dataclass(frozen=True)
class _Made:
    """How a generator was made, for its card."""

    name: str
    steps: int
    batch_size: int
    seed: int
    data: str


def _finish(
    space: SearchSpace, generator: Generator, folder: Path, losses: list[float], start: float, made: _Made
) -> dict[str, float]:
    seconds = time.perf_counter() - start
    figures = {
        "loss": float(np.mean(losses[-100:])),
        **_sample_figures(space, generator),
        "seconds": seconds,
        "parameters": float(sum(p.numel() for p in generator.parameters())),
    }
    facts = {"steps": made.steps, "batch_size": made.batch_size, "seed": made.seed}
    generator.save(
        made.name, folder, {"space": space.name, **facts, "figures": figures}, _card(space, figures, made, generator)
    )
    return figures


def _sample_figures(space: SearchSpace, generator: Generator) -> dict[str, float]:
    """Means over 5 seeds of 1,000 unguided samples: valid before the projector, and unique after it, in percent."""
    raw, each = [], []
    for seed in range(5):
        projector = CountedProjector(space)
        noise = torch.Generator().manual_seed(seed)
        batch = generator.sample(1000, projector=None if space.free else projector, generator=noise)
        figures = validity_uniqueness(space.decode(batch))
        raw.append(figures["valid"] if space.free else 100 * projector.share)
        each.append(figures)
    return {
        "valid_raw": float(np.mean(raw)),
        **{key: float(np.mean([figures[key] for figures in each])) for key in ("valid", "unique")},
    }


def _card(space: SearchSpace, figures: dict[str, float], made: _Made, generator: Generator) -> str:
    properties = generator.properties
    asked = "takes no condition"
    if properties is not None:
        asked = f"takes a condition on {', '.join(f'`{metric}`' for metric in properties.metrics)}"
    command = f"--space {space.name} --generator {made.name} --steps {made.steps} --seed {made.seed}"
    size, threads = f"{figures['parameters']:,.0f} parameters", f"{torch.get_num_threads()} thread(s) of a CPU"
    return f"""# {made.name} generator for {space.name}

- **What**: draws architectures of {space.name} ({space.summary}; arXiv {space.paper}); {asked}.
- **Data**: {made.data}.
- **Training**: `archgen train generator {command}`;
  batch {made.batch_size}, {figures["seconds"]:.0f} s with {threads}, {size}.
- **Figures**: loss {figures["loss"]:.3f} (mean of the last 100 steps, nats a graph). Of 1,000 unguided samples, mean
  over 5 seeds: {figures["valid_raw"]:.1f} % valid before the projector and {figures["valid"]:.1f} % after it,
  {figures["unique"]:.1f} % unique, drawn freely (uniform draws from the whole space give about the same share).
- **Files**: `model.safetensors` (weights and the space's domains), `config.json` (constructor arguments, scales of the
  properties).
- **Licence**: Apache-2.0.
"""
