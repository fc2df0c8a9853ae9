"""Trials a minute by the number of workers, and what a trial costs beside its evaluation.

    python experiments/worker_scaling.py [--workers 1 2 4] [--trials 60] [--cost 0.5] [--repeats 3] [--ray]

An evaluation is CPU work of known cost and nothing else: as many rounds of a hash as take `--cost` seconds on one core
of this machine when it is idle. Random search on an SQLite study, by processes and, with --ray, on a Ray that is
started here; workers are started before the clock. `overhead_ms` is what the wall time has beyond the evaluations'
share, a trial, with as many workers as there are cores at most: more workers than cores share them.
Writes experiments/results/worker_scaling.csv.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from archgen import spaces
from archgen.artifacts import write_atomic
from archgen.evaluators import Cluster, Evaluator, Measurement, Parallel
from archgen.graph import Architecture
from archgen.objectives import maximize
from archgen.strategies import Random
from archgen.study import Study, search
from archgen.workers import spawned

RESULTS = Path(__file__).parent / "results"
BLOCK = b"x" * 65536


class Hashing(Evaluator):
    """CPU work; its metric is a number that the work gives.

    Args:
        rounds: Of the hash.
    """

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("acc",)

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        return [self.work() for _ in archs]

    def work(self) -> Measurement:
        start, digest = time.process_time(), hashlib.sha256()
        for _ in range(self.rounds):
            digest.update(BLOCK)
        return Measurement({"acc": digest.digest()[0] / 255}, time.process_time() - start)


def rounds_of(seconds: float) -> int:
    """Rounds that take so long here."""
    tried = 2000
    spent = min(Hashing(tried).work().cost_seconds for _ in range(3))
    return max(1, round(tried * seconds / spent))


def timed(kind: str, make: Callable[..., Executor], workers: int, trials: int, rounds: int) -> dict[str, Any]:
    """One search."""
    space = spaces.load("nasbench201")
    with tempfile.TemporaryDirectory() as folder:
        study = Study(space, [maximize("acc")], storage=Path(folder) / "study.db")
        with closing(Parallel(Hashing(rounds), workers=workers, executor=make)) as parallel:
            parallel.evaluate(space.sample(2 * workers, np.random.default_rng(1)), seed=0)
            start = time.perf_counter()
            found = search(study, Random(space, [maximize("acc")]), parallel, budget=trials, batch=trials)
            wall = time.perf_counter() - start
    assert len(found) == trials
    spent = sum(trial.cost_seconds for trial in found)
    cores = min(workers, os.cpu_count() or 1)
    return {
        "kind": kind,
        "workers": workers,
        "trials": trials,
        "trials_a_minute": 60 * trials / wall,
        "cpu_seconds_a_trial": spent / trials,
        "overhead_ms": 1000 * (wall - spent / cores) / trials,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--cost", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ray", action="store_true")
    args = parser.parse_args()
    kinds: dict[str, Callable[..., Executor]] = {"processes": spawned}
    if args.ray:
        kinds["ray"] = Cluster("local").executor
    rounds, rows = rounds_of(args.cost), []
    for repeat in range(args.repeats):
        for kind, make in kinds.items():
            for workers in args.workers:
                rows.append({**timed(kind, make, workers, args.trials, rounds), "repeat": repeat})
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows).assign(machine=f"{platform.machine()}, {os.cpu_count()} cores")
    write_atomic(RESULTS / "worker_scaling.csv", lambda path: table.to_csv(path, index=False))
    figures = ["trials_a_minute", "overhead_ms"]
    print(table.groupby(["kind", "workers"])[figures].agg(["mean", "min", "max"]).round(2).to_string())


if __name__ == "__main__":
    main()
