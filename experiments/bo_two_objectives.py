"""Accuracy and latency at once on NAS-Bench-201: hypervolume by evaluations of the strategies that take several wishes.

    python experiments/bo_two_objectives.py [--devices pixel3 raspi4 eyeriss] [--seeds 30] [--budget 200] [--workers 2]

Maximizes CIFAR-100 validation accuracy and minimizes the latency of a device (HELP's table). The figure is the share of
the true front's hypervolume that is missed; the reference point lies a tenth of the true front's ranges beyond its
worst values. `best_at` is the evaluation that completed the front. Protocol and files as in `bo_tables.py`. Writes
experiments/results/bo_two_objectives_<device>.csv and .png, and bo_two_objectives.md.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from bo_tables import TableSearch, options, published, report, variants, write_text

from archgen import maximize, minimize
from archgen.artifacts import write_atomic
from archgen.gaps import Gaps, find_gaps, hypervolume, infer_reference
from archgen.objectives import Objective
from archgen.runs import Runs
from archgen.strategies import STRATEGIES

DEVICES = ("pixel3", "raspi4", "eyeriss")
ACCURACY = "cifar100_val_acc"


def main() -> None:
    parser = options(__doc__)
    parser.set_defaults(strategies=[name for name in sorted(STRATEGIES) if STRATEGIES[name].several_directions])
    parser.add_argument("--devices", nargs="+", default=list(DEVICES))
    args = parser.parse_args()
    tables = published()
    sections = ["# Accuracy and latency on NAS-Bench-201, CIFAR-100\n"]
    for device in args.devices:
        folder = args.runs / f"bo_two_objectives_{device}"
        wishes = (maximize(ACCURACY), minimize(f"latency_ms@{device}"))
        path = join(tables / "nasbench201", device, folder / "table.parquet")
        known = variants(args.strategies, args.budget)
        search = TableSearch(wishes, args.budget, args.batch, args.seeds, known, None, "nasbench201", path)
        runs = search.runs(folder, args.workers, args.ray)
        text = report(
            search,
            runs,
            args.out / f"bo_two_objectives_{device}",
            gaps=true_gaps(runs, wishes, pd.read_parquet(path)),
            reference=args.reference,
            label="share of the hypervolume missed",
        )
        sections.append(f"## {device}\n\n{text}")
    write_text(args.out / "bo_two_objectives.md", "\n".join(sections))


def join(folder: Path, device: str, path: Path) -> Path:
    """Write accuracies and the latency of a device as one table."""
    accuracy = pd.read_parquet(folder / "accuracy.parquet", columns=["arch", ACCURACY])
    latency = pd.read_parquet(folder / "latency_ms.parquet", columns=["arch", device])
    table = accuracy.merge(latency.rename(columns={device: f"latency_ms@{device}"}), on="arch", validate="1:1")
    write_atomic(path, lambda beside: table.to_parquet(beside, index=False))
    return path


def true_gaps(runs: Runs, wishes: tuple[Objective, ...], table: pd.DataFrame) -> Gaps:
    """Gaps to the front of the whole table."""
    signs = [wish.sign for wish in wishes]
    points = table[[wish.metric for wish in wishes]].to_numpy(float)
    reference = infer_reference(points, signs)
    return find_gaps(runs, wishes, best=hypervolume(points, signs, reference), reference_point=reference)


if __name__ == "__main__":
    main()
