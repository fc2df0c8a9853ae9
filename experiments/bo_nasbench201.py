"""Every search strategy on NAS-Bench-201: evaluations until the best, regret, test accuracy (figure B5).

    python experiments/bo_nasbench201.py [--datasets cifar10 cifar100 imagenet16_120] [--seeds 30] [--budget 200] \\
        [--batch 1] [--workers 2] [--strategies generative bayes ...]

The objective is the validation accuracy after 200 epochs; test accuracy is that of the architecture whose validation
accuracy is the best so far. Protocol and files as in `bo_tables.py`: finished runs are kept in runs/, so the command
goes on where it was stopped. Needs the published table. Writes experiments/results/bo_nasbench201_<dataset>.csv and
.png, and bo_nasbench201.md with a table a data set.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import pandas as pd
from bo_tables import TableSearch, Variant, options, published, report, variants, write_text

from archgen import maximize
from archgen.gaps import find_gaps

DATASETS = ("cifar10", "cifar100", "imagenet16_120")


def compare(args: argparse.Namespace, dataset: str, known: Mapping[str, Variant], name: str) -> str:
    """Do the runs of these variants that are not kept yet, write their table and picture; Markdown of the summary.

    Args:
        args: What `options` reads.
        dataset: One of `DATASETS`.
        known: The variants.
        name: Of the folder of runs, and of the files.
    """
    path = published() / "nasbench201" / "accuracy.parquet"
    wish, shown = maximize(f"{dataset}_val_acc"), f"{dataset}_test_acc"
    table = pd.read_parquet(path, columns=[wish.metric, shown])
    best = float(table[wish.metric].max())
    search = TableSearch((wish,), args.budget, args.batch, args.seeds, known, best, "nasbench201", path)
    runs = search.runs(args.runs / name, args.workers, args.ray)
    return report(
        search,
        runs,
        args.out / name,
        gaps=find_gaps(runs, [wish], best=best),
        reference=args.reference,
        label="regret (validation accuracy, points)",
        shown=shown,
        random_mean=float(table[shown].mean()),
    )


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=DATASETS)
    args = parser.parse_args()
    sections = ["# Search strategies on NAS-Bench-201\n"]
    for dataset in args.datasets:
        text = compare(args, dataset, variants(args.strategies, args.budget), f"bo_nasbench201_{dataset}")
        sections.append(f"## {dataset}\n\n{text}")
    write_text(args.out / "bo_nasbench201.md", "\n".join(sections))


if __name__ == "__main__":
    main()
