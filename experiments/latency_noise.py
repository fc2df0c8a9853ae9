"""How far two measurements of the same networks agree: the noise that a latency predictor has to live with.

    python experiments/latency_noise.py [-n 20] [--known 40] [--rounds 30] [--runtimes onnxruntime,torch] [--device cpu]

`archgen latency measure` measures the same N random NAS-Bench-201 networks twice, each time in a process of its own,
with fresh weights, sessions and reference. Reported are Spearman's rank correlation of the two, the median relative
difference, the factor between the two sessions that all networks share (the machine's speed; two sessions that append
to one file have it taken out), the median difference without it, and of all pairs of networks the percentage that a
session orders (their 95 % intervals do not overlap) and the percentage of those that the other orders the other way
round. Before them `--known` other networks are measured, to the same file as the first session; a latency predictor
fitted to those is judged on the N measured afterwards (rank correlation and median relative error, `predicted_*`).
Writes experiments/results/latency_noise.csv.
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

from archgen import spaces
from archgen.hardware import LatencyMeasurement, faster
from archgen.predictors import LatencyPredictor, judge

SPACE = "nasbench201"
RESULTS = Path(__file__).parent / "results" / "latency_noise.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=20)
    parser.add_argument("--known", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runtimes", default="onnxruntime")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    rows = []
    for runtime in args.runtimes.split(","):
        options = ["--rounds", str(args.rounds), "--runtime", runtime, "--device", args.device]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "measured.parquet"
            known = session([*options, "-n", str(args.known), "--seed", str(args.seed + 1)], file) if args.known else {}
            first = session([*options, "-n", str(args.n), "--seed", str(args.seed)], file)
        with tempfile.TemporaryDirectory() as folder:
            second = session([*options, "-n", str(args.n), "--seed", str(args.seed)], Path(folder) / "measured.parquet")
        row = {**setting(first), "rounds": args.rounds, **agreement(measured(first), measured(second))}
        if known:
            row |= predicted(measured(known), measured(first))
        rows.append(row)
        print(rows[-1], flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(args.out, index=False)


def session(options: list[str], file: Path) -> dict[str, Any]:
    """What a process of its own measures and adds to a file."""
    command = [sys.executable, "-m", "archgen", "latency", "measure", "--space", SPACE, *options, "--out", str(file)]
    done = subprocess.run([*command, "--json"], check=True, stdout=subprocess.PIPE)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def predicted(known: dict[str, LatencyMeasurement], later: dict[str, LatencyMeasurement]) -> dict[str, float]:
    """How well a predictor fitted to some networks tells those that were measured afterwards."""
    space = spaces.load(SPACE)
    texts = [text for text in later if text not in known]
    predictor = LatencyPredictor(space, "latency_ms", simplify=True)
    predictor.fit([space.parse(text) for text in known], np.array([m.latency_ms for m in known.values()]))
    figures = judge(predictor, [space.parse(text) for text in texts], np.array([later[t].latency_ms for t in texts]))
    return {
        "known": len(known),
        "predicted": len(texts),
        "predicted_rho": figures["spearman_rho"],
        "predicted_error_pct": figures["median_relative_error"],
        "predicted_coverage_90": figures["coverage_90"],
    }


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
