"""Where a design's latencies come from: measured on this machine, or in a table of measurements from elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from archgen import artifacts
from archgen.design.request import LATENCY, DesignRequest
from archgen.errors import InvalidArchitecture, InvalidTable, RunConflict
from archgen.evaluators import read_labels
from archgen.graph import Architecture
from archgen.hardware import RUNTIMES, LatencyMeasurement
from archgen.predictors.counts import Count
from archgen.predictors.latency import LEAST, LatencyPredictor
from archgen.progress import Progress
from archgen.spaces import SearchSpace
from archgen.tables import read_table


def networks(
    space: SearchSpace, archs: Sequence[Architecture], arguments: Mapping[str, int], seed: int
) -> list[nn.Module]:
    """The simplified networks with fresh weights, as they are shipped; the caller's random numbers stay."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [space.build(space.simplify(arch), **arguments).eval() for arch in archs]


class LatencySource(ABC):
    """Latency of one image: what it is predicted by, and what is known of a chosen network in the end."""

    predictor: LatencyPredictor
    facts: dict[str, Any]
    """What a report says of the predictor (`latency_predictor`) and of the `device`."""
    archs: list[Architecture]
    """Those that the predictor is fitted to."""
    measured: Sequence[float]
    """Their latencies, ms."""

    @abstractmethod
    def measure(self, archs: Sequence[Architecture]) -> list[LatencyMeasurement]:
        """Latency of each architecture with an interval."""

    def fit(self, space: SearchSpace, archs: list[Architecture], y: Sequence[float], seed: int) -> None:
        """Fit the predictor and judge it on a part that is held out."""
        self.archs, self.measured, values = archs, list(y), np.asarray(y, dtype=float)
        predictor = LatencyPredictor(space, LATENCY)
        held_out = predictor.holdout(archs, values, seed=seed)
        self.facts = {"latency_predictor": {k: v for k, v in held_out.items() if np.isfinite(v)}}
        self.predictor = predictor.fit(archs, values)


class MeasuredHere(LatencySource):
    """Networks timed on this machine against one reference, so that early and late measurements can be compared.

    Args:
        space: The space.
        request: Its runtime, processor, threads and number of architectures to measure.
        arguments: Of `space.build`.
        path: Table of what was measured; read where it is there.
        progress: Shows how far it is.
        processes: In which networks are exported.

    Raises:
        RunConflict: The table is of another version or damaged.
    """

    def __init__(
        self,
        space: SearchSpace,
        request: DesignRequest,
        arguments: dict[str, int],
        path: Path,
        progress: Progress,
        processes: int = 1,
    ) -> None:
        self.space, self.request, self.arguments, self.path, self.progress = space, request, arguments, path, progress
        wanted, table = spread(space, request.measured, arguments, request.seed), self.table()
        middle = wanted[len(wanted) // 2 :][:1]
        self.meter = RUNTIMES[request.runtime](
            space.example_input(1, **arguments),
            threads=request.threads,
            processor=request.processor,
            processes=processes,
            reference=networks(space, middle, arguments, request.seed)[0],
            reference_ms=None if table is None else float(table["reference_ms"].iloc[0]),
        )

    def table(self) -> pd.DataFrame | None:
        """The latencies that this run has measured, None before it has."""
        if not self.path.exists():
            return None
        table = read_table(self.path, expected="measured latencies", mend="remove it to measure anew")
        try:
            archs = [self.space.parse(text) for text in table["arch"]]
            if not archs or not (table[[LATENCY, "reference_ms"]].to_numpy(dtype=float) > 0).all():
                raise ValueError("not a latency in each row")
        except (ValueError, KeyError, InvalidArchitecture) as error:
            reason = " ".join(str(error).split())[:120]
            raise RunConflict(f"{self.path} is of another version ({reason}); remove it to measure anew") from None
        return table

    def learn(self, n: int) -> None:
        """Measure `n` networks, or read what was measured, and fit the predictor."""
        table = self.table()
        if table is None:
            wanted = spread(self.space, n, self.arguments, self.request.seed)
            rows = [asdict(measured) for measured in self.measure(wanted)]
            texts = map(self.space.format, wanted)
            table = pd.DataFrame([{"arch": text, **row} for text, row in zip(texts, rows, strict=True)])
            table["reference_ms"] = self.meter.reference_ms
            frame = table
            artifacts.write_atomic(self.path, lambda beside: frame.to_parquet(beside, index=False))
        archs = [self.space.parse(text) for text in table["arch"]]
        self.fit(self.space, archs, table[LATENCY].tolist(), self.request.seed)
        self.facts["device"] = self.meter.device.to_json()

    def measure(self, archs: Sequence[Architecture]) -> list[LatencyMeasurement]:
        """Latency with fresh weights, whose values do not change how long a network takes."""
        keys = [self.space.format(self.space.simplify(arch)) for arch in archs]
        made = networks(self.space, archs, self.arguments, self.request.seed)
        return self.meter.measure(made, seed=self.request.seed, keys=keys, progress=self.progress)


class MeasuredElsewhere(LatencySource):
    """A table of measurements from another device; in the end there are predictions, with 90 % intervals.

    Args:
        space: The space; networks were measured as `archgen latency measure` builds them.
        path: Table with columns `arch` and `latency_ms`, at least 8 different architectures.
        seed: Draws what is held out to judge the predictor.

    Raises:
        InvalidTable: Too few rows, or values that are no latencies.
        UnknownMetric: There is no column `latency_ms`.
    """

    def __init__(self, space: SearchSpace, path: Path, seed: int) -> None:
        labels = read_labels(space, path, [LATENCY])
        y = labels.values[LATENCY]
        least = LEAST + 3  # some are held out
        if len(y) < least:
            raise InvalidTable(f"{path} has {len(y)} architectures, expected at least {least}: measure more")
        if not (y > 0).all():
            raise InvalidTable(f"{path}: '{LATENCY}' must be above 0 everywhere; remove the other rows")
        self.fit(space, labels.archs, y.tolist(), seed)
        self.facts["device"] = {"measurements": path.name, "architectures": len(y)}

    def measure(self, archs: Sequence[Architecture]) -> list[LatencyMeasurement]:
        """What is predicted, and the 90 % interval."""
        mean = self.predictor.predict(archs).mean
        low, high = self.predictor.interval(archs)
        rows = zip(mean, low, high, strict=True)
        return [LatencyMeasurement(float(m), float(a), float(b), float(b - a), 0) for m, a, b in rows]


def spread(space: SearchSpace, n: int, arguments: dict[str, int], seed: int) -> list[Architecture]:
    """Up to `n` distinct architectures at equal steps of FLOPs, so that a fit sees the whole range."""
    drawn = space.sample(40 * n, np.random.default_rng(seed))
    distinct = {space.canonical(arch): arch for arch in [*drawn, *(space.extremes or ())]}
    archs = [arch for arch in distinct.values() if space.computation(arch).edges]
    order = np.argsort(Count(space, "flops", arguments).predict(archs).mean, kind="stable")
    places = np.linspace(0, len(archs) - 1, min(n, len(archs))).round().astype(int)
    return [archs[order[i]] for i in places]
