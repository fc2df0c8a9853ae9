"""Where one driver of many workers ends: trials a second of the loop itself, by storage, and what a proposal costs.

    python experiments/driver_scaling.py [--workers 1000] [--trials 100000] [--stored 3000]

A cluster is simulated: evaluations take lognormal times (median a minute, a factor of two) of a clock that jumps to the
next one that ends, so the real time is the driver's alone: asking, claiming, storing, telling. The search is
asynchronous, in MobileNetV3's space, with made-up accuracies. One process of one thread. Rows:

- `loop`: random search of `--trials` trials in memory, and of `--stored` in an SQLite file (and a PostgreSQL database,
  where `ARCHGEN_TEST_DATABASE` names one), in batches of 64: `trials_a_second`; each is asked for, so it is asks, too.
- `ask`: seconds of one proposal of strategies that were told so many trials, for a batch of 1 and of 64.

Writes experiments/results/driver_scaling.csv.
"""

from __future__ import annotations

import argparse
import heapq
import os
import platform
import tempfile
import time
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from archgen import spaces
from archgen.artifacts import write_atomic
from archgen.evaluators import Evaluator, Measurement
from archgen.evaluators.base import Results
from archgen.graph import Architecture
from archgen.objectives import Objective, at_most, maximize
from archgen.spaces import SearchSpace
from archgen.strategies import STRATEGIES, SearchStrategy, pretrained_parts
from archgen.study import Study, Trial, search

RESULTS = Path(__file__).parent / "results"
WISHES: list[Objective] = [maximize("acc"), at_most("latency_ms", 30.0)]
BATCH = 64
MEDIAN, SPREAD = 60.0, 2.0
TOLD = (100, 1000, 10_000, 100_000)
ASKED = ("random", "evolution", "bayes", "generative")


class SimulatedCluster(Evaluator):
    """Workers that measure at the same time, on a clock that jumps.

    Args:
        space: The space, for made-up values: sums over the choices.
        workers: How many.
    """

    def __init__(self, space: SearchSpace, workers: int) -> None:
        rng = np.random.default_rng(0)
        self.space, self.workers, self.clock = space, workers, 0.0
        self.weights = {name: rng.normal(size=(len(v), 2)) for name, v in space.variables.items()}

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("acc", "latency_ms")

    def values(self, arch: Architecture) -> dict[str, float]:
        """Made up."""
        acc, latency = np.sum([self.weights[n][i] for n, i in self.space.to_choices(arch).items()], axis=0).tolist()
        return {"acc": 70 + acc, "latency_ms": 30 + latency}

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        return [Measurement(self.values(arch), self.seconds(arch)) for arch in archs]

    def seconds(self, arch: Architecture) -> float:
        """How long one evaluation takes of the simulated clock, the same for the same architecture."""
        rng = np.random.default_rng(zlib.crc32(self.space.format(arch).encode()))
        return float(MEDIAN * SPREAD ** rng.normal())

    def stream(self, archs: Iterable[Architecture], *, seed: int) -> Results:
        source, running, more = enumerate(archs), list[tuple[float, int, Architecture]](), True
        while more or running:
            while more and len(running) < self.workers:
                i, arch = next(source, (-1, None))
                more = arch is not None
                if arch is not None:
                    heapq.heappush(running, (self.clock + self.seconds(arch), i, arch))
            if running:
                self.clock, i, arch = heapq.heappop(running)
                yield i, Measurement(self.values(arch), self.seconds(arch))


def make(name: str, space: SearchSpace) -> SearchStrategy:
    """A strategy as `archgen search` makes it."""
    kind = STRATEGIES[name]
    return kind(space, WISHES, seed=0, **pretrained_parts(kind, space))


def loop(space: SearchSpace, place: Path | str | None, storage: str, workers: int, trials: int) -> dict[str, Any]:
    """One search by random proposals: what the driver itself takes."""
    cluster = SimulatedCluster(space, workers)
    study = Study(space, WISHES, storage=place, name=f"driver {os.getpid()}")
    start = time.perf_counter()
    found = search(study, make("random", space), cluster, budget=trials, batch=BATCH, asynchronous=True)
    seconds = time.perf_counter() - start
    assert len(found) == len({trial.arch for trial in found}) == trials
    busy = sum(trial.cost_seconds for trial in found) / (cluster.clock * workers)
    facts = {"storage": storage, "workers": workers, "trials": trials, "batch": BATCH, "seconds": seconds}
    return {"what": "loop", **facts, "trials_a_second": trials / seconds, "workers_busy": busy}


def asks(space: SearchSpace, name: str, most: int) -> list[dict[str, Any]]:
    """What a proposal costs after so many trials were told."""
    cluster, strategy, rng = SimulatedCluster(space, 1), make(name, space), np.random.default_rng(1)
    rows, known = [], 0
    for told in [n for n in TOLD if n <= most]:
        new = space.sample(told - known, rng)
        strategy.tell([Trial(known + i, arch, cluster.values(arch), MEDIAN) for i, arch in enumerate(new)])
        known = told
        for n in (1, BATCH):
            strategy.ask(1)  # fits what is fitted anew only when there are more trials
            start = time.perf_counter()
            asked = strategy.ask(n)
            seconds = time.perf_counter() - start
            rows.append({"what": "ask", "strategy": name, "told": told, "batch": len(asked), "seconds": seconds})
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--stored", type=int, default=3000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    space = spaces.load("mobilenetv3")
    with tempfile.TemporaryDirectory() as folder:
        works: list[tuple[Path | str | None, str, int]] = [(None, "memory", args.trials)]
        works.append((Path(folder) / "study.db", "sqlite", args.stored))
        if database := os.environ.get("ARCHGEN_TEST_DATABASE"):
            works.append((database, "postgresql", args.stored))
        rows = []
        for place, storage, trials in works:
            rows.append(loop(space, place, storage, args.workers, trials))
            print(rows[-1], flush=True)
    for name in ASKED:
        rows += asks(space, name, args.trials)
    table = pd.DataFrame(rows).assign(machine=f"{platform.machine()}, torch {torch.__version__}, one thread")
    write_atomic(RESULTS / "driver_scaling.csv", lambda path: table.to_csv(path, index=False))
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
