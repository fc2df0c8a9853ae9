"""Every search strategy on the NAS-Bench-201 table: evaluations until the best architecture, and accuracy at a budget.

    python experiments/bo_nasbench201.py [--seeds 10] [--budget 100] [--dataset cifar100] [--batch 4]

The protocol of figure B5: the objective is the validation accuracy after 200 epochs, random or unguided start counted,
no labels before, every seed reported. `best_at` is the first evaluation of the table's best validation accuracy (NaN:
not within the budget). Needs the published table. Writes experiments/results/bo_nasbench201_<dataset>.csv (one row a
seed and strategy) and a picture of the mean regret.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from archgen import config, maximize, spaces
from archgen.evaluators import TabularEvaluator
from archgen.metrics import regret_curve
from archgen.plots import save_png
from archgen.sampler import pretrained_generator
from archgen.strategies import STRATEGIES
from archgen.study import Study, search

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar100", choices=["cifar10", "cifar100", "imagenet16_120"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--strategies", nargs="+", default=sorted(STRATEGIES))
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    path, metric = tables / "nasbench201" / "accuracy.parquet", f"{args.dataset}_val_acc"
    space = spaces.load("nasbench201")
    table, evaluator = pd.read_parquet(path).set_index("arch"), TabularEvaluator(space, path, needed=[metric])
    best = float(table[metric].max())

    torch.set_num_threads(1)
    rows, curves = [], {name: [] for name in args.strategies}
    for name in args.strategies:
        extra = {"generator": pretrained_generator(space)} if name == "generative" else {}
        for seed in tqdm(range(args.seeds), desc=name, disable=None):
            strategy = STRATEGIES[name](space, [maximize(metric)], seed=seed, **extra)
            start = time.perf_counter()
            trials = search(Study(space, [maximize(metric)]), strategy, evaluator, budget=args.budget, batch=args.batch)
            seconds = time.perf_counter() - start
            regret = regret_curve([trial.values[metric] for trial in trials], best)
            curves[name].append(regret)
            incumbent = max(trials[:64], key=lambda trial: trial.values[metric])
            rows.append(
                {
                    "strategy": name,
                    "seed": seed,
                    "best_at": float(np.argmax(regret <= 1e-9)) + 1 if regret[-1] <= 1e-9 else np.nan,
                    "regret_at_64": regret[min(64, len(regret)) - 1],
                    "test_acc_at_64": table.loc[space.format(incumbent.arch), f"{args.dataset}_test_acc"],
                    "overhead_seconds_a_trial": seconds / len(trials),
                }
            )
    frame = pd.DataFrame(rows)
    RESULTS.mkdir(exist_ok=True)
    frame.to_csv(RESULTS / f"bo_nasbench201_{args.dataset}.csv", index=False)
    save_png(draw(curves, args.dataset), RESULTS / f"bo_nasbench201_{args.dataset}.png")
    for name, group in frame.groupby("strategy"):
        found = group["best_at"].notna().sum()
        print(
            f"{name:11} found the best in {found} of {len(group)} runs, median at "
            f"{group['best_at'].fillna(np.inf).median():.0f}; regret at 64: {group['regret_at_64'].mean():.3f} "
            f"(sd {group['regret_at_64'].std():.3f}); test accuracy at 64: {group['test_acc_at_64'].mean():.2f}; "
            f"{group['overhead_seconds_a_trial'].mean():.3f} s overhead a trial"
        )


def draw(curves: dict[str, list[np.ndarray]], dataset: str) -> Figure:
    """Mean regret with a band of one standard error a strategy."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, each in curves.items():
        values = np.array(each)
        mean, error = values.mean(0), values.std(0, ddof=min(1, len(values) - 1)) / np.sqrt(len(values))
        x = np.arange(1, values.shape[1] + 1)
        (line,) = axes.plot(x, mean, label=name)
        axes.fill_between(x, mean - error, mean + error, alpha=0.2, color=line.get_color())
    axes.set(xlabel="evaluations", ylabel="regret (validation accuracy, points)", yscale="symlog")
    axes.set_title(f"NAS-Bench-201, {dataset}: mean of {len(values)} seeds, band one standard error", fontsize=10)
    axes.legend()
    return figure


if __name__ == "__main__":
    main()
