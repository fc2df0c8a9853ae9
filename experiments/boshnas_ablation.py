"""What the parts of BOSHNAS do on the NAS-Bench-201 table: noise of its own, second order, and three embeddings.

    python experiments/boshnas_ablation.py [--seeds 10] [--budget 100] [--dataset cifar100] [--batch 4]

The protocol of figure B5, as in `bo_nasbench201.py`: the objective is the validation accuracy after 200 epochs, the
random start counted, no labels before, every seed reported. Random search is the control. Needs the published table.
Writes experiments/results/boshnas_ablation_<dataset>.csv, one row a seed and variant.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from archgen import config, maximize, spaces
from archgen.artifacts import write_atomic
from archgen.evaluators import TabularEvaluator
from archgen.strategies import STRATEGIES
from archgen.study import Study, search

RESULTS = Path(__file__).parent / "results"
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {}),
    "boshnas": ("boshnas", {}),
    "one noise": ("boshnas", {"heteroscedastic": False}),
    "first order": ("boshnas", {"second_order": False}),
    "embedding of distances": ("boshnas", {"embedding": "distances"}),
    "neighbourhoods": ("boshnas", {"embedding": "neighbourhoods"}),
    "always optimise": ("boshnas", {"alpha": 0.0, "beta": 0.0}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar100", choices=["cifar10", "cifar100", "imagenet16_120"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    path, metric = tables / "nasbench201" / "accuracy.parquet", f"{args.dataset}_val_acc"
    space = spaces.load("nasbench201")
    best = float(pd.read_parquet(path)[metric].max())
    evaluator = TabularEvaluator(space, path, needed=[metric])
    torch.set_num_threads(1)

    rows = []
    for variant in args.variants:
        name, options = VARIANTS[variant]
        for seed in tqdm(range(args.seeds), desc=variant, disable=None):
            strategy = STRATEGIES[name](space, [maximize(metric)], seed=seed, **options)
            start = time.perf_counter()
            trials = search(Study(space, [maximize(metric)]), strategy, evaluator, budget=args.budget, batch=args.batch)
            values = np.array([trial.values[metric] for trial in trials])
            found = np.flatnonzero(values == best)
            rows.append(
                {
                    "variant": variant,
                    "seed": seed,
                    "best_at": found[0] + 1 if len(found) else np.nan,
                    "best_at_64": values[:64].max(),
                    "best": values.max(),
                    "seconds": time.perf_counter() - start,
                }
            )
    frame = pd.DataFrame(rows)
    summary = frame.groupby("variant", sort=False).agg(
        found=("best_at", "count"),
        median_best_at=("best_at", "median"),
        mean_at_64=("best_at_64", "mean"),
        std_at_64=("best_at_64", "std"),
        mean_best=("best", "mean"),
        seconds=("seconds", "mean"),
    )
    print(f"the best of the table has {best:.3f}; {args.seeds} seeds, {args.budget} evaluations, batch {args.batch}")
    print(summary.round(3).to_string())
    RESULTS.mkdir(exist_ok=True)
    write_atomic(RESULTS / f"boshnas_ablation_{args.dataset}.csv", lambda out: frame.to_csv(out, index=False))


if __name__ == "__main__":
    main()
