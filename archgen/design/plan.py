"""How long a design will take, and what of it fits into a time limit."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from archgen.data import ImageData
from archgen.design.latency import MeasuredHere, networks
from archgen.design.request import LEAST_MEASURED, MEMORY, DesignRequest
from archgen.fields import check_fields
from archgen.graph import Architecture
from archgen.peak_memory import peak_memory_mb
from archgen.predictors.counts import Count
from archgen.strategies.base import FITTED
from archgen.study import Trial
from archgen.supernets import Supernet
from archgen.supernets.training import Plan, Schedule, TrainingStrategy, Updates
from archgen.supernets.training.standalone import training_batches
from archgen.supernets.training.updates import image_format
from archgen.threads import rounds, shared, single_threaded, torch_threads

if TYPE_CHECKING:
    from archgen.design.pipeline import Design

MEASURING = 0.2
"""Share of a time limit that measuring latencies, and memory, may take."""
SHARES = {"supernet": 0.5, "search": 0.2, "final": 0.3}
"""Of the time that a limit leaves after the latencies and exports."""
LEAST_FINALISTS = 3
"""As many are fine-tuned for fewer epochs before fewer are."""
SLOWED = 1.5
"""Times that a training takes while others have the other cores: two gain 1.3, not 2.

Measured by `experiments/finetune_processes.py`.
"""
START = 8.0
"""Seconds until processes have imported torch and the exporter and give the first network.

