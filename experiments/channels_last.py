"""A training step with images and convolutions stored channels last, against channels first, in the same run.

    python experiments/channels_last.py [--steps 5] [--threads 1 2]

Supernets trained by their default strategy on batches of 128: NAS-Bench-201 with one cell a stage and 16 channels on
8x8 digits and on CIFAR-10 images, `mobilenetv3@32` with half its channels on CIFAR-10 images. Steps of both kinds
alternate; medians of seconds and their ratio. Writes experiments/results/channels_last.csv.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from bo_tables import published

from archgen import spaces
from archgen.artifacts import write_atomic
from archgen.data import load_data
from archgen.evaluators import image_network
from archgen.supernets import make_supernet
from archgen.supernets.training import Plan, default_strategy
from archgen.supernets.training.standalone import training_batches

RESULTS = Path(__file__).parent / "results"


def stepper(name: str, what: str, *, channels_last: bool) -> Any:
    """A function that makes one step."""
    data = load_data(what, seed=0, limit=2000)
    space = spaces.for_images(name, data.image_size)
    torch.manual_seed(0)
    supernet = make_supernet(space, **image_network(space, data, {"cells": 1, "channels": 16} if "201" in name else {}))
    strategy = default_strategy(supernet)
    strategy.begin(supernet)
    batches, generator, rng = training_batches(data), torch.Generator().manual_seed(0), np.random.default_rng(0)
    images, labels = next(iter(batches.draw(generator)))
    if channels_last:
        supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.contiguous(memory_format=torch.channels_last)
    strategy.prepare(supernet, Plan(len(data.train), batches.steps, 10))
    strategy.order(generator)
    supernet.train()
    return lambda: strategy.step(supernet, (images, labels), rng)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    cifar = str(published() / "cifar10" / "images_jpeg.parquet")
    rows = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        for name, what in (("nasbench201", "digits"), ("nasbench201", cifar), ("mobilenetv3", cifar)):
            kinds = {last: stepper(name, what, channels_last=last) for last in (False, True)}
            spent: dict[bool, list[float]] = {False: [], True: []}
            for _ in range(args.steps + 1):
                for last, step in kinds.items():
                    start = time.perf_counter()
                    step()
                    spent[last].append(time.perf_counter() - start)
            first, last = (statistics.median(spent[kind][1:]) for kind in (False, True))  # the first one warms up
            facts = {"space": name, "data": Path(what).stem, "threads": threads, "channels_first": first}
            rows.append({**facts, "channels_last": last, "ratio": last / first})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows).assign(machine=f"{platform.machine()}, torch {torch.__version__}")
    write_atomic(RESULTS / "channels_last.csv", lambda path: table.to_csv(path, index=False))
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
