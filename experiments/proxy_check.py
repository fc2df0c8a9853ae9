"""Our zero-cost proxies against the published ones of NAS-Bench-Suite-Zero, on random cells of NAS-Bench-201.

    python experiments/proxy_check.py [--cells 300] [--workers 2] [--seed 0] [--proxies synflow snip]

Needs the published tables and CIFAR-10 (ARCHGEN_DATA or ../shared/data). 64 training images, the published network of
15 cells and 16 channels. A proxy that a network does not have (NaN here, -1e8 there) ranks last. Writes
experiments/results/proxy_check.csv, one row a proxy: Spearman's correlation of ours with the published values, of both
with the validation accuracy on CIFAR-10 after 200 epochs, and whether all values are equal to six digits (as those of
`params` and `flops`, in millions, must be).

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

from archgen import config, spaces
from archgen.cli.terminal import Terminal
from archgen.data import load_data
from archgen.proxies import AZ_NAS, PROXIES, az_nas, compute_proxies

RESULTS = Path(__file__).parent / "results" / "proxy_check.csv"
BATCH = 64
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
    archs = [space.parse(text) for text in published.index]
    ours = compute_proxies(
        space,
        archs,
        args.proxies,
        data.images[:BATCH],
        data.labels[:BATCH],
        seed=args.seed,
        workers=args.workers,
        progress=Terminal(),
    ).set_index("arch")
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
    RESULTS.parent.mkdir(exist_ok=True)
    table.to_csv(RESULTS, index=False)
    print(table.round(3).to_string(index=False))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(spearmanr(np.nan_to_num(a, nan=-np.inf, neginf=-np.inf, posinf=np.inf), b).statistic)


if __name__ == "__main__":
    main()
