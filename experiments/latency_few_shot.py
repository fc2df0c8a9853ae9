"""Latency of a new device from N measurements, on the published few-shot tasks (figure B4).

    python experiments/latency_few_shot.py [--measurements 10,20] [--draws 10] [--tasks N0,F0]

NAS-Bench-201 (N0) and FBNet (F0 to F5), with the source and target devices of HELP and NASFLAT. Of a target device only
N random measurements are used; of each source device 800. Spearman's rank correlation, the median relative error and
the share of true values inside the 90 % interval are taken over all architectures that were not measured. `scratch` is
the predictor without sources; its seconds are without the features of the architectures, which it keeps. `--check`
runs the same with each source device as the target, the others being its sources; with `--unlike 0.6` only those whose
latencies have a rank correlation of at most 0.6 with it, as the targets of F1 to F5 are unlike their sources. The
workload as features, and sources beside it, were first tried on the target devices (4 draws of other rows); how they
are scaled and weighed, the hyperpriors and the tails of the noise were then chosen on the source devices, that errors
of few measurements are cross-fitted on those that no task has as a target, that labels of what the output is reached
from are counted apart on the source devices of N0 (the Pixel 3 needs it).
Writes experiments/results/latency_few_shot.csv.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from archgen import config, spaces
from archgen.graph import Architecture
from archgen.predictor_evaluation import fit_sources
from archgen.predictors import LatencyPredictor
from archgen.threads import single_threaded

SPACES = ("nasbench201", "fbnet")


class Tables:
    """Published latencies of a space, and predictors of source devices, each fitted once."""

    def __init__(self, name: str, folder: Path) -> None:
        self.space = spaces.load(name)
        self.table = pd.read_parquet(folder / name / "latency_ms.parquet")
        self.archs: list[Architecture] = [self.space.parse(text) for text in self.table["arch"]]
        self._sources: dict[str, LatencyPredictor] = {}
        self._alone = LatencyPredictor(self.space, simplify=False)  # fitted again and again, so features are kept

    def source(self, device: str) -> LatencyPredictor:
        if device not in self._sources:
            known = {device: self.table[device].to_numpy(float)}
            (self._sources[device],) = fit_sources(self.space, self.archs, known, simplify=False, seed=0)
        return self._sources[device]

    def unlike(self, device: str, others: list[str], most: float) -> list[str]:
        """Those of the other devices whose rank correlation with `device` is at most `most`."""
        rows = self.table.sample(800, random_state=0)
        return [other for other in others if spearmanr(rows[device], rows[other]).statistic <= most]

    def judge(self, device: str, sources: list[str], n: int, seed: int) -> dict[str, float]:
        y = self.table[device].to_numpy(float)
        order = np.random.default_rng(seed).permutation(len(y))
        measured, rest = order[:n], order[n:]
        archs, others = [self.archs[i] for i in measured], [self.archs[i] for i in rest]
        given = [self.source(name) for name in sources]
        start = time.process_time()
        predictor = LatencyPredictor(self.space, simplify=False, sources=given) if given else self._alone
        mean = predictor.fit(archs, y[measured]).predict(others).mean
        seconds = time.process_time() - start
        low, high = predictor.interval(others)
        return {
            "spearman": spearmanr(mean, y[rest]).statistic,
            "error": 100 * float(np.median(np.abs(mean / y[rest] - 1))),
            "coverage_90": 100 * float(np.mean((low <= y[rest]) & (y[rest] <= high))),
            "seconds": seconds,
        }


def published_tasks() -> tuple[Path, dict[str, tuple[str, dict[str, list[str]]]]]:
    """The folder of the tables, and of each task its space and its `source` and `target` devices."""
    folder = config.data_dir()
    if folder is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    published = json.loads((folder / "latency_tasks.json").read_text())
    return folder, {task: (name, devices) for name in SPACES for task, devices in published[name].items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measurements", default="10,20")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--tasks", default="N0,F0,F1,F2,F3,F4,F5")
    parser.add_argument("--check", action="store_true", help="source devices as targets; writes nothing")
    parser.add_argument("--unlike", type=float, default=1.0, help="with --check: most rank correlation of a source")
    args = parser.parse_args()
    folder, tasks = published_tasks()
    tables = {name: Tables(name, folder) for name in SPACES}
    rows = []
    with single_threaded():
        for task in args.tasks.split(","):
            name, devices = tasks[task]
            for device in devices["source" if args.check else "target"]:
                sources = [other for other in devices["source"] if other != device]
                if args.check:
                    sources = tables[name].unlike(device, sources, args.unlike)
                for n in map(int, args.measurements.split(",")):
                    for kind, given in (("transfer", sources), ("scratch", [])):
                        for seed in range(args.draws):
                            row = {"task": task, "device": device, "measurements": n, "kind": kind, "draw": seed}
                            rows.append(row | tables[name].judge(device, given, n, seed + 1000 * args.check))
                last = pd.DataFrame(rows[-2 * args.draws :]).groupby("kind")["spearman"].mean()
                print(f"{task} {device}: {last.round(3).to_dict()}", flush=True)
    table = pd.DataFrame(rows)
    if not args.check:
        table.round(5).to_csv(Path(__file__).parent / "results" / "latency_few_shot.csv", index=False)
    figures = ["spearman", "error", "coverage_90", "seconds"]
    each = table.groupby(["measurements", "kind", "task", "device"], sort=False)[figures].mean()
    print(each["spearman"].unstack("kind").round(3).to_string())
    print(each.groupby(["measurements", "kind", "task"], sort=False).mean().round(3).to_string())
    print(f"{platform.machine()}, one thread, numpy {np.__version__}")


if __name__ == "__main__":
    main()
