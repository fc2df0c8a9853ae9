"""`archgen design`: from images and a latency bound to a trained network, with everything in one resumable folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from archgen import artifacts, spaces
from archgen.data import ImageData, load_data
from archgen.design.delivery import deliver
from archgen.design.request import DesignRequest
from archgen.errors import Infeasible, InvalidArchitecture, RunConflict
from archgen.evaluators import Annotated, SupernetEvaluator
from archgen.graph import Architecture
from archgen.hardware import LatencyMeasurement, OnnxLatency
from archgen.objectives import maximize
from archgen.predictors import Predictor
from archgen.predictors.counts import Count
from archgen.predictors.latency import LatencyPredictor
from archgen.progress import Progress
from archgen.report import write_report
from archgen.run_folder import RunFolder
from archgen.strategies import STRATEGIES, pretrained_parts
from archgen.study import Study, Trial, search
from archgen.supernets import Supernet, make_supernet
from archgen.supernets.training import Schedule, default_strategy, train_supernet
from archgen.tables import read_table
from archgen.threads import single_threaded

LATENCIES = "latency.parquet"
SUPERNET = "supernet.safetensors"


def design(
    request: DesignRequest, out: Path, *, resume: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Run, or go on with, the whole pipeline.

    Args:
        request: What to design; ignored (read from the folder) when resuming.
        out: The run folder; new or empty, or that of the run to resume.
        resume: Whether to go on with the run in `out`.
        progress: Shows how far it is.

    Returns:
        The result as JSON types, as `archgen design --json` prints it.

    Raises:
        ArchgenError: Bad data, an unknown name, a bound that nothing can meet, a folder with another run.
    """
    progress = progress or Progress()
    if not resume:
        _check(request)
        data = load(request)
        run = RunFolder.create(out, asdict(request))
        try:
            return Design(run, request, data, progress).run()
        except Infeasible:
            if not run.file(SUPERNET).exists():  # asked for too much: the same command with another bound must work
                shutil.rmtree(out)
            raise
    run = RunFolder.open(out)
    try:
        request = DesignRequest(**run.state["request"])
    except TypeError as error:
        raise RunConflict(f"{out} was made by another version of archgen ({error}); start a new run") from None
    if run.file("result.json").exists():
        result: dict[str, Any] = artifacts.read_json(run.file("result.json"))
        return result
    _check(request)
    return Design(run, request, load(request), progress).run()


def _check(request: DesignRequest) -> None:
    """A wrong name or a damaged checkpoint must not leave a folder behind, nor show after the training only."""
    space = spaces.load(request.space)
    pretrained_parts(STRATEGIES[request.strategy], space)


def load(request: DesignRequest) -> ImageData:
    """The images of a request."""
    return load_data(request.data, seed=request.seed, resize=request.resize, limit=request.limit)


