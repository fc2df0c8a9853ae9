"""Where the time of one `ask` goes, by strategy and number of trials (NAS-Bench-201, CIFAR-100).

    python experiments/ask_profile.py [--strategies generative bayes] [--trials 50 100 200] [--batch 4] [--threads 1]

A strategy is told random architectures of the table but for a last batch, asked (its memory of features is then as in a
search), told the last batch, and asked again: `ask_seconds` is the wall-clock of that second ask, `cpu_seconds` its
processor time (the two differ where others use the machine), `tell_seconds` the wall-clock of that tell; medians of the
repeats, each with another seed, and `worst` ask. Parts are functions of this package with their share of the time of an
`ask` by cProfile, in a run of its own, callees included: they overlap. The goal is 0.5 s on two cores. Writes
experiments/results/ask_profile.csv.
"""

from __future__ import annotations

import argparse
import cProfile
import platform
import pstats
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bo_tables import RESULTS, Variant, needed

import archgen
from archgen import config, maximize, spaces
from archgen.evaluators import TabularEvaluator
from archgen.sampler import pretrained_generator
from archgen.strategies import STRATEGIES, SearchStrategy
from archgen.study import Trial

METRIC = "cifar100_val_acc"
SMALL = 0.03
"""Parts below this share are left out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", nargs="+", default=sorted(STRATEGIES))
    parser.add_argument("--trials", nargs="+", type=int, default=[50, 100, 200])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    torch.set_num_threads(args.threads)
    space = spaces.load("nasbench201")
    table = TabularEvaluator(space, tables / "nasbench201" / "accuracy.parquet", needed=[METRIC])
    rows: list[dict[str, object]] = []
    for name in args.strategies:
        arguments = needed(Variant(name), space, lambda: pretrained_generator(space))
        for n in args.trials:
            asks, cpu, tells = [], [], []
            for seed in range(args.repeats):
                strategy = STRATEGIES[name](space, [maximize(METRIC)], seed=seed, **arguments)
                tells.append(warm(strategy, table, n, args.batch, seed))
                start, busy = time.perf_counter(), time.process_time()
                strategy.ask(args.batch)
                asks.append(time.perf_counter() - start)
                cpu.append(time.process_time() - busy)
            row = {"strategy": name, "trials": n, "part": "all", "share": 1.0, "ask_seconds": np.median(asks)}
            row |= {"cpu_seconds": np.median(cpu), "worst": max(asks), "tell_seconds": np.median(tells)}
            rows.append(row)
            print(
                ", ".join(
                    f"{key} {value:.3f}" if isinstance(value, float) else str(value) for key, value in row.items()
                )
            )
            strategy = STRATEGIES[name](space, [maximize(METRIC)], seed=0, **arguments)
            warm(strategy, table, n, args.batch, 0)
            for part, share in parts(strategy, args.batch).items():
                rows.append({"strategy": name, "trials": n, "part": part, "share": share})
                print(f"    {100 * share:5.1f} %  {part}")
    pd.DataFrame(rows).round(4).to_csv(args.out / "ask_profile.csv", index=False)
    print(f"{platform.machine()}, {args.threads} thread(s), torch {torch.__version__}")


def warm(strategy: SearchStrategy, table: TabularEvaluator, n: int, batch: int, seed: int) -> float:
    """Tell `n` random architectures, the last `batch` of them after an `ask`; seconds of that last `tell`."""
    listed = table.architectures
    archs = [listed[i] for i in np.random.default_rng(seed).choice(len(listed), n, replace=False)]
    values = [measured.values for measured in table.evaluate(archs, seed=seed)]
    trials = [Trial(i, arch, known, 0.0) for i, (arch, known) in enumerate(zip(archs, values, strict=True))]
    strategy.tell(trials[:-batch])
    strategy.ask(batch)
    start = time.perf_counter()
    strategy.tell(trials[-batch:])
    return time.perf_counter() - start


def parts(strategy: SearchStrategy, batch: int) -> dict[str, float]:
    """Shares of one `ask` of the package's functions, callees included, largest first."""
    profile = cProfile.Profile()
    profile.runcall(strategy.ask, batch)
    stats = pstats.Stats(profile)
    package = str(Path(archgen.__file__).parent)
    total = stats.total_tt  # type: ignore[attr-defined]
    shares = {
        f"{Path(path).relative_to(package).with_suffix('')}: {function}": inclusive / total
        for (path, _, function), (_, _, _, inclusive, _) in stats.stats.items()  # type: ignore[attr-defined]
        if path.startswith(package) and function != "ask" and not function.startswith("<")
    }
    return dict(sorted(((n, s) for n, s in shares.items() if s > SMALL), key=lambda item: -item[1]))


if __name__ == "__main__":
    main()
