"""How well inherited accuracies rank cells as published stand-alone trainings do (figure B9, scaled to two cores).

    python experiments/supernet_ranking.py [--seeds 3] [--workers 2] [--epochs 80]

NAS-Bench-201 on CIFAR-10 (`ARCHGEN_DATA` or ../shared/data), one cell a stage, 8 channels, images scaled down: a tenth
of the published training's images and a thousandth of its work. Every way of training (`WAYS`) gets the same number of
forward and backward passes of a path over the images; ways with several sets of weights share them out. Then `--archs`
cells that compute different things, drawn by seed 0, are scored by inherited weights: accuracy on the validation
images, minus their loss, and two measures of the network with the inherited weights that need no labels, nwot and
synflow of 32 validation images. Scores are joined by AZ-NAS's sum of the logarithms of ranks.

Kendall's tau to the published test accuracy after 200 epochs, and within the best tenth by it (`_top`):

- `tau`: of the inherited loss; `tau_acc`: of the inherited accuracy.
- `tau_inherited`: of loss, nwot and synflow of the inherited network.
- `tau_proxies`: of the loss and three published zero-cost proxies (synflow, nwot, jacov); `tau_four`: of these and a
  fourth, AZ-NAS's expressivity of the small network. The row `proxies` has them without the loss.
- The row `best` has the means over the ways in `JOINED` of each logarithm in its place; its `minutes` are those of the
  seed, all of it.

The ways, and what is joined, are chosen on other cells (`--dev`); a supernet never sees a published accuracy. Finished
trainings are kept in runs/supernet_ranking. Writes experiments/results/supernet_ranking.csv (a row a way and a seed)
and supernet_ranking_cells.parquet.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bo_tables import published
from numpy.typing import NDArray
from scipy.stats import kendalltau

from archgen.artifacts import write_atomic
from archgen.cli.terminal import Terminal
from archgen.evaluators import SupernetEvaluator
from archgen.inheritance import SupernetRequest, TrainedSupernet, train_in_folder
from archgen.protocol import processes
from archgen.proxies import PROXIES as PROXY_CLASSES
from archgen.proxies import az_nas
from archgen.run_folder import RunFolder

RESULTS = Path(__file__).parent / "results"
PROXIES = ("synflow", "nwot", "jacov")
TRUTH = "cifar10_test_acc"
MEASURES = ("nwot", "synflow")
"""Of the inherited network, beside its loss."""
FOURTH = "expressivity"
"""A zero-cost proxy of the small network, which draws its own weights (AZ-NAS)."""
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
QUICK = ("fair", "pa_da", "mixture")
"""Which train for less than the others."""
PATHS = {"fair": 5}
"""Paths a step, where it is not one."""
JOINED = ("uniform", "fair", "shiftnas")
"""Of all sets of ways that which ranks the cells of `--dev` best."""
CALIBRATION, VALIDATION = 512, 1000
"""Images for the statistics of a network, and to score it on."""
TESTED = 1000
"""Cells that are for the test alone."""
DEV = 1000
"""Seed of the cells that choices are made on; none of them is tested."""


def asked(way: str, passes: int, **given: Any) -> SupernetRequest:
    """A training of so many passes of single paths over the images, warming up before a split included."""
    epochs = max(2, passes // PATHS.get(way, 1))
    request = SupernetRequest("nasbench201", network=NETWORK, epochs=epochs, lr=LR, **WAYS[way], **given)
    if not request.splits:
        return request
    return replace(request, epochs=max(1, epochs - epochs // 4), warm_up=max(1, epochs // 4))


def folder_of(way: str, passes: int, args: argparse.Namespace, seed: int) -> Path:
    """Where a training is kept."""
    name = f"{way.replace(' ', '_')}_{args.size}px_{args.images}_{passes}ep_{args.batch}_{seed}"
    folder: Path = args.runs / "supernet_ranking" / name
    return folder


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
    folder = folder_of(way, passes, args, seed)
    return train_in_folder(request, folder, resume=(folder / "run.json").exists(), progress=Terminal())


def score(
    trained: TrainedSupernet,
    texts: list[str],
    name: str,
    *,
    calibration: int = CALIBRATION,
    validation: int = VALIDATION,
    proxies: Sequence[str] = (),
) -> pd.DataFrame:
    """Inherited accuracy and loss of cells, and proxies of the inherited networks, a row each."""
    data = trained.data
    evaluator = SupernetEvaluator(
        trained.supernet,
        data.train.images[:calibration],
        data.validation.images[:validation],
        data.validation.labels[:validation],
        proxies=[PROXY_CLASSES[proxy]() for proxy in proxies],
    )
    rows = []
    with Terminal().bar(f"{name}: cells", len(texts)) as bar:
        for text in texts:
            (measured,) = evaluator.evaluate([trained.space.parse(text)], seed=0)
            rows.append({"arch": text, **measured.values})
            bar.update(1)
    return pd.DataFrame(rows, columns=["arch", *evaluator.metrics])


def measure_way(
    way: str, args: argparse.Namespace, texts: list[str], tables: Path, seed: int
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Train one way and score the cells, or read both: the scores, and what they cost."""
    trained = train_way(way, args.epochs, args, tables, seed)
    folder, start = RunFolder.open(folder_of(way, args.epochs, args, seed)), time.process_time()
    path = folder.file(f"scores_{'dev_' if args.dev else ''}{len(texts)}.parquet")
    if not path.exists():
        scored = score(trained, texts, way, proxies=(*MEASURES, FOURTH))
        scored["seconds_a_cell"] = (time.process_time() - start) / len(texts)
        write_atomic(path, lambda beside: scored.to_parquet(beside, index=False))
    found = pd.read_parquet(path).drop(columns="arch")
    seconds = float(found.pop("seconds_a_cell").iloc[0])
    return found, {"train_seconds": round(folder.seconds["training"]), "seconds_a_cell": seconds}


