"""Does a teacher help when a chosen network is fine-tuned? Inherited weights, with and without the largest as teacher.

    python experiments/finetune_distillation.py SUPERNET ... [--archs 8] [--epochs 20] [--seeds 3] [--threads 2]

Each SUPERNET is a folder of `archgen supernet train`. Random architectures are fine-tuned from the
weights that they inherit as `archgen design` does it, on the same images, by cross-entropy alone, with the largest
architecture by its inherited weights as teacher, and from fresh weights. Prints the mean validation accuracy of each
with a 95 % interval over architectures (of the mean of the seeds), and the paired difference that the teacher makes.
Writes experiments/results/finetune_distillation.csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import sem, ttest_1samp

from archgen.artifacts import write_atomic
from archgen.cli.terminal import Terminal
from archgen.design.finetuning import FINETUNE_LR, largest
from archgen.graph import Architecture
from archgen.inheritance import CALIBRATION, load_supernet
from archgen.supernets import calibrated
from archgen.supernets.training import Schedule, accuracy, train_network

RESULTS = Path(__file__).parent / "results" / "finetune_distillation.csv"
WAYS = ("inherited", "finetuned", "teacher", "fresh")


def compare(path: Path, n: int, epochs: int, seeds: int) -> pd.DataFrame:
    """A row a way, an architecture and a seed, of one supernet."""
    trained = load_supernet(path)
    space, data, supernet = trained.space, trained.data, trained.supernet
    drawn = [space.simplify(arch) for arch in space.sample(10 * n, np.random.default_rng(0))]
    archs = [a for a in dict.fromkeys(drawn) if space.computation(a).edges][:n]

    def inherit(arch: Architecture) -> torch.nn.Module:
        return calibrated(supernet, arch, data.train.images[:CALIBRATION])

    teacher = inherit(largest(space, supernet.network))
    rows = []
    with Terminal().bar("fine-tuned", len(archs) * seeds) as bar:
        for arch in archs:
            for seed in range(seeds):
                for way in WAYS:
                    network = inherit(arch)
                    if way == "fresh":
                        torch.manual_seed(seed)
                        network = space.build(arch, **supernet.network)
                    if way != "inherited":
                        rate = {} if way == "fresh" else {"lr": FINETUNE_LR}
                        schedule = Schedule(epochs, **rate)
                        train_network(network, data, schedule, seed=seed, teacher=teacher if way == "teacher" else None)
                    found, _ = accuracy(network, data.validation.images, data.validation.labels)
                    rows.append({"arch": space.format(arch), "seed": seed, "way": way, "val_acc": found})
                bar.update(1)
    table = pd.DataFrame(rows).assign(epochs=epochs, supernet=path.name)
    means = table.pivot_table(index="arch", columns="way", values="val_acc")[list(WAYS)]
    taught, _ = accuracy(teacher, data.validation.images, data.validation.labels)
    print(f"{path}: teacher {taught:.2f} %")
    for way in WAYS:
        print(f"{way:10} {means[way].mean():.2f} % (+- {1.96 * sem(means[way]):.2f})")
    gain = means["teacher"] - means["finetuned"]
    print(f"the teacher adds {gain.mean():.2f} points (+- {1.96 * sem(gain):.2f}, p {ttest_1samp(gain, 0).pvalue:.2g})")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("supernets", type=Path, nargs="+")
    parser.add_argument("--archs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tables = [compare(path, args.archs, args.epochs, args.seeds) for path in args.supernets]
    write_atomic(RESULTS, lambda path: pd.concat(tables).to_csv(path, index=False))


if __name__ == "__main__":
    main()
