"""What an epoch of each supernet training strategy costs, against plain uniform training in the same run.

    python experiments/supernet_speed.py [--space nasbench201] [--repeats 5]

Digits (1,079 training images, batches of 128), one thread. Strategies take turns, each with a fresh supernet of the
same seed; `ratio` is the median over the repeats of CPU seconds of the second epoch (of two; what is prepared once is
in the first) over those of `uniform` in the same turn, `paths` the architectures that a step trains on the whole batch,
and `ratio_a_path` the ratio divided by it. Differentiable searches run all operations of an edge, on half of the
images. `score_ms` is the CPU time of scoring one architecture by inherited weights (1,024 images for the statistics,
359 to validate on), the median of 20. The goal is 1.3 for strategies that choose which path to train, and 300 ms.
Writes experiments/results/supernet_speed.csv.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from archgen import spaces
from archgen.data import ImageData, load_data
from archgen.errors import InvalidSpace
from archgen.evaluators import SupernetEvaluator
from archgen.spaces import SearchSpace
from archgen.supernets import Supernet, make_supernet, mixture
from archgen.supernets.training import TRAINING_STRATEGIES, Plan, Schedule, train_supernet

RESULTS = Path(__file__).parent / "results" / "supernet_speed.csv"
NETWORKS = {
    "nasbench201": {"cells": 1, "channels": 16},
    "mobilenetv3": {"width_percent": 50},
    "darts": {"cells": 5, "channels": 8, "auxiliary": 0},
}
PLAIN = "uniform"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", nargs="+", default=["nasbench201", "darts"], choices=NETWORKS)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data("digits")
    rows = []
    for name in args.space:
        space = spaces.load(name)

        def fresh(space: SearchSpace = space, network: dict[str, int] = NETWORKS[name]) -> Supernet:
            torch.manual_seed(0)
            return make_supernet(space, **network, classes=10, in_channels=1, image_size=8)

        strategies = [s for s in TRAINING_STRATEGIES if trains(s, made(s, fresh()))]
        seconds: dict[str, list[float]] = {s: [] for s in strategies}
        for turn in range(args.repeats + 1):
            for strategy in strategies:
                spent = second_epoch(strategy, made(strategy, fresh()), data, seed=turn)
                if turn > 0:  # the first one warms up
                    seconds[strategy].append(spent)
        part = data.validation
        evaluator = SupernetEvaluator(fresh(), data.train.images[:1024], part.images, part.labels)
        archs = space.sample(20, np.random.default_rng(0))
        score = float(np.median([cpu(lambda: evaluator.evaluate([arch], seed=0)) for arch in archs]))  # noqa: B023
        for strategy in strategies:
            ratio = float(np.median(np.array(seconds[strategy]) / np.array(seconds[PLAIN])))
            paths = {"fair": max(map(len, space.variables.values())), "sandwich": 4}.get(strategy, 1)
            rows.append(
                {
                    "space": name,
                    "strategy": strategy,
                    "epoch_seconds": float(np.median(seconds[strategy])),
                    "ratio": ratio,
                    "paths": paths,
                    "ratio_a_path": ratio / paths,
                    "score_ms": 1000 * score,
                }
            )
    frame = pd.DataFrame(rows)
    frame.to_csv(RESULTS, index=False, float_format="%.4g")
    print(frame.to_string(index=False, float_format="{:.3g}".format))
    print(f"{platform.machine()}, one thread, torch {torch.__version__}, {args.repeats} repeats")


def made(strategy: str, supernet: Supernet) -> Supernet:
    """What a strategy trains: a supernet, or two sets of weights."""
    return mixture(supernet, 2) if strategy == "balanced_mixture" else supernet


def second_epoch(strategy: str, supernet: Supernet, data: ImageData, *, seed: int) -> float:
    """CPU seconds of the second of two epochs: what a strategy prepares once is in the first."""
    ends: list[float] = []

    def end(number: int, losses: dict[str, float]) -> None:
        ends.append(time.process_time())

    train_supernet(supernet, TRAINING_STRATEGIES[strategy](), data, Schedule(2), seed=seed, on_epoch=end)
    return ends[1] - ends[0]


def trains(strategy: str, supernet: Supernet) -> bool:
    """Whether a strategy takes the space of a supernet."""
    try:
        TRAINING_STRATEGIES[strategy]().prepare(supernet, Plan(1, 1, 1))
    except InvalidSpace:
        return False
    return True


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
