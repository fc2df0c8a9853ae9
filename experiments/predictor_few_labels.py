"""Accuracy predictors from few labels (figure B3): every member, on all architectures that were not used.

    python experiments/predictor_few_labels.py [--space nasbench201] [--labels 78,156,469,1563] [--draws 10]
        [--members gp,gp_plain,gbdt,ensemble]

NAS-Bench-201 (CIFAR-10 test accuracy, 15,625 cells) and NAS-Bench-Macro (6,561 networks); the numbers of labels are
0.5, 1, 3 and 10 % of the space. For each draw n random architectures are fitted to; Kendall's tau is taken over all
others (`tau`) and over those of them within the true best tenth of the space (`top`); `coverage` is the share of true
values between the two one-sided 95 % limits. `gp_plain` is the Gaussian process without free labels; the others have
the free labels of the checkpoints where they take any. Members and their settings were chosen on validation accuracies
(`--target cifar10_val_acc`), other draws.

Writes a row a member and draw to experiments/results/predictor_few_labels.csv as it goes; rows that are there already
are not computed again, so that a stopped run goes on.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from archgen import config, spaces
from archgen.predictors import PREDICTORS, judge
from archgen.pretrain_predictor import make_predictor
from archgen.threads import single_threaded

RESULTS = Path(__file__).parent / "results" / "predictor_few_labels.csv"
TABLES = {"nasbench201": "nasbench201/accuracy.parquet", "nasbench_macro": "nasbench_macro.parquet"}
TARGETS = {"nasbench201": "cifar10_test_acc", "nasbench_macro": "test_acc"}
LABELS = {"nasbench201": "78,156,469,1563", "nasbench_macro": "33,66,197,656"}
PLAIN = "gp_plain"
PUBLISHED = {"PINAT (2211.17226)": {78: 0.549, 156: 0.631, 469: 0.706, 1563: 0.784}}
KEY = ["space", "target", "labels", "member", "draw"]
FIRST_DRAW = 1000
"""Seeds of the draws start here; smaller ones were used to choose settings by validation accuracies."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=TABLES, default="nasbench201")
    parser.add_argument("--target")
    parser.add_argument("--labels")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--members", default="gp_plain,gp,gbdt,ensemble")
    args = parser.parse_args()
    folder = config.data_dir()
    if folder is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    space, target = spaces.load(args.space), args.target or TARGETS[args.space]
    table = pd.read_parquet(folder / TABLES[args.space])
    archs, y = [space.parse(text) for text in table["arch"]], table[target].to_numpy(float)
    best = np.quantile(y, 0.9)
    done = set(pd.read_csv(RESULTS)[KEY].itertuples(index=False, name=None)) if RESULTS.exists() else set()
    with single_threaded():
        for n in map(int, (args.labels or LABELS[args.space]).split(",")):
            for member in args.members.split(","):
                for draw in range(args.draws):
                    key = (args.space, target, n, member, draw)
                    if key in done:
                        continue
                    order = np.random.default_rng(FIRST_DRAW + draw).permutation(len(y))
                    used, rest = order[:n], order[n:]
                    if member == PLAIN:
                        predictor = PREDICTORS["gp"](space, target)
                    else:
                        predictor = make_predictor(member, space, target, built_simplified=False)
                    start = time.process_time()
                    predictor.fit([archs[i] for i in used], y[used])
                    seconds = time.process_time() - start
                    others = [archs[i] for i in rest]
                    figures = judge(predictor, others, y[rest])
                    top = y[rest] >= best
                    mean = predictor.predict([arch for arch, kept in zip(others, top, strict=True) if kept]).mean
                    row = dict(zip(KEY, key, strict=True)) | {
                        "tau": figures["kendall_tau"],
                        "top": float(kendalltau(mean, y[rest][top]).statistic),
                        "coverage": figures["coverage_90"],
                        "fit_s": seconds,
                    }
                    pd.DataFrame([row]).round(4).to_csv(RESULTS, mode="a", index=False, header=not RESULTS.exists())
                show(args.space, target, n, member)
    for name, taus in PUBLISHED.items() if args.space == "nasbench201" else ():
        print(f"{name}, as published: {taus}")
    print(f"{platform.machine()}, one thread")


def show(space: str, target: str, n: int, member: str) -> None:
    table = pd.read_csv(RESULTS)
    rows = table[(table[KEY[:4]] == [space, target, n, member]).all(axis=1)]
    figures = ", ".join(f"{c} {rows[c].mean():.3f} ({rows[c].std(ddof=0):.3f})" for c in ("tau", "top"))
    print(
        f"{space} {n:5d} {member:10s} {figures}, 90 % intervals hold {rows['coverage'].mean():.1f} %, "
        f"{rows['fit_s'].mean():.1f} s, {len(rows)} draws",
        flush=True,
    )


if __name__ == "__main__":
    main()