class Design:
    """The stages of one run; each leaves a file and is skipped when that file is there."""

    def __init__(
        self, run: RunFolder, request: DesignRequest, data: ImageData, progress: Progress | None = None
    ) -> None:
        self.folder, self.request, self.data, self.progress = run, request, data, progress or Progress()
        self.space = spaces.load(request.space)
        self.shape = (data.in_channels, data.image_size, data.image_size)
        self.network = {
            "cells": request.cells,
            "channels": request.channels,
            "classes": len(data.classes),
            "in_channels": data.in_channels,
            "image_size": data.image_size,
        }
        self.device = self._device()

    def run(self) -> dict[str, Any]:
        self.progress.note(self.data.describe())
        counts: dict[str, Predictor] = {m: Count(self.space, m, self.network) for m in ("params", "flops")}
        with self.folder.stage("latency"):
            self._check_reachable(counts)  # these cost nothing: before anything is measured
            self.latency_model = self.latency()
            predictors = {"latency_ms": self.latency_model, **counts}
            self._check_reachable(predictors)
        with self.folder.stage("supernet"):
            supernet = self.supernet()
        with self.folder.stage("search"):
            study = self.search(supernet, predictors)
        with self.folder.stage("final"):
            result = deliver(self, study, supernet, predictors)
        result["seconds"] = {**self.folder.seconds, "total": sum(self.folder.seconds.values())}
        self._report(result, study)
        artifacts.write_json(self.folder.file("result.json"), result)  # last: a run with a result is finished
        return result

    def _report(self, result: dict[str, Any], study: Study) -> None:
        frame = study.to_frame()
        arch = self.space.parse(result["winner"]["arch"])
        table = read_table(self.folder.file(LATENCIES))
        fit = {
            "measured": table["latency_ms"].tolist(),
            "predicted": self.latency_model.predict([self.space.parse(a) for a in table["arch"]]).mean.tolist(),
            "rho": result["latency_predictor"].get("rho"),  # none where all that was held out is equal
        }
        write_report(self.folder.file("report.html"), result, frame, arch, self.space.computation(arch), fit)

    # -- latency ----------------------------------------------------------------------------------------------------

    def _device(self) -> OnnxLatency:
        """The runtime with one reference for the whole run, so that early and late measurements can be compared."""
        archs = self._to_measure()
        table = self._measured()
        earlier = None if table is None else float(table["reference_ms"].iloc[0])
        (reference,) = self._build(archs[len(archs) // 2 : len(archs) // 2 + 1])
        return OnnxLatency(self.shape, threads=self.request.threads, reference=reference, reference_ms=earlier)

    def _measured(self) -> pd.DataFrame | None:
        """The latencies that this run has measured, None before it has."""
        path = self.folder.file(LATENCIES)
        if not path.exists():
            return None
        table = read_table(path, expected="measured latencies", mend="remove it to measure anew")
        try:
            archs = [self.space.parse(text) for text in table["arch"]]
            if not archs or not (table[["latency_ms", "reference_ms"]].to_numpy(dtype=float) > 0).all():
                raise ValueError("not a latency in each row")
        except (ValueError, KeyError, InvalidArchitecture) as error:
            reason = " ".join(str(error).split())[:120]
            raise RunConflict(f"{path} is of another version ({reason}); remove it to measure anew") from None
        return table

    def latency(self) -> LatencyPredictor:
        """Measure about 40 architectures and fit the predictor."""
        table = self._measured()
        if table is None:
            archs = self._to_measure()
            rows = [asdict(measured) for measured in self.measure(archs)]
            table = pd.DataFrame([{"arch": self.space.format(a), **row} for a, row in zip(archs, rows, strict=True)])
            table["reference_ms"] = self.device.reference_ms
            frame = table
            artifacts.write_atomic(self.folder.file(LATENCIES), lambda p: frame.to_parquet(p, index=False))
        archs, y = [self.space.parse(text) for text in table["arch"]], table["latency_ms"].to_numpy(dtype=float)
        predictor = LatencyPredictor(self.space, "latency_ms")
        held_out = predictor.holdout(archs, y, seed=self.request.seed)
        self.folder.state["facts"]["latency_predictor"] = {k: v for k, v in held_out.items() if np.isfinite(v)}
        self.folder.state["facts"]["device"] = self.device.device.to_json()
        self.folder.save()
        self.progress.note(
            f"latency predictor: held-out rho {held_out['rho']:.3f} on {held_out['n_test']} architectures"
        )
        predictor.fit(archs, y)
        return predictor

    def measure(self, archs: Sequence[Architecture]) -> list[LatencyMeasurement]:
        """Latency of the simplified networks with fresh weights; values do not change how long a network takes."""
        keys = [self.space.format(self.space.simplify(arch)) for arch in archs]
        return self.device.measure(self._build(archs), seed=self.request.seed, keys=keys, progress=self.progress)

    def _build(self, archs: Sequence[Architecture]) -> list[nn.Module]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.request.seed)
            return [self.space.build(self.space.simplify(arch), **self.network).eval() for arch in archs]

    def _to_measure(self) -> list[Architecture]:
        """Distinct architectures at equal steps of FLOPs, so that the fit sees the whole range."""
        rng = np.random.default_rng(self.request.seed)
        distinct = {self.space.canonical(a): a for a in self.space.sample(40 * self.request.measured, rng)}
        flops = Count(self.space, "flops", self.network)
        archs = [a for a in distinct.values() if self.space.computation(a).edges]
        order = np.argsort(flops.predict(archs).mean, kind="stable")
        places = np.linspace(0, len(archs) - 1, min(self.request.measured, len(archs))).round().astype(int)
        return [archs[order[i]] for i in places]

    def _check_reachable(self, predictors: dict[str, Predictor]) -> None:
        """Raise `Infeasible` when a bound is below the smallest prediction, before anything is trained."""
        rng = np.random.default_rng(self.request.seed)
        archs = [a for a in self.space.sample(4096, rng) if self.space.computation(a).edges]
        for metric, bound in self.request.at_most.items():
            if metric not in predictors:
                continue
            least = float(predictors[metric].predict(archs).mean.min())
            if least > bound:
                raise Infeasible(
                    f"no architecture of {self.space.name} meets {metric} at most {bound:g} here: the smallest that "
                    f"can be met is about {least:.4g}; raise the bound"
                )

    # -- supernet -----------------------------------------------------------------------------------------------------

    def supernet(self) -> Supernet:
        """Train the supernet, or read it."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.request.seed)
            supernet = make_supernet(self.space, **self.network)
        schedule = Schedule(epochs=self.request.epochs)
        with self.progress.bar("training the supernet", schedule.epochs) as bar:
            train_supernet(
                supernet,
                default_strategy(supernet),
                self.data,
                schedule,
                seed=self.request.seed,
                checkpoint=self.folder.file(SUPERNET),
                on_epoch=lambda epoch, losses: bar.update(1, **losses),
            )
        return supernet

    # -- search ------------------------------------------------------------------------------------------------

    def search(self, supernet: Supernet, predictors: dict[str, Predictor]) -> Study:
        """The loop: strategy, evaluator by inherited weights, Optuna study in the folder."""
        evaluator = Annotated(self.evaluator(supernet), predictors)
        study = Study(self.space, self.request.objectives, storage=self.folder.file("study.db"), resume=True)
        kind = STRATEGIES[self.request.strategy]
        extra = pretrained_parts(kind, self.space)
        strategy = kind(
            self.space,
            [maximize("val_acc")],  # the bounds are known before paying: the screen enforces them
            seed=self.request.seed,
            screen=lambda archs: self.within(archs, predictors),
            key=self.space.canonical,
            **extra,
        )
        with self.progress.bar("searching", self.request.budget) as bar, single_threaded():
            bar.update(len(study.trials))
            best = 0.0

            def show(trial: Trial) -> None:
                nonlocal best
                best = max(best, trial.values.get("val_acc", 0.0))
                bar.update(best=best)

            search(
                study,
                strategy,
                evaluator,
                budget=self.request.budget,
                batch=self.request.batch,
                seed=self.request.seed,
                on_trial=show,
            )
        frame = study.to_frame(evaluator.metrics)
        artifacts.write_atomic(self.folder.file("trials.parquet"), lambda p: frame.to_parquet(p, index=False))
        return study

    def within(self, archs: Sequence[Architecture], predictors: dict[str, Predictor]) -> list[bool]:
        """Whether each architecture is predicted to meet every bound."""
        good = np.ones(len(archs), dtype=bool)
        for metric, bound in self.request.at_most.items():
            good &= predictors[metric].predict(archs).mean <= bound
        return good.tolist()

    def evaluator(self, supernet: Supernet) -> SupernetEvaluator:
        calibration = self.data.train.images[:1024]  # rows are shuffled; 1,024 settle the statistics
        return SupernetEvaluator(supernet, calibration, self.data.validation.images, self.data.validation.labels)
