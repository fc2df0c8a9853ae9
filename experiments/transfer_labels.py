"""Figure B6: architectures evaluated on a data set of NAS-Bench-201 until its best is found, with labels of two others.

    python experiments/transfer_labels.py [--seeds 10] [--budget 100]
    python experiments/transfer_labels.py --nested

The target is each of CIFAR-10, CIFAR-100 and ImageNet16-120; sources are all 15,625 cells of the other two, of each the
mean of validation and test accuracy after 200 epochs, with equal prior weights (the table has no images); their
predictors read the free labels of the checkpoints. No label of the target is known before the first evaluation. In turn
the cell of the greatest upper confidence bound (mean + 0.5 standard deviations, in scores) is evaluated and the
predictor is fitted again. Two runs a target: what is observed, and whose best is looked for, is the validation
accuracy, or the test accuracy (what DiffusionNAG counts). Controls: the order of the prior mean, never adapted; no
sources, from 4 random cells (median of the seeds). A figure is the number of evaluations until the best one, itself
counted; runs that did not find it within the budget count as infinite.

None of these counts was used to choose anything. The bound's 0.5, the mean of the two accuracies and the equal weights
were decided beforehand. That sources read free labels, and the share of a source's own label (`TRUST`), were chosen by
`--nested`, which prints how well the sources of a target tell each other's best cells, and sees no label of the target.

Writes experiments/results/transfer_labels.csv, a row an evaluation; runs that are there already are not made again.
"""

from __future__ import annotations

import argparse
import itertools
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
from archgen.predictors import MetaPredictor, Source, pretrained_free_labels
from archgen.predictors.source_scores import TRUST
from archgen.spaces import SearchSpace

DATA_SETS = ("cifar10", "cifar100", "imagenet16_120")
RESULTS = Path(__file__).parent / "results" / "transfer_labels.csv"
RUN = ["method", "target", "observed", "seed"]
OPTIMISM = 0.5
RANDOM_START = 4
TRUSTS = (0.0, 0.05, 0.125, 0.25, 0.5, 1.0)
BEST = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="Of the control without sources.")
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--nested", action="store_true", help="How well sources tell each other's best; no figure.")
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    torch.set_num_threads(1)
    space = spaces.load("nasbench201")
    table = pd.read_parquet(tables / "nasbench201" / "accuracy.parquet")
    archs = [space.parse(text) for text in table["arch"]]
    start = time.perf_counter()
    if args.nested:
        nested(space, archs, table)
    else:
        report(measure(space, archs, table, args.seeds, args.budget))
    print(f"{time.perf_counter() - start:.0f} s; {platform.machine()}, one thread, numpy {np.__version__}")


def measure(
    space: SearchSpace, archs: Sequence[Architecture], table: pd.DataFrame, seeds: int, budget: int
) -> pd.DataFrame:
    """A row an evaluation; those of earlier runs are kept."""
    frame = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=RUN)
    done = set(frame[RUN].itertuples(index=False, name=None))

    def keep(*run: object, y: np.ndarray, seen: Sequence[int]) -> None:
        nonlocal frame
        frame = pd.concat([frame, pd.DataFrame(told(dict(zip(RUN, run, strict=True)), y, seen))])
        frame.to_csv(RESULTS, index=False)

    for target in DATA_SETS:
        meta = MetaPredictor(space, "acc", sources(archs, table, target), free_labels=pretrained_free_labels(space))
        for part in ("val", "test"):
            y = table[f"{target}_{part}_acc"].to_numpy()
            if ("meta", target, part, 0) not in done:
                keep("meta", target, part, 0, y=y, seen=search(meta, archs, y, [], budget))
            if ("prior order", target, part, 0) not in done:
                prior, _ = meta.fit([], np.zeros(0)).predict_scores(archs)
                keep("prior order", target, part, 0, y=y, seen=np.argsort(-prior, kind="stable")[:budget].tolist())
    alone = MetaPredictor(space, "acc")
    # without sources, cells that compute the same get the same prediction: one of each is asked about
    cells: dict[str, int] = {}
    which = np.array([cells.setdefault(space.canonical(arch), len(cells)) for arch in archs])
    for seed in tqdm(range(seeds), desc="no sources", disable=None):
        first = np.random.default_rng(seed).permutation(len(archs))[:RANDOM_START].tolist()
        for target, part in itertools.product(DATA_SETS, ("val", "test")):
            if ("no sources", target, part, seed) not in done:
                y = table[f"{target}_{part}_acc"].to_numpy()
                keep("no sources", target, part, seed, y=y, seen=search(alone, archs, y, first, budget, which))
    return frame


def accuracy(table: pd.DataFrame, name: str) -> np.ndarray:
    """Of a source: the mean of both accuracies, two readings of one thing."""
    return (table[f"{name}_val_acc"] + table[f"{name}_test_acc"]).to_numpy() / 2


def sources(archs: Sequence[Architecture], table: pd.DataFrame, target: str) -> list[Source]:
    return [Source(archs, accuracy(table, name)) for name in DATA_SETS if name != target]


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


def told(run: dict[str, object], y: np.ndarray, seen: Sequence[int]) -> list[dict[str, object]]:
    """A row an evaluation, up to the first of the best value."""
    rows = []
    for count, i in enumerate(seen, start=1):
        regret = float(y.max() - y[i])
        rows.append(run | {"evaluation": count, "row": i, "accuracy": y[i], "regret": regret, "found": regret == 0})
        if regret == 0:
            break
    return rows


def nested(space: SearchSpace, archs: Sequence[Architecture], table: pd.DataFrame) -> None:
    """Each source of a target orders the cells; the figure is the mean log-rank of the other's ten best.

    Over both sources, and validation and test accuracy; in brackets the mean over the targets.
    """
    ranked: dict[tuple[str, str, bool, float], float] = {}
    for name, free in itertools.product(DATA_SETS, (False, True)):
        source = Source(archs, accuracy(table, name))
        predictor = MetaPredictor(space, "acc", [source], free_labels=pretrained_free_labels(space) if free else None)
        scores, own, _ = predictor.fit([], np.zeros(0)).said(archs)
        for trust in TRUSTS:
            order = np.argsort(-(scores + (trust - TRUST) * own)[:, 0], kind="stable")
            rank = np.empty(len(order))
            rank[order] = np.arange(1, len(order) + 1)
            for other in DATA_SETS:
                best = [np.argsort(-table[f"{other}_{part}_acc"].to_numpy())[:BEST] for part in ("val", "test")]
                ranked[name, other, free, trust] = float(np.log(rank[np.concatenate(best)]).mean())
    for free, trust in itertools.product((False, True), TRUSTS):
        each = []
        for target in DATA_SETS:
            pairs = itertools.permutations([name for name in DATA_SETS if name != target], 2)
            each.append(np.mean([ranked[a, b, free, trust] for a, b in pairs]))
        figures = ", ".join(f"{name} {value:.3f}" for name, value in zip(DATA_SETS, each, strict=True))
        print(f"free labels {'yes' if free else 'no '}, trust {trust:5.3f}: {figures} ({np.mean(each):.3f})")


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
