"""The stages of a design: each leaves a file and is skipped when that is there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from archgen import artifacts, spaces
from archgen.data import ImageData
from archgen.design.choosing import JOINED
from archgen.design.delivery import deliver
from archgen.design.finetuning import forget
from archgen.design.latency import LatencySource, MeasuredElsewhere, MeasuredHere
from archgen.design.metrics import check_reachable, counts, exact_memory, percentiles, predictors, within
from archgen.design.plan import Costs, Timetable, probe, timetable
from archgen.design.reporting import LATENCIES, RESULT, TRIALS, write
from archgen.design.request import DesignRequest
from archgen.errors import RunConflict
from archgen.evaluators import Annotated, Cluster, Evaluator, Parallel, SupernetEvaluator, image_network
from archgen.fields import fits
from archgen.graph import Architecture
from archgen.hardware import LatencyMeasurement
from archgen.inheritance import CALIBRATION
from archgen.predictors import Predictor
from archgen.progress import Progress
from archgen.proxies import PROXIES
from archgen.report.verdict import seconds_in_words
from archgen.run_folder import RunFolder
from archgen.sampler import has_generator
from archgen.spaces import SearchSpace
from archgen.strategies import STRATEGIES, SearchStrategy, pretrained_parts
from archgen.strategies.base import Screen
from archgen.study import Study, Trial, search
from archgen.supernets import Supernet, make_supernet
from archgen.supernets.training import (
    EndTraining,
    Sandwich,
    Schedule,
    TrainingStrategy,
    default_strategy,
    train_supernet,
)
from archgen.threads import single_threaded

SUPERNET, STUDY = "supernet.safetensors", "study.db"
SMALL_NETWORK = {"cells": 1, "channels": 16}
"""Of published spaces of cells, whose own networks are made for large sets of images."""
STAGES = frozenset(("latency", "supernet", "search", "final"))
"""That time is planned for."""
LONG = 60.0
"""Seconds of a search that processes are started for: their start takes up to ten."""


def network_of(request: DesignRequest, space: SearchSpace, data: ImageData) -> dict[str, int]:
    """Arguments of the networks; raises `InvalidData` where the space's networks do not read such images."""
    cells = space.name in spaces.available() and "cells" in space.network_defaults
    return image_network(space, data, request.network or (SMALL_NETWORK if cells else {}))


def strategy_name(request: DesignRequest, space: SearchSpace) -> str:
    """Name of the search strategy; a published space has a generator, or its checkpoint is missing."""
    generates = request.generator or space.origin in spaces.available() or has_generator(space)
    return request.strategy or ("generative" if generates else "bayes")


Planned = TypeVar("Planned", Timetable, Costs)


