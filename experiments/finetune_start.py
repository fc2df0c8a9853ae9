"""Where should fine-tuning start: at inherited weights, at fresh ones, or between both? And does a teacher help?

    python experiments/finetune_start.py RUN [--network 0] [--starts inherited shrunk fresh taught] [--epochs 25 60]
        [--lr 0.2] [--seeds 1] [--workers 2]

RUN is the folder of a finished `archgen design`. One of its networks is trained alone by the recipe of fine-tuning, on
the same training images, from its inherited weights; from these shrunk and mixed with fresh ones (each weight `w` of a
convolution or linear layer becomes `s w + (1 - s) f`, `f` a fresh one; after shrink and perturb of Ash and Adams, arXiv
1910.08475, who shrink all weights and add a little noise); from fresh weights; and from inherited ones with the
largest architecture, by its inherited weights, as teacher (`taught`). A row a start,
a length and a seed with the accuracy on the validation part, in percent; the test part is not looked at.

Adds to experiments/results/finetune_start.csv, or replaces rows of the same setting there.
"""

from __future__ import annotations

import argparse
import json
import platform
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from design_against_random import reopened
from torch import nn

from archgen.artifacts import write_atomic
from archgen.design.finetuning import FINETUNE_LR, inherit, largest
from archgen.protocol import processes
from archgen.supernets.training import Schedule, accuracy, train_network

RESULTS = Path(__file__).parent / "results" / "finetune_start.csv"
SHARES = {"inherited": 1.0, "shrunk": 0.4, "fresh": 0.0, "taught": 1.0}
"""Of the inherited weights, by start."""
SETTING = ["arch", "start", "epochs", "lr", "seed"]


def started(folder: Path, text: str, share: float, seed: int) -> nn.Module:
    """The network with a share of its inherited weights."""
    design, supernet = reopened(folder)
    arch = design.space.parse(text)
    torch.manual_seed(seed)
    fresh = design.space.build(design.space.simplify(arch), **design.network)
    if share == 0:
        return fresh
    network = inherit(design, supernet, arch)
    with torch.no_grad():
        for ours, new in zip(network.parameters(), fresh.parameters(), strict=True):
            if ours.ndim > 1:
                ours.mul_(share).add_((1 - share) * new)
    return network


def tuned(folder: Path, text: str, lr: float, job: tuple[str, int, int]) -> dict[str, Any]:
    """One training: a row."""
    start, epochs, seed = job
    design, supernet = reopened(folder)
    network, part = started(folder, text, SHARES[start], seed), design.data.validation
    teacher = inherit(design, supernet, largest(design.space, design.network)) if start == "taught" else None
    train_network(network, design.data, Schedule(epochs, lr=lr), seed=seed, teacher=teacher)
    found, _ = accuracy(network, part.images, part.labels)
    return {"start": start, "epochs": epochs, "lr": lr, "seed": seed, "val": found}


def add_rows(results: Path, table: pd.DataFrame, setting: list[str]) -> None:
    """Write a table; earlier rows stay but for those of the same setting."""
    if results.exists():
        table = pd.concat([pd.read_csv(results), table]).drop_duplicates(setting, keep="last")
    write_atomic(results, lambda path: table.to_csv(path, index=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--network", type=int, default=0, help="its place in the run's result")
    parser.add_argument("--starts", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--epochs", type=int, nargs="+", default=[25, 60])
    parser.add_argument("--lr", type=float, default=FINETUNE_LR, help="peak learning rate")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    result = json.loads((args.run / "result.json").read_text())
    found = result["networks"][args.network]
    jobs = [(s, n, seed) for n in sorted(args.epochs, reverse=True) for s in args.starts for seed in range(args.seeds)]
    rows = []
    with processes(args.workers) as pool:
        for row in pool.map(partial(tuned, args.run, found["arch"], args.lr), jobs):
            rows.append(row)
            print(row, flush=True)
    table = pd.DataFrame(rows).assign(
        arch=found["arch"],
        inherited=found["inherited_val_acc"],
        space=result["space"],
        data=result["data"]["name"],
        machine=f"{platform.machine()}, torch {torch.__version__}, one thread",
    )
    add_rows(RESULTS, table, SETTING)


if __name__ == "__main__":
    main()
