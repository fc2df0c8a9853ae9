"""Best accuracy under Note10 latency bounds on Once-for-All's MobileNetV3, by predictor calls and by time (figure B8).

    python experiments/ofa_pareto.py [--bounds 15,20,25,30] [--seeds 3] [--calls 1500] [--rounds 500]

The space (`spaces/ofa_note10.toml` beside this script) has 10^20 nets, so it can not be listed. The truth is the
published accuracy predictor and the published Note10 table (`ofa_truth.py`); a call is one distinct architecture whose
accuracy is asked. Searches (`ofa_searches.py`):

- `evolution`: Once-for-All's own (population 100, 500 rounds, mutation 0.1, parents 0.25). It asks 50,100 times, often
  for the same architecture again: both numbers are written down, and `calls` are the distinct ones here too;
- `random`: architectures within the bound, the best of 10,000 (or of 60,000 draws);
- `guided`: a generator of the space. Each turn fits a Gaussian process to the accuracies known so far, draws guided
  samples that meet the bound (at first from noise, then by varying the best), and asks for the truth of the most
  promising;
- `mutation`: the same turns with the generator's noise alone, without what it has learnt: the control of `guided`.

The generator is trained here once (kept in runs/ for the next run), conditioned on the table's latencies and on
accuracies as predicted from 300 random labels; those 300 are the first calls of `guided`. Training it takes seven
minutes for all bounds and seeds together, which `seconds` (CPU time of one search) leave out.
Writes experiments/results/ofa_pareto.csv (each search's improvements, and its end) and .png.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ofa_searches import ACCURACY, LATENCY, Mutation, evolution, guided, random
from ofa_truth import Truth
from torch import Tensor

from archgen import config, load_space, plots
from archgen.generators import DiscreteFlow, load_generator
from archgen.graph import Architecture
from archgen.predictors import Prediction, Predictor
from archgen.predictors.counts import Count
from archgen.pretrain import make_pool, pretrain_generator
from archgen.spaces import SearchSpace
from archgen.surrogates import GaussianProcess

RESULTS = Path(__file__).parent / "results"
PAID = 300  # labels of the predictor that the generator is conditioned with
FOLDER = Path("runs/ofa_note10")


class Table(Predictor):
    """The Note10 table as an exact predictor."""

    def __init__(self, space: SearchSpace, truth: Truth) -> None:
        super().__init__(space, LATENCY)
        self.truth = truth

    def fit(self, archs: Sequence[Architecture], y: Any) -> Table:
        return self

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        return Prediction(self.truth.note10(archs), np.zeros(len(archs)))

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {}, {}

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Table:
        raise TypeError("the table is read from the published data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bounds", default="15,20,25,30")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--calls", type=int, default=1500, help="accuracies that `guided` may ask for, 300 included")
    parser.add_argument("--rounds", type=int, default=500, help="of the evolutionary search")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the CSV and the PNG")
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    space = load_space(Path(__file__).parent / "spaces" / "ofa_note10.toml")
    folder = tables / "ofa_mobilenetv3"
    first = space.sample(PAID, np.random.default_rng(0))
    generator = prepare(space, Truth(space, folder), first)
    rows: list[dict[str, object]] = []
    for bound in map(float, args.bounds.split(",")):
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            for name in ("guided", "mutation", "evolution", "random"):
                rows += run(name, generator, Truth(space, folder), bound, first, seed, args)
                print(rows[-1], flush=True)
                pd.DataFrame(rows).round(4).to_csv(args.out / "ofa_pareto.csv", index=False)
    report(pd.DataFrame(rows), args.out)


def prepare(space: SearchSpace, truth: Truth, first: Sequence[Architecture]) -> DiscreteFlow:
    """The generator, trained here or read from the last run; accuracies are as predicted from those of `first`."""
    if not (FOLDER / "config.json").exists():
        accuracy = GaussianProcess(space, ACCURACY, sizes=False).fit(first, truth.top1(first))
        known = {"params": Count(space, "params"), "flops": Count(space, "flops")}
        pool = make_pool(space, {**known, ACCURACY: accuracy, LATENCY: Table(space, truth)}, size=40_000)
        figures = pretrain_generator(space, FOLDER, pool=pool, steps=2000)
        print(f"generator: {figures}", flush=True)
    generator = load_generator(FOLDER)
    assert isinstance(generator, DiscreteFlow)
    return generator


def run(
    name: str,
    generator: DiscreteFlow,
    truth: Truth,
    bound: float,
    first: Sequence[Architecture],
    seed: int,
    args: argparse.Namespace,
) -> list[dict[str, object]]:
    """One search; a row for each improvement, and one for its end."""
    space, rows = truth.space, list[dict[str, object]]()
    start, best, asked = time.process_time(), -np.inf, 0
    seen: set[Architecture] = set()

    def log(value: float, arch: Architecture) -> None:
        nonlocal best, asked
        asked += 1
        seen.add(arch)
        if value > best and (latency := truth.latency(arch.ops[1:-1])) <= bound:
            best = value
            row = {"bound_ms": bound, "search": name, "seed": seed, "calls": len(seen), "asked": asked, "top1": value}
            rows.append(row | {"latency_ms": latency, "seconds": time.process_time() - start})

    if name in ("guided", "mutation"):
        proposer = generator if name == "guided" else Mutation(generator)
        guided(space, proposer, truth, bound, first, calls=args.calls, seed=seed, log=log)
    elif name == "evolution":
        evolution(space, truth, bound, rounds=args.rounds, seed=seed, log=log)
    else:
        random(space, truth, bound, calls=10_000, seed=seed, log=log)
    assert truth.calls == len(seen)
    none = {"bound_ms": bound, "search": name, "seed": seed, "top1": np.nan, "latency_ms": np.nan}
    return [
        *rows,
        (rows[-1] if rows else none) | {"calls": len(seen), "asked": asked, "seconds": time.process_time() - start},
    ]


def report(table: pd.DataFrame, out: Path) -> None:
    """Final accuracies, what each search needs to reach evolution's mean result, and the curves."""
    last = table.groupby(["bound_ms", "search", "seed"]).last().reset_index()
    figures = last.groupby(["bound_ms", "search"])[["top1", "calls", "asked", "seconds"]]
    print(figures.agg(["mean", "min", "max"]).round(3).to_string())
    panels = []
    for bound, part in table.groupby("bound_ms"):
        ends = last[last["bound_ms"] == bound]
        goal = ends[ends["search"] == "evolution"]["top1"].mean()
        print(f"{bound:g} ms: evolution ends at {goal:.3f} %; calls (seconds) until that, seed by seed:")
        series, bands = {}, {}
        for search, runs in part.groupby("search", sort=False):
            by_seed = [one for _, one in runs.groupby("seed")]
            reached = [one[one["top1"] >= goal] for one in by_seed]
            words = [f"{r['calls'].iloc[0]} ({r['seconds'].iloc[0]:.1f})" if len(r) else "never" for r in reached]
            print(f"    {search}: {', '.join(words)}")
            grid = np.unique(np.geomspace(20, part["calls"].max(), 36).astype(int))
            grid = grid[grid <= runs["calls"].max()]
            curves = np.array([curve(one, grid) for one in by_seed])
            kept = ~np.isnan(curves).any(0)
            series[str(search)] = (grid[kept], curves.mean(0)[kept])
            bands[str(search)] = (curves.min(0)[kept], curves.max(0)[kept])
        panels.append(plots.Panel(series, x="accuracies asked", y=f"top-1 within {bound:g} ms, %", bands=bands))
    plots.save_png(plots.line_panels(panels), out / "ofa_pareto.png")
    print(f"{platform.machine()}, one thread, torch {torch.__version__}")


def curve(one: pd.DataFrame, grid: np.ndarray) -> np.ndarray:
    """Best so far of one search after each number of calls, which stays when it has ended; NaN before there is one."""
    index = np.searchsorted(one["calls"].to_numpy(), grid, side="right") - 1
    values = one["top1"].to_numpy()[np.maximum(index, 0)]
    return np.where(index >= 0, values, np.nan)


if __name__ == "__main__":
    main()
