"""CIFAR-100 accuracy under a latency bound on five devices that were measured only N times (figure B7).

    python experiments/latency_bound.py [--measurements 10,20] [--seeds 5]

NAS-Bench-201. A latency predictor is fitted to N measurements of the target device, with predictors of HELP's source
devices (800 measurements each, none of them a target) to lean on; nothing else is known of it: the generator's own
latency conditions are not used (the metric is called `latency_ms@target`). Half of the N are random
cells; the other half are drawn by the sampler under the wishes with the predictor of the first half, at confidence 0.5
and 0.2, so that they lie where the bound decides. Accuracies are predicted by the committed predictor (1,563 labels).
Bounds are HELP's for pixel2 (13, 19, 34 ms), elsewhere the 20, 40 and 70 % quantiles of the table. For each bound,
judged by the table:

- `within`: share of 100 samples at confidence 0.95 that truly meet the bound;
- `found`: best true test accuracy among 256 samples that truly meet it, half of them drawn at confidence 0.5, half at
  0.2 (which finds what the predictor wrongly thinks too slow); `optimum`: the table's best.

Writes experiments/results/latency_bound.csv.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from archgen import GuidedSampler, at_most, config, maximize
from archgen.errors import Infeasible
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.predictor_evaluation import fit_sources
from archgen.predictors import LatencyPredictor

DEVICES = ("pixel2", "raspi4", "eyeriss", "gold_6226", "titan_rtx_1")
SOURCES = (  # of the published task N0, which HELP and NASFLAT share
    "1080ti_1",
    "1080ti_32",
    "1080ti_256",
    "silver_4114",
    "silver_4210r",
    "samsung_a50",
    "pixel3",
    "essential_ph_1",
    "samsung_s7",
)
PUBLISHED = {"pixel2": (13.0, 19.0, 34.0)}
METRIC, TARGET = "cifar100_val_acc", "latency_ms@target"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measurements", default="10,20")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--devices", default=",".join(DEVICES))
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    base = GuidedSampler.from_pretrained("nasbench201")
    space = base.space
    archs = space.enumerate()
    index = {arch: i for i, arch in enumerate(archs)}
    names = [space.format(arch) for arch in archs]
    latency = pd.read_parquet(tables / "nasbench201" / "latency_ms.parquet").set_index("arch").loc[names]
    accuracy = pd.read_parquet(tables / "nasbench201" / "accuracy.parquet").set_index("arch").loc[names]
    truth = accuracy["cifar100_test_acc"].to_numpy()
    known = {device: latency[device].to_numpy(float) for device in SOURCES}
    sources = fit_sources(space, archs, known, simplify=False, seed=0)
    rows = []
    for device in args.devices.split(","):
        ms = latency[device].to_numpy(float)
        for n in map(int, args.measurements.split(",")):
            for seed in range(args.seeds):
                for bound in PUBLISHED.get(device, tuple(np.quantile(ms, [0.2, 0.4, 0.7]))):
                    row = {"device": device, "measurements": n, "seed": seed, "bound_ms": float(bound)}
                    row["optimum"] = truth[ms <= bound].max()
                    start = time.process_time()
                    wishes = [maximize(METRIC), at_most(TARGET, float(bound))]
                    measured = np.random.default_rng(seed).choice(len(ms), n // 2, replace=False).tolist()
                    sampler = fitted(base, sources, measured, ms, archs)
                    drawn = either(sampler, wishes, n, seed)
                    new = [i for i in (index[arch] for arch in drawn) if i not in measured]
                    more = [*measured, *new[: n - len(measured)]]
                    sampler = fitted(base, sources, more, ms, archs)
                    within = samples(sampler, wishes, 100, seed, 0.95)
                    found = [index[arch] for arch in either(sampler, wishes, 256, seed)]
                    sure = [index[arch] for arch in within]
                    row["within"] = 100 * np.mean(ms[sure] <= bound) if sure else np.nan
                    row["safe"] = truth[sure][ms[sure] <= bound].max(initial=-np.inf) if sure else np.nan
                    row["found"] = truth[found][ms[found] <= bound].max(initial=-np.inf) if found else -np.inf
                    row["seconds"] = time.process_time() - start
                    rows.append(row)
                    print({k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(Path(__file__).parent / "results" / "latency_bound.csv", index=False)
    table["is_optimum"] = table["found"] >= table["optimum"] - 1e-9
    table["refused"] = table["within"].isna()
    shown = {"optimum": "mean", "found": "mean", "safe": "mean", "within": ["mean", "min"]}
    shown |= {"is_optimum": "mean", "refused": "mean"}
    print(table.groupby(["device", "bound_ms", "measurements"]).agg(shown).round(2).to_string())
    print(f"{platform.machine()}, one thread, torch {torch.__version__}")


def fitted(
    base: GuidedSampler,
    sources: Sequence[LatencyPredictor],
    measured: Sequence[int],
    ms: NDArray[np.float64],
    archs: Sequence[Architecture],
) -> GuidedSampler:
    """The sampler with a predictor of the device, fitted to the measured cells."""
    predictor = LatencyPredictor(base.space, TARGET, simplify=False, sources=sources)
    predictor.fit([archs[i] for i in measured], ms[list(measured)])
    return GuidedSampler(base.space, base.generator, {METRIC: base.predictor(METRIC), TARGET: predictor})


def samples(
    sampler: GuidedSampler, wishes: Sequence[Objective], n: int, seed: int, confidence: float
) -> list[Architecture]:
    """At most `n` samples; none where so few measurements back no such confidence at this bound."""
    try:
        return sampler.sample(n, wishes, seed=seed, confidence=confidence, steps=8).archs
    except Infeasible:
        return []


def either(sampler: GuidedSampler, wishes: Sequence[Objective], n: int, seed: int) -> list[Architecture]:
    """`n` different samples in turn from two confidences."""
    likely, hopeful = (samples(sampler, wishes, n * 5 // 8, seed, confidence) for confidence in (0.5, 0.2))
    mixed = [arch for pair in itertools.zip_longest(likely, hopeful) for arch in pair if arch is not None]
    return list(dict.fromkeys(mixed))[:n]


if __name__ == "__main__":
    main()