On two cores measuring took 8 to 12 more than its exports and measurements in designs of digits, 6 in one of
CIFAR-10 images.
"""
TRIES = 3
TRADED = 0.3
"""Noise of made-up results beside a trade-off of range 1: of 150 and 300 for two wishes 19 and 24 are on the front. Of
those of an hour on CIFAR-10 14 and 23 were, of uniform ones 3 and 5."""
DRAWN, FINALIST, MEDIAN = 40, 0.75, 0.5
"""Random architectures, and the quantile of their FLOPs that finalists have: those of three designs of digits had more
than 65, 73 and 77 % of random ones. A Pareto set has networks of all sizes, so the median stands for it."""


@dataclass(frozen=True)
class Costs:
    """Seconds of one of each.

    Args:
        export: Of a network as ONNX.
        measurement: Of an exported network's latency; 0 where latencies are given.
        epoch: Of the supernet's training.
        evaluation: Of an architecture by inherited weights, the strategy's proposal included.
        finetune_epoch: Of a network as large as finalists are, with the threads that its fine-tuning has.
    """

    export: float
    measurement: float
    epoch: float
    evaluation: float
    finetune_epoch: float

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Timetable:
    """What will be done and how long it is expected to take.

    Args:
        epochs, budget, finetune_epochs, measured: As in the request, or less.
        finetuned: Networks that are fine-tuned at most, finalists or those of a Pareto set.
        seconds: Expected, by stage.
    """

    epochs: int
    budget: int
    finetune_epochs: int
    measured: int
    finetuned: int
    seconds: dict[str, float]

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def probe(design: Design, supernet: Supernet, strategy: TrainingStrategy) -> Costs:
    """Time a few steps of everything.

    Args:
        design: Of which the costs are.
        supernet, strategy: Fresh ones: the steps that are timed change them.
    """
    space, request, data, source = design.space, design.request, design.data, design.source
    evaluator = design.evaluator(supernet)
    batches = training_batches(data)
    generator = torch.Generator().manual_seed(request.seed)
    images, labels = next(iter(batches.draw(generator)))
    stored = image_format(images.device)
    batch = images.contiguous(memory_format=stored), labels  # as in a training
    strategy.prepare(supernet, Plan(len(data.train), batches.steps, request.epochs))
    strategy.order(generator)
    rng = np.random.default_rng(request.seed)
    supernet.train().to(memory_format=stored)  # type: ignore[call-overload]
    step = _seconds(lambda: strategy.step(supernet, batch, rng))
    archs = space.sample(TRIES, rng)
    network, finalist = networks(space, [archs[0], like_a_finalist(design)], design.network, request.seed)
    evaluation = statistics.median(_seconds(partial(evaluator.evaluate, [arch], seed=0), 1) for arch in archs)
    example = space.example_input(1, **design.network)
    peak_memory_mb(nn.Flatten(), example)  # what the exporter takes to start is not paid for each network
    export = _seconds(lambda: peak_memory_mb(network, example), 1)
    measurement = source.meter.rounds * source.meter.block_ms / 1000 if isinstance(source, MeasuredHere) else 0.0
    evaluation += ask_seconds(design)
    with torch_threads(shared(request.finetuned, design.processes)[0]):
        finetune_epoch = epoch_seconds(finalist, data)
    return Costs(export, measurement, step * batches.steps, evaluation, finetune_epoch)


def like_a_finalist(design: Design) -> Architecture:
    """A random architecture with about as many FLOPs as those will have that are fine-tuned.

    Args:
        design: Its space, network arguments and seed, and whether it asks for a Pareto set.
    """
    space, request = design.space, design.request
    archs = space.sample(DRAWN, np.random.default_rng(request.seed))
    flops = Count(space, "flops", design.network).predict(archs).mean
    place = int((MEDIAN if request.minimize else FINALIST) * DRAWN)
    return archs[int(np.argsort(flops, kind="stable")[place])]


def ask_seconds(design: Design) -> float:
    """Seconds of the strategy's proposal, an architecture, when its models know half of the budget's results.

    The results are made up. How long a fit takes depends little on what they are, how long a choice takes on how many
    of them are on the front: so what is good at one wish is bad at others, as in a real search.

    Args:
        design: Its space, wishes and strategy.
    """
    request, strategy = design.request, design.proposer()
    rng, batch = np.random.default_rng(request.seed), min(request.batch, request.budget)
    archs = design.space.sample(batch + min(request.budget, FITTED) // 2, rng)
    wishes = request.directions
    shares = rng.dirichlet(np.ones(len(wishes)), len(archs)) + TRADED * rng.random((len(archs), len(wishes)))
    shares = np.where([wish.sign > 0 for wish in wishes], shares, 1 + TRADED - shares)  # no metric is below 0
    values = [dict(zip((wish.metric for wish in wishes), map(float, row), strict=True)) for row in shares]
    trials = [Trial(i, arch, known, 0.0) for i, (arch, known) in enumerate(zip(archs, values, strict=True))]
    with single_threaded():
        strategy.tell(trials[:-batch])
        strategy.ask(batch)  # hyperparameters are found anew in few of the asks
        strategy.tell(trials[-batch:])
        return _seconds(lambda: strategy.ask(batch), 1) / batch


def epoch_seconds(network: nn.Module, data: ImageData, teacher: nn.Module | None = None) -> float:
    """Seconds of an epoch of training a network alone, from a few steps of a copy.

    Args:
        network: Maps `b x c x h x w` to logits `b x classes`; it stays as it is.
        data: Whose training part is the epoch.
        teacher: Runs forward for the same images, in evaluation mode, which it is left in; or None.
    """
    batches, copy = training_batches(data), deepcopy(network).train()
    updates = Updates(copy, Schedule(1).optimizer(copy))
    drawn = cycle(batches.draw(torch.Generator().manual_seed(0)))

    def step() -> None:
        updates.clear()
        images, labels = updates.batch(next(drawn))
        if teacher is not None:
            with torch.no_grad():
                teacher.eval()(images)
        F.cross_entropy(copy(images), labels).backward()  # type: ignore[no-untyped-call]
        updates.apply(clip=1.0)

    return _seconds(step) * batches.steps


def _seconds(work: Callable[[], object], times: int = TRIES) -> float:
    """Least of a few runs, the first of several not counted: what else a machine does for a moment only adds."""
    spent = []
    for _ in range(times + (times > 1)):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return min(spent[times > 1 :])


def timetable(request: DesignRequest, costs: Costs, processes: int = 1) -> Timetable:
    """The whole request, or what of it the time limit allows.

    Args:
        request: What is asked for.
        costs: Of its parts.
        processes: That export, and fine-tune, at the same time.
    """
    whole = _table(request, costs, processes)
    if request.time_limit is None or whole.total <= request.time_limit:
        return whole
    started = _started(request, processes)
    each = (whole.seconds["latency"] - started) / request.measured
    allowed = int((MEASURING * request.time_limit - started) / max(each, 1e-9))
    measured = max(LEAST_MEASURED, min(request.measured, allowed))
    left = request.time_limit - measured * each - started

    def fits(wanted: int, seconds: float, share: float) -> int:
        return max(1, min(wanted, int(share * left / max(seconds, 1e-9))))

    if not request.minimize:
        alone = request.finetune_epochs * costs.finetune_epoch
        finalists = processes * fits(request.finalists, alone * _slowed(request, processes), SHARES["final"])
        request = replace(request, finalists=min(max(finalists, LEAST_FINALISTS), request.finalists))
    left -= _finishing(request, costs, processes)
    smaller = replace(
        request,
        measured=measured,
        epochs=fits(request.epochs, costs.epoch, SHARES["supernet"]),
        budget=fits(request.budget, costs.evaluation, SHARES["search"]),
        finetune_epochs=fits(request.finetune_epochs, _epoch(request, costs, processes), SHARES["final"]),
    )
    return _table(smaller, costs, processes)


def _epoch(request: DesignRequest, costs: Costs, processes: int) -> float:
    """Seconds of an epoch of fine-tuning all."""
    return rounds(request.finetuned, processes) * costs.finetune_epoch * _slowed(request, processes)


def _slowed(request: DesignRequest, processes: int) -> float:
    return SLOWED if min(request.finetuned, processes) > 1 else 1.0


def _started(request: DesignRequest, processes: int) -> float:
    """Seconds until processes have begun to export what is to be measured."""
    return START if processes > 1 and request.latency is None else 0.0


def _finishing(request: DesignRequest, costs: Costs, processes: int) -> float:
    """Seconds of measuring what is fine-tuned and of exporting what is handed over."""
    each = (costs.export / processes + costs.measurement) * (request.latency is None)
    each += costs.export * (MEMORY in request.metrics)
    handed_over = request.networks if request.minimize else 1
    return request.finetuned * each + _started(request, processes) + handed_over * costs.export


def _table(request: DesignRequest, costs: Costs, processes: int) -> Timetable:
    latency = request.measured * (costs.export / processes + costs.measurement) * (request.latency is None)
    latency += _started(request, processes)
    latency += request.measured * costs.export * (MEMORY in request.metrics)
    final = request.finetune_epochs * _epoch(request, costs, processes) + _finishing(request, costs, processes)
    seconds = {
        "latency": latency,
        "supernet": request.epochs * costs.epoch,
        "search": request.budget * costs.evaluation,
        "final": final,
    }
    counts = request.epochs, request.budget, request.finetune_epochs, request.measured, request.finetuned
    return Timetable(*counts, seconds)