def measure(
    args: argparse.Namespace, texts: list[str], tables: Path, seed: int
) -> dict[str, tuple[pd.DataFrame, dict[str, float]]]:
    """`measure_way` of every way, `--workers` at a time, in the order asked for."""
    with processes(args.workers) as pool:
        # The longest trainings first: the last to end has the other processes wait.
        order = sorted(args.ways, key=lambda way: way in QUICK)
        running = {way: pool.submit(measure_way, way, args, texts, tables, seed) for way in order}
        return {way: running[way].result() for way in args.ways}


def log_ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Logarithm of the rank in each column, larger is better."""
    return pd.DataFrame({name: az_nas(table, [str(name)]) for name in table})


def tau(values: NDArray[np.float64], truth: NDArray[np.float64], *, top: bool = False) -> float:
    among = truth >= np.quantile(truth, 0.9) if top else np.ones(len(truth), bool)
    return float(kendalltau(np.nan_to_num(values[among], nan=-1e9), truth[among]).statistic)


def known_cells(tables: Path, n: int, *, dev: bool) -> pd.DataFrame:
    """Truth and proxies of `n` cells that compute different things; those of `dev` are none of the first `TESTED`."""
    both = pd.read_parquet(tables / "accuracy.parquet").merge(pd.read_parquet(tables / "zero_cost_cifar10.parquet"))
    order = np.random.default_rng(0).permutation(len(both))
    chosen = order[:n] if not dev else np.random.default_rng(DEV).choice(order[TESTED:], n, replace=False)
    return both.iloc[chosen].reset_index(drop=True)


def row(ranks: pd.DataFrame, cells: pd.DataFrame) -> dict[str, float]:
    """Tau of each joint score; `ranks` has logarithms of ranks by `val_acc`, minus `val_loss`, and proxies."""
    truth = cells[TRUTH].to_numpy()
    proxies = log_ranks(cells[list(PROXIES)]).sum(axis=1)
    inherited = ranks[["val_loss", *MEASURES]].sum(axis=1)
    scores = {
        "": ranks["val_loss"],
        "_inherited": inherited,
        "_proxies": ranks["val_loss"] + proxies,
        "_four": ranks["val_loss"] + proxies + ranks[FOURTH],
    }
    found = {"tau_acc": tau(ranks["val_acc"].to_numpy(), truth)}
    for name, values in scores.items():
        found |= both(name, values.to_numpy(), truth)
    return found


def both(name: str, values: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, float]:
    """Tau of a score, and within the best tenth."""
    return {f"tau{name}": tau(values, truth), f"tau{name}_top": tau(values, truth, top=True)}


def options(description: str | None) -> argparse.ArgumentParser:
    """The options of a training."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--archs", type=int, default=1000)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--workers", type=int, default=2, help="processes, a way of training at a time each")
    parser.add_argument("--dev", action="store_true", help="on other cells, to choose by")
    args = parser.parse_args()
    tables = published()
    cells = known_cells(tables / "nasbench201", args.archs, dev=args.dev)
    truth, alone = cells[TRUTH].to_numpy(), log_ranks(cells[list(PROXIES)]).sum(axis=1).to_numpy()
    rows: list[dict[str, Any]] = []
    scores = [cells[["arch", TRUTH, *PROXIES]]]
    for seed in range(args.seeds):
        start, ranks = time.monotonic(), {}
        kept = any(folder_of(way, args.epochs, args, seed).exists() for way in args.ways)
        for way, (found, cost) in measure(args, cells["arch"].tolist(), tables, seed).items():
            scores.append(found.add_prefix(f"{way} {seed} "))
            ranks[way] = log_ranks(found.assign(val_loss=-found["val_loss"]))
            if not rows:
                four = alone + ranks[way][FOURTH].to_numpy()
                rows.append({"way": "proxies", **both("_proxies", alone, truth), **both("_four", four, truth)})
            rows.append({"way": way, "seed": seed, **row(ranks[way], cells), **cost})
        joined = [ranks[way] for way in JOINED if way in ranks]
        if len(joined) > 1:
            means = pd.concat(joined).groupby(level=0).mean()
            rows.append({"way": "best", "seed": seed, **row(means, cells)})
        # The minutes of a run that found trainings of an earlier one would say nothing.
        rows[-1]["minutes"] = None if kept else (time.monotonic() - start) / 60
    machine = f"{platform.machine()}, {args.workers} processes of a thread"
    table = pd.DataFrame(rows).assign(epochs=args.epochs, cells=len(cells), machine=machine)
    print(table.to_string(index=False))
    out, all_scores = args.runs / "supernet_ranking" / "dev" if args.dev else args.out, pd.concat(scores, axis=1)
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "supernet_ranking.csv", lambda path: table.to_csv(path, index=False))
    write_atomic(out / "supernet_ranking_cells.parquet", lambda path: all_scores.to_parquet(path, index=False))


if __name__ == "__main__":
    main()
