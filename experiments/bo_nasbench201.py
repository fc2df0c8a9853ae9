"""Every search strategy on NAS-Bench-201: evaluations until the best, regret, test accuracy (figure B5).

    python experiments/bo_nasbench201.py [--datasets cifar10 cifar100 imagenet16_120] [--seeds 30] [--budget 200] \\
        [--batch 1] [--workers 2] [--strategies generative bayes ...]

The objective is the validation accuracy after 200 epochs; test accuracy is that of the architecture whose validation
accuracy is the best so far. Protocol and files as in `bo_tables.py`: finished runs are kept in runs/, so the command
goes on where it was stopped. Needs the published table. Writes experiments/results/bo_nasbench201_<dataset>.csv and
.png, and bo_nasbench201.md with a table a data set.
"""

from __future__ import annotations

import sys

import pandas as pd
from bo_tables import TableSearch, options, report, variants, write_text

from archgen import config, maximize
from archgen.gaps import find_gaps

DATASETS = ("cifar10", "cifar100", "imagenet16_120")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=DATASETS)
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    path = tables / "nasbench201" / "accuracy.parquet"
    table = pd.read_parquet(path)
    sections = ["# Search strategies on NAS-Bench-201\n"]
    for dataset in args.datasets:
        wish, shown = maximize(f"{dataset}_val_acc"), f"{dataset}_test_acc"
        known, best = variants(args.strategies, args.budget), float(table[wish.metric].max())
        search = TableSearch((wish,), args.budget, args.batch, args.seeds, known, best, "nasbench201", path)
        runs = search.runs(args.runs / f"bo_nasbench201_{dataset}", args.workers)
        text = report(
            search,
            runs,
            args.out / f"bo_nasbench201_{dataset}",
            gaps=find_gaps(runs, [wish], best=best),
            reference=args.reference,
            label="regret (validation accuracy, points)",
            shown=shown,
            random_mean=float(table[shown].mean()),
        )
        sections.append(f"## {dataset}\n\n{text}")
    write_text(args.out / "bo_nasbench201.md", "\n".join(sections))


if __name__ == "__main__":
    main()
