"""Inherited accuracies against those of the same networks trained alone with the same recipe.

    python experiments/supernet_alone.py [--data digits] [--archs 50] [--epochs 60] [--longer 5] [--threads 2]
    python experiments/supernet_alone.py --data cifar10 --epochs 12

Random architectures of NAS-Bench-201 (one cell a stage, 8 channels) on the digits, or on 10,000 images of CIFAR-10
scaled to 16 x 16 pixels (`ARCHGEN_DATA` or ../shared/data). Each is trained alone twice, from different weights, by
the recipe of the supernets: optimiser, schedule, batches and augmentation. A supernet is trained `--longer` times as
many epochs, by each strategy as many passes of a path. All are judged on the validation images.

- `tau`: Kendall's between inherited accuracy and the mean of both alone; `tau_alone`: between the two alone.
- `gap`: mean of alone minus inherited, in points; `gap_best`: of the fifth that is best alone.
- On CIFAR-10 also `tau_published`, between inherited accuracy and the published test accuracy after 200 epochs of the
  whole network on all images, and `tau_published_alone`, of those alone here with it: what this scale allows.

Finished parts are kept in runs/supernet_alone_<data>. Writes experiments/results/supernet_alone_<data>.csv.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bo_tables import published
from numpy.typing import NDArray
from scipy.stats import kendalltau
from supernet_ranking import LR, NETWORK, TRUTH, WAYS, asked

from archgen import spaces
from archgen.artifacts import read_json, write_atomic, write_json
from archgen.cli.terminal import Terminal
from archgen.data import ImageData, load_data
from archgen.graph import Architecture
from archgen.inheritance import train_in_folder
from archgen.spaces import SearchSpace
from archgen.supernets.training import Schedule, accuracy, train_network

RESULTS = Path(__file__).parent / "results"
TWICE = (0, 1)
"""Seeds of the networks that are trained alone."""


def alone(
    space: SearchSpace, arch: Architecture, data: ImageData, schedule: Schedule, network: Mapping[str, int], seed: int
) -> float:
    """Validation accuracy in percent of a network that is trained alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = space.build(
            arch, **network, classes=len(data.classes), in_channels=data.in_channels, image_size=data.image_size
        )
    train_network(built, data, schedule, seed=seed)
    return accuracy(built, data.validation.images, data.validation.labels)[0]


def all_alone(
    space: SearchSpace,
    archs: list[Architecture],
    data: ImageData,
    schedule: Schedule,
    kept: Path,
    network: Mapping[str, int] = NETWORK,
) -> pd.DataFrame:
    """A row an architecture, a column a seed; what was trained before is read."""
    known: dict[str, float] = read_json(kept) if kept.exists() else {}
    with Terminal().bar("trained alone", len(archs) * len(TWICE)) as bar:
        for arch in archs:
            for seed in TWICE:
                key = f"{space.format(arch)} {seed}"
                if key not in known:
                    known[key] = alone(space, arch, data, schedule, network, seed)
                    write_json(kept, known)
                bar.update(1)
    return pd.DataFrame({seed: [known[f"{space.format(arch)} {seed}"] for arch in archs] for seed in TWICE})


def published_accuracies(tables: Path, space: SearchSpace, archs: list[Architecture]) -> NDArray[np.float64]:
    """Mean published test accuracy of each architecture, in percent."""
    table = pd.read_parquet(tables / "nasbench201" / "accuracy.parquet").set_index("arch")
    return table.loc[[space.format(arch) for arch in archs], TRUTH].to_numpy(float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", choices=["digits", "cifar10"])
    parser.add_argument("--archs", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--longer", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    source, options, tables = "digits", {}, None
    if args.data == "cifar10":
        tables = published()
        source, options = str(tables / "cifar10" / "images_jpeg.parquet"), {"resize": 16, "limit": 10_000}
    runs = args.runs / f"supernet_alone_{args.data}"
    runs.mkdir(parents=True, exist_ok=True)
    space, data = spaces.load("nasbench201"), load_data(source, seed=0, **options)
    drawn = dict.fromkeys(space.simplify(arch) for arch in space.sample(4 * args.archs, np.random.default_rng(0)))
    archs = list(drawn)[: args.archs]  # that compute different things
    known = published_accuracies(tables, space, archs) if tables is not None else np.full(len(archs), np.nan)
    both = all_alone(space, archs, data, Schedule(args.epochs, lr=LR), runs / f"alone_{args.epochs}.json")
    truth = both.mean(axis=1).to_numpy()
    best = truth >= np.quantile(truth, 0.8)
    rows = []
    for way in args.ways:
        request = asked(way, args.longer * args.epochs, data=source, **options)
        folder = runs / f"{way.replace(' ', '_')}_{args.longer * args.epochs}"
        trained = train_in_folder(request, folder, resume=(folder / "run.json").exists(), progress=Terminal())
        inherited = np.array([m.values.get("val_acc", np.nan) for m in trained.evaluator.evaluate(archs, seed=0)])
        rows.append(
            {
                "way": way,
                "tau": kendalltau(inherited, truth).statistic,
                "tau_alone": kendalltau(both[0], both[1]).statistic,
                "tau_published": kendalltau(inherited, known).statistic,
                "tau_published_alone": kendalltau(truth, known).statistic,
                "gap": float((truth - inherited).mean()),
                "gap_best": float((truth - inherited)[best].mean()),
                "alone": float(truth.mean()),
                "epochs_alone": args.epochs,
                "passes": args.longer * args.epochs,
                "archs": len(archs),
                "machine": f"{platform.machine()}, torch {torch.__version__}",
            }
        )
        print(
            {key: round(value, 3) if isinstance(value, float) else value for key, value in rows[-1].items()}, flush=True
        )
    table = pd.DataFrame(rows)
    write_atomic(args.out / f"supernet_alone_{args.data}.csv", lambda path: table.to_csv(path, index=False))


if __name__ == "__main__":
    main()
