"""Few-shot training with splits by gradient matching (GM-NAS, arXiv 2203.15207, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch

from archgen.artifacts import read_json, write_json
from archgen.data import ImageData
from archgen.errors import InvalidSpace
from archgen.supernets.base import Supernet
from archgen.supernets.split import SplitSupernet, divided_space, split
from archgen.supernets.training.base import Batch, Plan, TrainingStrategy
from archgen.supernets.training.gradient_matching import Cut, best_cut, splittable
from archgen.supernets.training.loop import Schedule
from archgen.supernets.training.standalone import training_batches
from archgen.supernets.training.supernet import train_supernet

REPEATS = 100
"""Batches whose gradients are compared, as in the published code."""


def train_and_split(
    supernet: Supernet,
    make_strategy: Callable[[], TrainingStrategy],
    data: ImageData,
    schedule: Schedule,
    *,
    warm_up: int,
    splits: int,
    seed: int,
    repeats: int = REPEATS,
    checkpoint: Path | None = None,
    train: Callable[..., None] = train_supernet,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    on_cut: Callable[[Cut | None], None] | None = None,
) -> tuple[Supernet, TrainingStrategy]:
    """Warm a supernet up, split it where gradients disagree, train what it became; and again for each split.

    Each round is a training of its own, with a new rate and new momenta, that begins with the weights of the one
    before (the paper's restart). A round trains all parts at once, so that each step costs the same and each part gets
    the share of steps that its architectures have; the paper trains each sub-supernet as long as another would the
    whole. The last round is as long as `schedule` says, the earlier ones `warm_up` epochs.

    Args:
        supernet: Trained in place up to the first split.
        make_strategy: A new strategy for each round.
        data: The images.
        schedule: Of the last round.
        warm_up: Epochs before each split, at least 1.
        splits: How often all parts are split in two; a part in which no variable can be split stays whole.
        seed: Of each round, and of the gradients' paths.
        repeats: Batches whose gradients are compared.
        checkpoint: As in `train_supernet`; beside it each earlier round leaves its own, and its cuts.
        train: `train_supernet`, perhaps with other arguments; trains each round.
        on_epoch: As in `train_supernet`; its number goes on from round to round.
        on_cut: Called with the cut of each part; None where it stays whole.

    Returns:
        The trained supernet, and the strategy of its last round.

    Raises:
        InvalidSpace: As in `check_splits`.
        ArchgenError: As in `train`.
    """
    if splits:
        check_splits(supernet, make_strategy())  # before hours of warming up
    for number in range(splits + 1):
        last, strategy = number == splits, make_strategy()
        train(
            supernet,
            strategy,
            data,
            schedule if last else replace(schedule, epochs=warm_up),
            seed=seed + number,
            checkpoint=checkpoint if last else _beside(checkpoint, f"round{number}.safetensors"),
            on_epoch=None if on_epoch is None else _continued(on_epoch, number * warm_up),
        )
        if not last:
            cuts = _cuts(supernet, data, repeats, seed + number, _beside(checkpoint, f"round{number}.json"))
            supernet = _divided(supernet, iter(cuts))
            if on_cut is not None:
                for cut in cuts:
                    on_cut(cut)
    return supernet, strategy


def check_splits(supernet: Supernet, strategy: TrainingStrategy) -> None:
    """Refuse a space that can not be split, and a strategy that can not train what is.

    Raises:
        InvalidSpace: No variable of the space can be split, or the strategy trains no split supernet.
    """
    variable = splittable(supernet.space)[0]
    first, *others = range(len(supernet.space.variables[variable]))
    trial = SplitSupernet(supernet.space, variable, [[first], others], [supernet, supernet])
    try:
        strategy.prepare(trial, Plan(1, 1, 1))
    except InvalidSpace:
        name = type(strategy).__name__
        raise InvalidSpace(
            f"{name} can not train a supernet that is split; leave --splits out, or use 'uniform'"
        ) from None


def _cuts(supernet: Supernet, data: ImageData, repeats: int, seed: int, path: Path | None) -> list[Cut | None]:
    """Variable and groups of each part that is whole, in order; as the file says where there is one."""
    if path is not None and path.exists():
        return [None if cut is None else _read(**cut) for cut in read_json(path)]
    device = next(supernet.parameters()).device
    drawn, rng = _endless(data, seed, device), np.random.default_rng(seed)
    found: list[Cut | None] = []
    for part in whole_parts(supernet):
        try:
            cut = best_cut(part, list(islice(drawn, repeats)), rng)
            divided_space(part.space, cut.variable, cut.groups)  # a group may leave a single architecture
        except InvalidSpace:
            if part is supernet:
                raise
            found.append(None)
            continue
        found.append(cut)
    if path is not None:
        write_json(path, [None if cut is None else asdict(cut) for cut in found])
    return found


def _read(variable: str, groups: Sequence[Sequence[int]], distance: float) -> Cut:
    first, second = map(tuple, groups)
    return Cut(variable, (first, second), distance)


def whole_parts(supernet: Supernet) -> list[Supernet]:
    """The parts of a supernet that are not split themselves, in order; itself where it is not."""
    if not isinstance(supernet, SplitSupernet):
        return [supernet]
    return [whole for part in supernet.parts for whole in whole_parts(part)]  # type: ignore[arg-type]


def _divided(supernet: Supernet, cuts: Iterator[Cut | None]) -> Supernet:
    """The supernet with each of its whole parts split by the next cut."""
    if isinstance(supernet, SplitSupernet):
        parts = [_divided(part, cuts) for part in supernet.parts]  # type: ignore[arg-type]
        return SplitSupernet(supernet.space, supernet.variable, supernet.groups, parts)
    cut = next(cuts)
    return supernet if cut is None else split(supernet, cut.variable, cut.groups)


def _endless(data: ImageData, seed: int, device: torch.device) -> Iterator[Batch]:
    batches = training_batches(data)
    for epoch in count():
        for x, y in batches.draw(torch.Generator().manual_seed(seed * 100_003 + epoch)):
            yield x.to(device), y.to(device)


def _beside(checkpoint: Path | None, name: str) -> Path | None:
    return None if checkpoint is None else checkpoint.with_name(f"{checkpoint.stem}.{name}")


def _continued(
    on_epoch: Callable[[int, dict[str, float]], None], before: int
) -> Callable[[int, dict[str, float]], None]:
    return lambda number, losses: on_epoch(before + number, losses)
