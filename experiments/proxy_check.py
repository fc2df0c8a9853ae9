"""Our zero-cost proxies against the published ones of NAS-Bench-Suite-Zero, on random cells of NAS-Bench-201.

    python experiments/proxy_check.py [--cells 300] [--workers 2] [--seed 0] [--proxies synflow snip]

Needs the published tables and CIFAR-10 (ARCHGEN_DATA or ../shared/data). 64 training images, the published network of
15 cells and 16 channels. A proxy that a network does not have (NaN here, -1e8 there) ranks last. Writes
experiments/results/proxy_check.csv, one row a proxy: Spearman's correlation of ours with the published values, of both
with the validation accuracy on CIFAR-10 after 200 epochs, and whether all values are equal to six digits (as those of
`params` and `flops`, in millions, must be). Values are kept in proxy_check_values.csv after every ten cells, and a run
that was stopped goes on from there; delete that file when a proxy has changed.

What to expect. Equal up to the draw of the weights: `params`, `flops` (exactly), `l2_norm`, `synflow`. High, but with
other images and weights: `nwot`, `jacov`, `snip`, `grad_norm`, `fisher`, `zen`.
Noisier: `epe_nas` hangs on the classes and images of the batch, `grasp` and `plain` are sums of terms of both signs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from torch import Tensor

from archgen import config, spaces
from archgen.artifacts import write_atomic
from archgen.data import load_data
from archgen.proxies import AZ_NAS, PROXIES, az_nas, compute_proxies
from archgen.spaces import SearchSpace

RESULTS = Path(__file__).parent / "results" / "proxy_check.csv"
VALUES = RESULTS.with_name("proxy_check_values.csv")
BATCH = 64
BLOCK = 10
"""Cells between two writings of the values."""
MILLION = {"params": 1e6, "flops": 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=300)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--proxies", nargs="+", default=list(PROXIES))
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    space = spaces.load("nasbench201")
    published = pd.read_parquet(tables / "nasbench201" / "zero_cost_cifar10.parquet")
    published = published.sample(args.cells, random_state=args.seed).set_index("arch")
    accuracy = pd.read_parquet(tables / "nasbench201" / "accuracy.parquet").set_index("arch")["cifar10_val_acc"]
    data = load_data(str(tables / "cifar10" / "images_jpeg.parquet"), seed=args.seed, limit=1000).train
    RESULTS.parent.mkdir(exist_ok=True)
    ours = our_values(space, list(published.index), args, data.images[:BATCH], data.labels[:BATCH])
    if set(AZ_NAS) <= set(ours.columns):
        ours["az_nas"] = az_nas(ours)
    truth = accuracy.loc[ours.index].to_numpy()
    rows = []
    for name in ours.columns:
        values = ours[name].to_numpy() / MILLION.get(name, 1.0)
        theirs = published[name].to_numpy() if name in published else None
        rows.append(
            {
                "proxy": name,
                "cells": len(ours),
                "undefined": int(np.isnan(values).sum()),
                "spearman_with_published": np.nan if theirs is None else spearman(values, theirs),
                "equal": theirs is not None and np.allclose(values, theirs, rtol=1e-6),
                "spearman_with_accuracy": spearman(values, truth),
                "published_spearman_with_accuracy": np.nan if theirs is None else spearman(theirs, truth),
            }
        )
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS, index=False)
    print(table.round(3).to_string(index=False))


def our_values(
    space: SearchSpace, cells: list[str], args: argparse.Namespace, images: Tensor, labels: Tensor
) -> pd.DataFrame:
    """Our proxies, a row a cell; those that an earlier run left in VALUES are not computed again."""
    known = pd.DataFrame({"seed": [], "arch": [], **{name: [] for name in args.proxies}})
    if VALUES.exists():
        known = pd.read_csv(VALUES, float_precision="round_trip")
    names = list(known.columns[2:])
    if not set(args.proxies) <= set(names):
        sys.exit(f"{VALUES} has no {', '.join(set(args.proxies) - set(names))}; choose among its proxies, or delete it")
    there = set(known.loc[known["seed"] == args.seed, "arch"])
    missing = [cell for cell in cells if cell not in there]
    for start in range(0, len(missing), BLOCK):
        archs = [space.parse(cell) for cell in missing[start : start + BLOCK]]
        found = compute_proxies(space, archs, names, images, labels, seed=args.seed, workers=args.workers)
        found.insert(0, "seed", args.seed)
        known = pd.concat([known, found], ignore_index=True) if len(known) else found
        write_atomic(VALUES, lambda path, table=known: table.to_csv(path, index=False))
        print(f"{start + len(archs)} of {len(missing)} cells", flush=True)
    return known[known["seed"] == args.seed].set_index("arch").loc[cells, args.proxies]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(spearmanr(np.nan_to_num(a, nan=-np.inf, neginf=-np.inf, posinf=np.inf), b).statistic)


if __name__ == "__main__":
    main()
