"""How far two measurements of the same networks agree: the noise that a latency predictor has to live with.

    python experiments/latency_noise.py [-n 20] [--rounds 30] [--runtimes onnxruntime,torch] [--device cpu]

`archgen latency measure` measures the same N random NAS-Bench-201 networks twice, each time in a process of its own,
with fresh weights, sessions and reference. Reported are Spearman's rank correlation of the two, the median relative
difference, the factor between the two sessions that all networks share (the machine's speed; two sessions that append
to one file have it taken out), the median difference without it, and of all pairs of networks the percentage that a
session orders (their 95 % intervals do not overlap) and the percentage of those that the other orders the other way
round. Writes experiments/results/latency_noise.csv.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from archgen.hardware import LatencyMeasurement, faster

SPACE = "nasbench201"
RESULTS = Path(__file__).parent / "results" / "latency_noise.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runtimes", default="onnxruntime")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    rows = []
    for runtime in args.runtimes.split(","):
        options = ["-n", str(args.n), "--rounds", str(args.rounds), "--runtime", runtime, "--device", args.device]
        first, second = (session([*options, "--seed", str(args.seed)]) for _ in range(2))
        rows.append({**setting(first), "rounds": args.rounds, **agreement(measured(first), measured(second))})
        print(rows[-1], flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(args.out, index=False)


def session(options: list[str]) -> dict[str, Any]:
    """What a process of its own measures."""
    with tempfile.TemporaryDirectory() as folder:
        out = ["--out", str(Path(folder) / "measured.parquet"), "--json"]
        command = [sys.executable, "-m", "archgen", "latency", "measure", "--space", SPACE, *options, *out]
        result: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return result


def measured(result: dict[str, Any]) -> dict[str, LatencyMeasurement]:
    names = ("latency_ms", "low_ms", "high_ms", "spread_ms", "runs")
    return {row["arch"]: LatencyMeasurement(**{name: row[name] for name in names}) for row in result["rows"]}


def setting(result: dict[str, Any]) -> dict[str, Any]:
    device = result["device"]
    chip = device["cpu"] if device["gpu"] == "none" else device["gpu"]
    return {"runtime": device["runtime"], "version": device["version"], "chip": chip, "threads": device["threads"]}


def agreement(first: dict[str, LatencyMeasurement], second: dict[str, LatencyMeasurement]) -> dict[str, float]:
    """The figures of two sessions; differences relative to the mean of the two, percentages throughout."""
    archs = [arch for arch in first if arch in second]
    a, b = (np.array([each[arch].latency_ms for arch in archs]) for each in (first, second))
    factor = float(np.median(b / a))
    orders = [(faster(first[i], first[j]), faster(second[i], second[j])) for i, j in itertools.combinations(archs, 2)]
    told = [(x, y) for x, y in orders if x is not None]
    return {
        "n": len(archs),
        "rho": float(spearmanr(a, b).statistic),
        "difference_pct": _difference(a, b),
        "factor": factor,
        "difference_without_factor_pct": _difference(a * factor, b),
        "ordered_pct": 100.0 * len(told) / max(len(orders), 1),
        "contradicted_pct": 100.0 * sum(y is not None and x != y for x, y in told) / max(len(told), 1),
    }


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(100 * np.median(2 * np.abs(a - b) / (a + b)))


if __name__ == "__main__":
    main()
