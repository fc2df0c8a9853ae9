"""How well inherited accuracies rank cells as published stand-alone trainings do (figure B9, scaled to two cores).

    python experiments/supernet_ranking.py [--seeds 1] [--epochs 80] [--batch 32] [--images 10000] [--size 16]

NAS-Bench-201 on CIFAR-10 (`ARCHGEN_DATA` or ../shared/data), one cell a stage, 8 channels, images scaled down: a tenth
of the published training's images and a thousandth of its work. Every way of training (`WAYS`) gets the same number of
forward and backward passes of a path over the images; ways with several sets of weights share them out. Then `--archs`
cells that compute different things, drawn by seed 0, are scored by inherited weights: accuracy on the validation
images, and minus their loss.

- `tau`: Kendall's between the inherited loss and the published test accuracy after 200 epochs; `tau_acc`, with the
  inherited accuracy in its place; `tau_top`, within the best tenth by published accuracy.
- `tau_proxies`, `tau_proxies_top`: of the mean of the logarithm of the rank (the worst is 1) by inherited loss and of
  the same sum of three published zero-cost proxies (synflow, nwot, jacov), which the row `proxies` has alone.
- `best` joins the ways in `JOINED` by the sum of the same logarithms.

The ways, and what is joined, are chosen on other cells (`--dev`). Finished trainings are kept in runs/supernet_ranking.
Writes experiments/results/supernet_ranking.csv (a row a way and a seed) and supernet_ranking_cells.parquet.
"""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from bo_tables import published
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

from archgen.artifacts import write_atomic
from archgen.cli.terminal import Terminal
from archgen.evaluators import SupernetEvaluator
from archgen.inheritance import SupernetRequest, TrainedSupernet, train_in_folder

RESULTS = Path(__file__).parent / "results"
PROXIES = ("synflow", "nwot", "jacov")
TRUTH = "cifar10_test_acc"
NETWORK = {"cells": 1, "channels": 8}
LR = 0.05
WAYS: dict[str, dict[str, Any]] = {
    "uniform": {"strategy": "uniform"},
    "fair": {"strategy": "fair"},
    "pa_da": {"strategy": "pa_da"},
    "shiftnas": {"strategy": "shiftnas"},
    "split": {"strategy": "uniform", "splits": 1},
    "mixture": {"strategy": "balanced_mixture", "mixture": 2},
    "pa_da split": {"strategy": "pa_da", "splits": 1},
}
PATHS = {"fair": 5}
"""Paths a step, where it is not one."""
JOINED = tuple(WAYS)
CALIBRATION, VALIDATION = 512, 1000
"""Images for the statistics of a network, and to score it on."""
DEV = 1000
"""Seed of the cells that choices are made on; none of them is tested."""


