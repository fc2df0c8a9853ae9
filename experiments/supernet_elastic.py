"""Subnets of a sandwich-trained elastic supernet, without fine-tuning, against the same networks trained alone.

    python experiments/supernet_elastic.py [--archs 10] [--epochs 30] [--longer 1] [--width 50] [--threads 2]

A space like Once-for-All's MobileNetV3 for images of 32 x 32 pixels (`spaces/mobilenetv3_small.toml` beside this
script: kernel 3 to 7, expansion 3 to 6, depth 1 or 2, resolution 48 to 64 in five stages) on 10,000 images of CIFAR-10
(`ARCHGEN_DATA` or ../shared/data). The largest, the smallest and random architectures are trained alone twice, from
different weights, for `--epochs` by the recipe of the supernet: optimiser, schedule, batches and augmentation. The
supernet is trained by the sandwich rule `--longer` times as many epochs, with BigNAS's constant end of the learning
rate. Both are judged on the validation images, the supernet after recalibrating its statistics.

Finished parts are kept in runs/supernet_elastic. Writes experiments/results/supernet_elastic.csv, a row an
architecture: accuracy inherited and alone (both seeds), and their difference (`gap`, points; the goal is 1 on average).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bo_tables import published
from supernet_alone import all_alone
from supernet_ranking import LR, options

from archgen.artifacts import write_atomic
from archgen.cli.terminal import Terminal
from archgen.inheritance import SupernetRequest, train_in_folder
from archgen.supernets.training import Schedule

SPACE = Path(__file__).parent / "spaces" / "mobilenetv3_small.toml"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.set_defaults(batch=None, size=32)
    parser.add_argument("--archs", type=int, default=10, help="the largest and the smallest included")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--longer", type=int, default=1)
    parser.add_argument("--width", type=int, default=50, help="channels, percent of the published ones")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    network = {"width_percent": args.width}
    request = SupernetRequest(
        str(SPACE),
        str(published() / "cifar10" / "images_jpeg.parquet"),
        strategy="sandwich",
        network=network,
        epochs=args.longer * args.epochs,
        lr=LR,
        resize=args.size,
        limit=args.images,
        batch=args.batch,
        channels_last=True,
    )
    runs = args.runs / "supernet_elastic"
    runs.mkdir(parents=True, exist_ok=True)
    size = f"{args.size}px_{args.images}_{args.width}"
    folder = runs / f"sandwich_{size}_{request.epochs}ep"
    trained = train_in_folder(request, folder, resume=(folder / "run.json").exists(), progress=Terminal())
    space, data = trained.space, trained.data
    assert space.extremes is not None
    archs = [*space.extremes, *space.sample(max(0, args.archs - 2), np.random.default_rng(0))]
    inherited = np.array([m.values.get("val_acc", np.nan) for m in trained.evaluator.evaluate(archs, seed=0)])
    schedule, kept = Schedule(args.epochs, lr=LR), runs / f"alone_{size}_{args.epochs}ep.json"
    both = all_alone(space, archs, data, schedule, kept, network)
    table = pd.DataFrame(
        {
            "arch": [space.format(arch) for arch in archs],
            "macs": [space.count(arch)["macs"] for arch in archs],
            "inherited": inherited,
            **{f"alone_{seed}": both[seed] for seed in both},
            "gap": both.mean(axis=1).to_numpy() - inherited,
            "epochs_alone": args.epochs,
            "epochs": request.epochs,
        }
    )
    print(table.to_string(index=False))
    error = table["gap"].std(ddof=1) / np.sqrt(len(table))
    print(f"mean gap {table['gap'].mean():.2f} points (standard error {error:.2f})")
    write_atomic(args.out / "supernet_elastic.csv", lambda path: table.to_csv(path, index=False))


if __name__ == "__main__":
    main()
