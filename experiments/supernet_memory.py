"""Peak memory of a training step of each supernet, beside that of the largest network trained alone.

    python experiments/supernet_memory.py [--space nasbench201 darts mobilenetv3@32 autoformer@32] [--batch 32]

Images of 32 x 32 pixels, one thread, each measurement in a process of its own: the growth of its peak resident memory
over `STEPS` steps, from before the network is built; `weights_mb` is what the weights, their momenta and their
gradients take where all weights have some. Paths of one step are run one after the other, each freed by its backward
pass, so what a strategy adds to a path's activations is bounded by the weights; mixtures keep all operations of an
edge. Writes experiments/results/supernet_memory.csv.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from supernet_speed import made

from archgen import spaces
from archgen.artifacts import write_atomic
from archgen.errors import InvalidSpace
from archgen.supernets import make_supernet
from archgen.supernets.training import TRAINING_STRATEGIES, Plan, Schedule

RESULTS = Path(__file__).parent / "results" / "supernet_memory.csv"
NETWORKS = {
    "nasbench201": {"cells": 5, "channels": 16},
    "darts": {"cells": 8, "channels": 16, "auxiliary": 0},
    "mobilenetv3@32": {},
    "autoformer@32": {},
}
STEPS = 4
ALONE = "largest alone"


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, strategy: str, batch: int) -> dict[str, object] | None:
    """Megabytes of one way of training; None where the strategy does not train the space."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    space = spaces.load(name)
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    F.conv2d(x, torch.randn(3, 3, 3, 3))  # the library's own memory
    before = peak_mb()
    network = {**NETWORKS[name], "classes": 10, "in_channels": 3, "image_size": 32}
    if strategy == ALONE:
        if space.extremes is not None:
            largest = space.extremes[1]
        else:
            drawn = space.sample(300, np.random.default_rng(0))
            largest = max(drawn, key=lambda arch: space.count(arch)["flops"])
        module: torch.nn.Module = space.build(largest, **network)
    else:
        module = made(strategy, make_supernet(space, **network))
        trained = TRAINING_STRATEGIES[strategy]()
        try:
            trained.prepare(module, Plan(batch * STEPS, STEPS, 1))  # type: ignore[arg-type]
        except InvalidSpace:
            return None
        trained.order(torch.Generator().manual_seed(0))
    module.train()
    optimizer = Schedule(1).optimizer(module)
    for step in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        if strategy == ALONE:
            F.cross_entropy(module(x), y).backward()  # type: ignore[no-untyped-call]
        else:
            trained.step(module, (x, y), np.random.default_rng(step))  # type: ignore[arg-type]
        optimizer.step()
    weights = sum(p.numel() for p in module.parameters()) * 4 / 2**20
    return {"space": name, "strategy": strategy, "mb": peak_mb() - before, "weights_mb": 3 * weights}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--strategies", nargs="+", default=[ALONE, *TRAINING_STRATEGIES])
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    rows = []
    for name in args.space:
        for strategy in args.strategies:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
                row = executor.submit(measure, name, strategy, args.batch).result()
            if row is not None:
                rows.append(row)
                print(row, flush=True)
    table = pd.DataFrame(rows)
    alone = table[table["strategy"] == ALONE].set_index("space")["mb"]
    table["to_alone"] = table["mb"] / table["space"].map(alone)
    table["batch"], table["machine"] = args.batch, f"{platform.machine()}, torch {torch.__version__}"
    print(table.to_string(index=False, float_format="{:.3g}".format))
    write_atomic(RESULTS, lambda path: table.to_csv(path, index=False, float_format="%.4g"))


if __name__ == "__main__":
    main()