def asked(way: str, passes: int, **given: Any) -> SupernetRequest:
    """A training of so many passes of single paths over the images, warming up before a split included."""
    epochs = max(2, passes // PATHS.get(way, 1))
    request = SupernetRequest("nasbench201", network=NETWORK, epochs=epochs, lr=LR, **WAYS[way], **given)
    if not request.splits:
        return request
    return replace(request, epochs=max(1, epochs - epochs // 4), warm_up=max(1, epochs // 4))


def train_way(way: str, passes: int, args: argparse.Namespace, tables: Path, seed: int) -> TrainedSupernet:
    """Train on the images that `options` ask for, or read what was trained before."""
    request = asked(
        way,
        passes,
        data=str(tables / "cifar10" / "images_jpeg.parquet"),
        seed=seed,
        resize=args.size,
        limit=args.images,
        batch=args.batch,
    )
    name = f"{way.replace(' ', '_')}_{args.size}px_{args.images}_{passes}ep_{args.batch}_{seed}"
    folder = args.runs / "supernet_ranking" / name
    return train_in_folder(request, folder, resume=(folder / "run.json").exists(), progress=Terminal())


def score(
    trained: TrainedSupernet,
    texts: list[str],
    name: str,
    *,
    calibration: int = CALIBRATION,
    validation: int = VALIDATION,
) -> pd.DataFrame:
    """Inherited accuracy and loss of cells, a row each."""
    data = trained.data
    evaluator = SupernetEvaluator(
        trained.supernet,
        data.train.images[:calibration],
        data.validation.images[:validation],
        data.validation.labels[:validation],
    )
    rows = []
    with Terminal().bar(f"{name}: cells", len(texts)) as bar:
        for text in texts:
            (measured,) = evaluator.evaluate([trained.space.parse(text)], seed=0)
            rows.append({"arch": text, **measured.values})
            bar.update(1)
    return pd.DataFrame(rows)


def log_rank(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the rank, the least is 1."""
    found: NDArray[np.float64] = np.log(rankdata(np.nan_to_num(values, nan=-np.inf)))
    return found


def tau(values: NDArray[np.float64], truth: NDArray[np.float64], *, top: bool = False) -> float:
    among = truth >= np.quantile(truth, 0.9) if top else np.ones(len(truth), bool)
    return float(kendalltau(np.nan_to_num(values[among], nan=-1e9), truth[among]).statistic)


def known_cells(tables: Path, n: int, *, dev: bool) -> pd.DataFrame:
    """Truth and proxies of `n` cells that compute different things; those of `dev` are never tested."""
    both = pd.read_parquet(tables / "accuracy.parquet").merge(pd.read_parquet(tables / "zero_cost_cifar10.parquet"))
    order = np.random.default_rng(0).permutation(len(both))
    chosen = order[:n] if not dev else np.random.default_rng(DEV).choice(order[n:], n, replace=False)
    return both.iloc[chosen].reset_index(drop=True)


def row(values: NDArray[np.float64], cells: pd.DataFrame) -> dict[str, float]:
    truth = cells[TRUTH].to_numpy()
    proxies = sum(log_rank(cells[name].to_numpy()) for name in PROXIES) / len(PROXIES)
    joined = log_rank(values) + proxies
    return {
        "tau": tau(values, truth),
        "tau_top": tau(values, truth, top=True),
        "tau_proxies": tau(joined, truth),
        "tau_proxies_top": tau(joined, truth, top=True),
    }


def options(description: str | None) -> argparse.ArgumentParser:
    """The options of a training."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--archs", type=int, default=1000)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--dev", action="store_true", help="on other cells, to choose by")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tables = published()
    cells = known_cells(tables / "nasbench201", args.archs, dev=args.dev)
    proxies = sum(log_rank(cells[name].to_numpy()) for name in PROXIES)
    rows = [{"way": "proxies", "seed": 0, **row(proxies, cells)}]
    scores = cells[["arch", TRUTH, *PROXIES]].copy()
    for seed in range(DEV, DEV + args.seeds) if args.dev else range(args.seeds):
        for way in args.ways:
            start = time.process_time()
            trained = train_way(way, args.epochs, args, tables, seed)
            seconds = time.process_time() - start
            start = time.process_time()
            found = score(trained, cells["arch"].tolist(), way)
            inherited = -found["val_loss"].to_numpy(float)
            scores[f"{way} {seed}"] = inherited
            made = {
                "way": way,
                "seed": seed,
                **row(inherited, cells),
                "tau_acc": tau(found["val_acc"].to_numpy(float), cells[TRUTH].to_numpy()),
                "epochs": args.epochs,
                "train_seconds": round(seconds),
                "seconds_a_cell": (time.process_time() - start) / len(cells),
            }
            rows.append(made)
            print(
                {key: round(value, 3) if isinstance(value, float) else value for key, value in made.items()}, flush=True
            )
        joined = [scores[f"{way} {seed}"].to_numpy() for way in JOINED if way in args.ways]
        if len(joined) > 1:
            rows.append({"way": "best", "seed": seed, **row(sum(map(log_rank, joined)), cells)})
    table = pd.DataFrame(rows).assign(cells=len(cells), machine=f"{platform.machine()}, {args.threads} threads")
    print(table.to_string(index=False))
    if not args.dev:
        write_atomic(args.out / "supernet_ranking.csv", lambda path: table.to_csv(path, index=False))
        write_atomic(args.out / "supernet_ranking_cells.parquet", lambda path: scores.to_parquet(path, index=False))


if __name__ == "__main__":
    main()
