"""Figure B6: architectures evaluated on a data set of NAS-Bench-201 until its best is found, with labels of two others.

    python experiments/transfer_labels.py [--seeds 10] [--budget 100]

The target is each of CIFAR-10, CIFAR-100 and ImageNet16-120; sources are all 15,625 cells of the other two, of each the
mean of validation and test accuracy after 200 epochs, with equal prior weights (the table has no images). No label of
the target is known before the first evaluation. In turn the cell of the greatest upper confidence bound (mean + 0.5
standard deviations, in scores) is evaluated and the predictor is fitted again. Two runs a target: what is observed, and
whose best is looked for, is the validation accuracy, or the test accuracy (what DiffusionNAG counts). Controls: the
order of the prior mean, never adapted; no sources, from 4 random cells (median of the seeds). A figure is the number
of evaluations until the best one, itself counted; runs that did not find it within the budget count as infinite.

None of these counts was used to choose anything. The bound's 0.5, the mean of the two accuracies and the equal weights
were decided beforehand; the share of a source's own label (`TRUST`) by evaluations until the best *12-epoch* validation
accuracy, from 12-epoch and from 200-epoch labels of the other two. Writes experiments/results/transfer_labels.csv, a
row an evaluation.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from archgen import config, spaces
from archgen.graph import Architecture
from archgen.predictors import MetaPredictor, Source

DATA_SETS = ("cifar10", "cifar100", "imagenet16_120")
RESULTS = Path(__file__).parent / "results"
OPTIMISM = 0.5
RANDOM_START = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="Of the control without sources.")
    parser.add_argument("--budget", type=int, default=100)
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    torch.set_num_threads(1)
    space = spaces.load("nasbench201")
    table = pd.read_parquet(tables / "nasbench201" / "accuracy.parquet")
    archs = [space.parse(text) for text in table["arch"]]
    alone = MetaPredictor(space, "acc")
    # without sources, cells that compute the same get the same prediction: one of each is asked about
    cells: dict[Architecture, int] = {}
    which = np.array([cells.setdefault(space.canonical(arch), len(cells)) for arch in archs])
    rows: list[dict[str, object]] = []
    start = time.perf_counter()
    for target in DATA_SETS:
        others = [name for name in DATA_SETS if name != target]
        labels = [(table[f"{name}_val_acc"] + table[f"{name}_test_acc"]).to_numpy() / 2 for name in others]
        meta = MetaPredictor(space, "acc", [Source(archs, y) for y in labels])
        prior, _ = meta.fit([], np.zeros(0)).predict_scores(archs)
        for part in ("val", "test"):
            y = table[f"{target}_{part}_acc"].to_numpy()
            rows += told("meta", target, part, 0, y, search(meta, archs, y, [], args.budget))
            rows += told("prior order", target, part, 0, y, np.argsort(-prior, kind="stable")[: args.budget].tolist())
            pd.DataFrame(rows).to_csv(RESULTS / "transfer_labels.csv", index=False)
    for seed in tqdm(range(args.seeds), desc="no sources", disable=None):
        first = np.random.default_rng(seed).permutation(len(archs))[:RANDOM_START].tolist()
        for target in DATA_SETS:
            for part in ("val", "test"):
                y = table[f"{target}_{part}_acc"].to_numpy()
                rows += told("no sources", target, part, seed, y, search(alone, archs, y, first, args.budget, which))
        pd.DataFrame(rows).to_csv(RESULTS / "transfer_labels.csv", index=False)
    report(pd.DataFrame(rows))
    print(f"{time.perf_counter() - start:.0f} s; {platform.machine()}, one thread, numpy {np.__version__}")


def search(
    predictor: MetaPredictor,
    archs: Sequence[Architecture],
    y: np.ndarray,
    first: Sequence[int],
    budget: int,
    which: np.ndarray | None = None,
) -> list[int]:
    """Rows in the order of evaluation, until the best one or the budget; cells of one `which` are alike."""
    seen = list(first)
    asked = np.unique(which, return_index=True)[1] if which is not None else np.arange(len(archs))
    while len(seen) < budget and y[seen].max(initial=-np.inf) < y.max():
        predictor.fit([archs[i] for i in seen], y[seen])
        mean, std = predictor.predict_scores([archs[i] for i in asked])
        bound = mean + OPTIMISM * std
        bound = bound if which is None else bound[which]
        bound[seen] = -np.inf
        seen.append(int(bound.argmax()))
    return seen


def told(method: str, target: str, part: str, seed: int, y: np.ndarray, seen: Sequence[int]) -> list[dict[str, object]]:
    """A row an evaluation, up to the first of the best value."""
    rows = []
    for count, i in enumerate(seen, start=1):
        regret = float(y.max() - y[i])
        row: dict[str, object] = {"method": method, "target": target, "observed": part, "seed": seed}
        rows.append(row | {"evaluation": count, "row": i, "accuracy": y[i], "regret": regret, "found": regret == 0})
        if regret == 0:
            break
    return rows


def report(frame: pd.DataFrame) -> None:
    runs = frame.groupby(["target", "observed", "method", "seed"], sort=False)
    each = runs.agg(count=("evaluation", "max"), found=("found", "any"), regret=("regret", "min")).reset_index()
    each["count"] = each["count"].where(each["found"], np.inf)
    each = each.join(runs["regret"].first().rename("first").reset_index(drop=True))
    shown = each.groupby(["target", "observed", "method"], sort=False).agg(
        runs=("count", "size"),
        found=("found", "sum"),
        median=("count", "median"),
        least=("count", "min"),
        regret_of_first=("first", "mean"),
        regret_in_the_end=("regret", "mean"),
    )
    print(shown.round(3).to_string())


if __name__ == "__main__":
    main()