class Design:
    """One run.

    Args:
        run: Its folder.
        request: What to design.
        data: The images.
        progress: Shows how far it is.
        cluster: Where the search evaluates; None: here.
        processes: For what can be done at the same time; see `design`.
        since: When it began, by `time.monotonic`, which a time limit counts from; None: now.
    """

    costs: Costs
    """Of the parts of what is planned; there once `plan` was asked."""

    def __init__(
        self,
        run: RunFolder,
        request: DesignRequest,
        data: ImageData,
        progress: Progress | None = None,
        cluster: Cluster | None = None,
        processes: int = 1,
        since: float | None = None,
    ) -> None:
        since = time.monotonic() if since is None else since
        self.folder, self.request, self.data, self.progress = run, request, data, progress or Progress()
        self.cluster, self.processes = cluster, processes
        self.space = spaces.for_images(request.space, data.image_size)
        self.network = network_of(request, self.space, data)
        self.source: LatencySource = (
            MeasuredHere(self.space, request, self.network, run.file(LATENCIES), self.progress, processes)
            if request.latency is None
            else MeasuredElsewhere(self.space, Path(request.latency), request.seed)
        )
        spent = sum(run.seconds.values())
        self._end = float("inf") if request.time_limit is None else since + request.time_limit - spent

    @property
    def strategy(self) -> str:
        """Name of the search strategy."""
        return strategy_name(self.request, self.space)

    @property
    def left(self) -> float:
        """Seconds until the time limit."""
        return self._end - time.monotonic()

    def run(self) -> dict[str, Any]:
        """All stages; returns the result as JSON types."""
        self.progress.note(self.data.describe())
        check_reachable(self.space, self.request, counts(self.space, self.network))  # costs nothing: before the rest
        with self.folder.stage("plan"):
            plan = self.plan()
        with self.folder.stage("latency"):
            known = self.predictors(plan)
            self.request = self._with_percentiles(known)
            check_reachable(self.space, self.request, known)
        with self.folder.stage("supernet"):
            supernet = self.supernet(plan)
        with self.folder.stage("search"):
            study = self.search(plan, supernet, known)
        with self.folder.stage("final"):
            result = deliver(self, plan, study, supernet, known)
        result["seconds"] = {**self.folder.seconds, "total": sum(self.folder.seconds.values())}
        write(self.folder, result, self.space)
        forget(self.folder)
        artifacts.write_json(self.folder.file(RESULT), result)  # last: a run with a result is finished
        return result

    def plan(self) -> Timetable:
        """What there is time for, told before it is spent.

        Raises:
            RunConflict: Another version of archgen made the plan that is in the folder.
        """
        facts = self.folder.state["facts"]
        if "plan" not in facts:
            strategy, supernet = self._untrained()
            costs = probe(self, supernet, strategy)
            facts["costs"] = asdict(costs)
            facts["plan"] = timetable(self.request, costs, self.processes).to_json()
            self.folder.save()
        plan = self._planned(Timetable, "plan")
        if not plan.seconds.keys() >= STAGES:
            raise RunConflict(f"{self.folder.path} was planned by another version of archgen; start a new run")
        self.costs = self._planned(Costs, "costs")
        parts = ", ".join(f"{stage} {seconds_in_words(seconds)}" for stage, seconds in plan.seconds.items())
        self.progress.note(f"this will take about {seconds_in_words(plan.total)} ({parts})")
        named = {"measured": "latencies", "epochs": "epochs", "budget": "evaluations"}
        named["finetune_epochs"] = "epochs of fine-tuning"
        done = {name: getattr(plan, name) for name in named}
        fewer = [f"{n} {named[name]}" for name, n in done.items() if n < getattr(self.request, name)]
        if fewer:
            self.progress.note(f"the time limit allows {', '.join(fewer)}")
        if (limit := self.request.time_limit) is not None and plan.total > limit:
            least, given = seconds_in_words(plan.total), seconds_in_words(limit)
            self.progress.note(f"the least that can be done takes about {least}, more than the time limit of {given}")
        return plan

    def _planned(self, kind: type[Planned], name: str) -> Planned:
        try:
            return kind(**self.folder.state["facts"][name])
        except (KeyError, TypeError) as error:
            raise RunConflict(
                f"{self.folder.path} was planned by another version of archgen ({error}); start a new run"
            ) from None

    # -- latency ------------------------------------------------------------------------------------------------------

    def predictors(self, plan: Timetable) -> dict[str, Predictor]:
        """Measure, or read, latencies; what predicts each metric."""
        if isinstance(self.source, MeasuredHere):
            self.source.learn(plan.measured)
        self.folder.state["facts"] |= self.source.facts
        self.folder.save()
        held_out = self.source.facts["latency_predictor"]
        rho, n = held_out.get("rho", float("nan")), held_out["n_test"]
        self.progress.note(f"latency predictor: held-out rho {rho:.3f} on {n} architectures")
        request = replace(self.request, measured=plan.measured)
        return predictors(self.space, request, self.network, self.source, self.folder.path, self.progress)

    def _with_percentiles(self, known: dict[str, Predictor]) -> DesignRequest:
        """The request with percentages of bounds as values too, which the run keeps: they stay what they were."""
        facts, percents, at_most = self.folder.state["facts"], self.request.at_most_percent, dict(self.request.at_most)
        values = facts.get("percentiles")
        if not (fits(values, dict[str, float]) and values.keys() == percents.keys()):
            values = facts["percentiles"] = percentiles(self.space, self.request, known)
            self.folder.save()
        for metric, value in values.items():
            self.progress.note(
                f"the bound is {metric} at most {value:.4g}: {percents[metric]:g} % of random architectures meet it"
            )
            at_most[metric] = min(value, at_most.get(metric, value))
        return replace(self.request, at_most=at_most)

    def measure(self, archs: Sequence[Architecture]) -> list[LatencyMeasurement]:
        """Latency of networks for one image."""
        return self.source.measure(archs)

    def memory(self, archs: Sequence[Architecture]) -> list[float]:
        """Exact memory of networks for one image, MB."""
        return [exact_memory(self.space, arch, self.network, self.request.seed) for arch in archs]

    # -- supernet -----------------------------------------------------------------------------------------------------

    def _untrained(self) -> tuple[TrainingStrategy, Supernet]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.request.seed)
            supernet = make_supernet(self.space, **self.network)
            strategy = default_strategy(supernet)
            strategy.begin(supernet)
        return strategy, supernet

    def supernet(self, plan: Timetable) -> Supernet:
        """Train the supernet, or read it."""
        strategy, supernet = self._untrained()
        needed = plan.seconds["search"] + plan.seconds["final"]

        with self.progress.bar("training the supernet", plan.epochs) as bar:

            def show(epoch: int, losses: dict[str, float]) -> None:
                bar.update(1, **losses)
                self.folder.book()
                if self.left < needed and epoch < plan.epochs:
                    self.progress.note("the time limit ends the training of the supernet early")
                    self.folder.state["facts"]["trained_epochs"] = epoch
                    self.folder.save()
                    raise EndTraining

            train_supernet(
                supernet,
                strategy,
                self.data,
                Schedule(epochs=plan.epochs),
                seed=self.request.seed,
                checkpoint=self.folder.file(SUPERNET),
                on_epoch=show,
            )
        return supernet

    # -- search ---------------------------------------------------------------------------------------------------

    def search(self, plan: Timetable, supernet: Supernet, known: dict[str, Predictor]) -> Study:
        """The loop: strategy, evaluator by inherited weights, Optuna study in the folder."""
        measuring: Evaluator = self.evaluator(supernet)
        # no more than a batch has, or the batch and with it the trials would depend on the machine
        at_once = min(self.processes, self.request.batch)
        if self.cluster is not None:
            measuring = Parallel(measuring, workers=self.cluster.slots(), executor=self.cluster.executor)
        elif at_once > 1 and plan.seconds["search"] > LONG:
            measuring = Parallel(measuring, workers=at_once, threads=1)
        evaluator = Annotated(measuring, known)
        study = Study(self.space, self.request.objectives, storage=self.folder.file(STUDY), resume=True)
        strategy = self.proposer(lambda archs: within(archs, self.request, known))
        ahead = plan.seconds["search"] + plan.seconds["final"]
        # Where the stages before took longer than planned, search and fine-tuning share what is left.
        reserved = min(1.0, self.left / max(ahead, 1e-9)) * plan.seconds["final"]
        with self.progress.bar("searching", plan.budget) as bar, single_threaded(), closing(evaluator):
            bar.update(len(study.trials))
            best = 0.0

            def show(trial: Trial) -> None:
                nonlocal best
                best = max(best, trial.values.get("val_acc", 0.0))
                bar.update(best=best)
                self.folder.book()

            while len(study.trials) < plan.budget:
                before, some = len(study.trials), max(self.request.batch, evaluator.workers)
                search(
                    study,
                    strategy,
                    evaluator,
                    budget=plan.budget if self.request.time_limit is None else min(before + some, plan.budget),
                    batch=some,
                    seed=self.request.seed,
                    on_trial=show,
                )
                if len(study.trials) == before or self.left < reserved:
                    break
        frame = study.to_frame(evaluator.metrics)
        artifacts.write_atomic(self.folder.file(TRIALS), lambda p: frame.to_parquet(p, index=False))
        return study

    def proposer(self, screen: Screen | None = None) -> SearchStrategy:
        """The strategy of the search; the bounds are known before paying, so the screen enforces them."""
        kind = STRATEGIES[self.strategy]
        return kind(
            self.space,
            self.request.directions,
            seed=self.request.seed,
            screen=screen,
            key=self.space.canonical,
            **pretrained_parts(kind, self.space, generator=self.request.generator),
        )

    def evaluator(self, supernet: Supernet) -> SupernetEvaluator:
        """Scores by inherited weights on the validation images; proxies where single paths are trained, as `ranked`."""
        part = self.data.validation
        proxies = () if isinstance(default_strategy(supernet), Sandwich) else tuple(PROXIES[name]() for name in JOINED)
        shown = self.data.train.images[:CALIBRATION]
        return SupernetEvaluator(supernet, shown, part.images, part.labels, proxies=proxies)
