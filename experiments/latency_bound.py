"""CIFAR-100 accuracy under a latency bound on five devices that were measured only N times (figure B7).

    python experiments/latency_bound.py [--measurements 10,20] [--seeds 5]

NAS-Bench-201. A latency predictor is fitted to N random measurements of the target device, nothing else is known of it:
the generator's own latency conditions are not used (the metric is called `latency_ms@target`). Accuracies are
predicted by the committed predictor (600 labels). Bounds are HELP's for pixel2 (13, 19, 34 ms), elsewhere the 20, 40
and 70 % quantiles of the table. For each bound 100 architectures are drawn at confidence 0.95 and 256 without it, and
judged by the table:

- `within`: share of the samples at confidence 0.95 that truly meet the bound;
- `found`: best true test accuracy among the samples without confidence that truly meet it; `optimum`: the table's best.

Writes experiments/results/latency_bound.csv.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from archgen import GuidedSampler, at_most, config, maximize
from archgen.errors import Infeasible
from archgen.predictors import LatencyPredictor

DEVICES = ("pixel2", "raspi4", "eyeriss", "gold_6226", "titan_rtx_1")
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
    rows = []
    for device in args.devices.split(","):
        ms = latency[device].to_numpy(float)
        for n in map(int, args.measurements.split(",")):
            for seed in range(args.seeds):
                measured = np.random.default_rng(seed).choice(len(ms), n, replace=False)
                predictor = LatencyPredictor(space, TARGET, simplify=False)
                predictor.fit([archs[i] for i in measured], ms[measured])
                known = {METRIC: base.predictor(METRIC), TARGET: predictor}
                sampler = GuidedSampler(space, base.generator, known)
                for bound in PUBLISHED.get(device, tuple(np.quantile(ms, [0.2, 0.4, 0.7]))):
                    wishes = [maximize(METRIC), at_most(TARGET, float(bound))]
                    row = {"device": device, "measurements": n, "seed": seed, "bound_ms": float(bound)}
                    row["optimum"] = truth[ms <= bound].max()
                    start = time.process_time()
                    try:
                        drawn = [index[a] for a in sampler.sample(100, wishes, seed=seed, confidence=0.95).archs]
                        row["within"] = 100 * np.mean(ms[drawn] <= bound)
                        row["safe"] = truth[drawn][ms[drawn] <= bound].max(initial=-np.inf)
                    except Infeasible:  # so few measurements back no such confidence at this bound
                        row["within"] = row["safe"] = np.nan
                    try:
                        drawn = [index[a] for a in sampler.sample(256, wishes, seed=seed).archs]
                        row["found"] = truth[drawn][ms[drawn] <= bound].max(initial=-np.inf)
                    except Infeasible:
                        row["found"] = -np.inf
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


if __name__ == "__main__":
    main()
