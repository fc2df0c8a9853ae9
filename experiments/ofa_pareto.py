"""Best accuracy under Note10 latency bounds on Once-for-All's MobileNetV3, by predictor calls and by time (figure B8).

    python experiments/ofa_pareto.py [--bounds 15,20,25,30] [--seeds 3] [--calls 560]

The space (`spaces/ofa_note10.toml` beside this script) has 10^20 nets, so it can not be listed. The truth is the
published accuracy predictor and the published Note10 table (`ofa_truth.py`); a call is one distinct architecture whose
accuracy is asked. Searches:

- `evolution`: Once-for-All's own (population 100, 500 rounds, mutation 0.1, parents 0.25): 50,100 calls;
- `random`: architectures within the bound, the best kept;
- `guided`: a generator of the space. Each round fits a Gaussian process to the accuracies known so far, draws guided
  samples that meet the bound (from noise, and by varying the best), and asks for the truth of the most promising.

The generator is trained here once (kept in runs/ for the next run), conditioned on the table's latencies and on
accuracies as predicted from 300 random labels; those 300 calls are added to `guided`.
Writes experiments/results/ofa_pareto.csv (best so far by calls) and .png.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ofa_truth import RESOLUTIONS, Truth
from torch import Tensor

from archgen import GuidedSampler, at_most, config, load_space, maximize, plots
from archgen.generators import ImportanceGuidance, load_generator
from archgen.graph import Architecture
from archgen.predictors import Prediction, Predictor
from archgen.predictors.counts import Count
from archgen.pretrain import make_pool, pretrain_generator
from archgen.rewards import Reward
from archgen.spaces import SearchSpace
from archgen.surrogates import GaussianProcess

RESULTS = Path(__file__).parent / "results"
ACCURACY, LATENCY = "imagenet_top1", "latency_ms@note10"
PAID = 300  # labels of the predictor that the generator is conditioned with
FOLDER = Path("runs/ofa_note10")
Log = Callable[[int, float, Architecture], None]


class Table(Predictor):
    """The Note10 table as an exact predictor."""

    def __init__(self, space: SearchSpace, truth: Truth) -> None:
        super().__init__(space, LATENCY)
        self.truth, self._known = truth, dict[Architecture, float]()

    def fit(self, archs: Sequence[Architecture], y: Any) -> Table:
        return self

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        for arch in archs:
            if arch not in self._known:
                self._known[arch] = self.truth.note10([arch])[0]
        return Prediction(np.array([self._known[arch] for arch in archs]), np.zeros(len(archs)))

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {}, {}

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Table:
        raise TypeError("the table is read from the published data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bounds", default="15,20,25,30")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=560, help="accuracies that `guided` may ask for, 300 included")
    parser.add_argument("--rounds", type=int, default=500, help="of the evolutionary search")
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sampler = prepare(tables / "ofa_mobilenetv3")
    rows: list[dict[str, object]] = []
    for bound in map(float, args.bounds.split(",")):
        for seed in range(args.seeds):
            for name in ("guided", "evolution", "random"):
                rows += run(name, sampler, Truth(sampler.space, tables / "ofa_mobilenetv3"), bound, seed, args)
                print(rows[-1], flush=True)
                pd.DataFrame(rows).to_csv(RESULTS / "ofa_pareto.csv", index=False)
    table = pd.DataFrame(rows)
    table.to_csv(RESULTS / "ofa_pareto.csv", index=False)
    report(table)


def prepare(folder: Path) -> GuidedSampler:
    """The space, its generator (trained here or read from the last run), and the accuracy predictor of 300 labels."""
    space = load_space(Path(__file__).parent / "spaces" / "ofa_note10.toml")
    truth = Truth(space, folder)
    archs = space.sample(PAID, np.random.default_rng(0))
    accuracy = GaussianProcess(space, ACCURACY).fit(archs, truth.top1(archs))
    if not (FOLDER / "config.json").exists():
        known = {"params": Count(space, "params"), "flops": Count(space, "flops")}
        pool = make_pool(space, {**known, ACCURACY: accuracy, LATENCY: Table(space, truth)}, size=40_000)
        figures = pretrain_generator(space, FOLDER, pool=pool, steps=2000)
        print(f"generator: {figures}", flush=True)
    return GuidedSampler(space, load_generator(FOLDER), {ACCURACY: accuracy, LATENCY: Table(space, truth)})


def run(
    name: str, sampler: GuidedSampler, truth: Truth, bound: float, seed: int, args: argparse.Namespace
) -> list[dict[str, object]]:
    """One search; a row for each improvement, and one for its end."""
    rows: list[dict[str, object]] = []
    start, best = time.process_time(), -np.inf

    def log(calls: int, value: float, arch: Architecture) -> None:
        nonlocal best
        if value > best:
            best = value
            row = {"bound_ms": bound, "search": name, "seed": seed, "calls": calls, "top1": value}
            rows.append(row | {"latency_ms": truth.note10([arch])[0], "seconds": time.process_time() - start})

    if name == "guided":
        guided(sampler, truth, bound, args.calls, seed, log)
    elif name == "evolution":
        evolution(sampler.space, truth, bound, args.rounds, seed, log)
    else:
        random(sampler.space, truth, bound, 10_000, seed, log)
    calls = truth.calls + (PAID if name == "guided" else 0)
    return [*rows, rows[-1] | {"calls": calls, "seconds": time.process_time() - start}]


def guided(sampler: GuidedSampler, truth: Truth, bound: float, calls: int, seed: int, log: Log) -> None:
    """Rounds of a surrogate of the accuracies asked so far, guided sampling on it, and the truth of a few samples."""
    space = sampler.space
    prior = sampler.predictor(ACCURACY)
    assert isinstance(prior, GaussianProcess)
    known = dict(zip(*prior.training_data, strict=True))  # the labels that the generator's conditions were paid with
    assert len(known) <= PAID
    latency = Table(space, truth)
    wishes = [maximize(ACCURACY), at_most(LATENCY, bound)]
    asked, turn, idle = 0, 0, 0
    surrogate = prior
    while asked + PAID < calls and idle < 3:
        turn += 1
        if turn > 1:
            best = sorted(known, key=lambda a: -known[a])[:400]
            surrogate = GaussianProcess(space, ACCURACY).fit(best, np.array([known[a] for a in best]))
        now = GuidedSampler(space, sampler.generator, {ACCURACY: surrogate, LATENCY: latency}, strength=8.0)
        pool = dict.fromkeys(arch for arch in known if latency.predict([arch]).mean[0] <= bound)
        if turn == 1:
            pool |= dict.fromkeys(now.sample(64, wishes, seed=seed, steps=8).archs)
        for step, t in enumerate((0.3, 0.2, 0.2, 0.1, 0.1)):
            archs = list(pool)
            mean, std = surrogate.predict_normalised(archs)
            near = [archs[i] for i in np.argsort(-(mean + 0.5 * std))[:24]]
            reward = Reward(wishes, now.predictor, now._scale, now.strength)
            guidance = [ImportanceGuidance(space.decode, reward, candidates=4)]
            drawn = now.sample(
                96, wishes, seed=1000 * seed + 10 * turn + step, vary=near, t=t, guidance=guidance, steps=3
            )
            pool |= dict.fromkeys(drawn.archs)
        new = [arch for arch in pool if arch not in known]
        mean, std = surrogate.predict_normalised(new)
        chosen = [new[i] for i in np.argsort(-(mean + 0.5 * std))[:16]]
        idle = 0 if chosen else idle + 1
        for arch, value in zip(chosen, truth.top1(chosen), strict=True):
            asked += 1
            known[arch] = value
            log(asked + PAID, value, arch)


def evolution(space: SearchSpace, truth: Truth, bound: float, rounds: int, seed: int, log: Log) -> None:
    """Once-for-All's EvolutionFinder with its default arguments."""
    rng = np.random.default_rng(seed)
    resolutions = [f"r{r}" for r in RESOLUTIONS]
    stages = [[f"stage{s}.block{i}" for i in range(1, 5)] for s in range(1, 6)]
    labels = list(space.variables[stages[0][0]])

    def build(genes: dict[str, Any]) -> Architecture:
        slots = {"resolution": space.variables["resolution"].index(genes["r"])}
        for names, depth, ops in zip(stages, genes["d"], genes["ops"], strict=True):
            for i, name in enumerate(names):
                slots[name] = space.variables[name].index(ops[i] if i < depth else "skip")
        return space.from_choices(slots)

    def fresh() -> dict[str, Any]:
        return {
            "r": str(rng.choice(resolutions)),
            "d": [int(rng.integers(2, 5)) for _ in stages],
            "ops": [[str(rng.choice(labels)) for _ in range(4)] for _ in stages],
        }

    def feasible(make: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], Architecture]:
        while True:
            genes = make()
            arch = build(genes)
            if truth.note10([arch])[0] <= bound:
                return genes, arch

    def mutated(parent: dict[str, Any]) -> dict[str, Any]:
        other = fresh()
        return {
            "r": other["r"] if rng.random() < 0.1 else parent["r"],
            "d": [o if rng.random() < 0.1 else p for o, p in zip(other["d"], parent["d"], strict=True)],
            "ops": [
                [o if rng.random() < 0.1 else p for o, p in zip(new, old, strict=True)]
                for new, old in zip(other["ops"], parent["ops"], strict=True)
            ],
        }

    def crossed(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
        def one(x: Any, y: Any) -> Any:
            return x if rng.random() < 0.5 else y

        return {
            "r": one(a["r"], b["r"]),
            "d": [one(x, y) for x, y in zip(a["d"], b["d"], strict=True)],
            "ops": [[one(x, y) for x, y in zip(p, q, strict=True)] for p, q in zip(a["ops"], b["ops"], strict=True)],
        }

    children = [feasible(fresh) for _ in range(100)]
    parents: list[tuple[float, dict[str, Any]]] = []
    for turn in range(rounds + 1):
        values = truth.top1([arch for _, arch in children])
        for i, (value, (_, arch)) in enumerate(zip(values, children, strict=True)):
            log(100 * turn + i + 1, value, arch)
        population = parents + [(value, genes) for value, (genes, _) in zip(values, children, strict=True)]
        parents = sorted(population, key=lambda pair: -pair[0])[:25]
        genes = [g for _, g in parents]

        def one_of(pool: list[dict[str, Any]]) -> dict[str, Any]:
            return pool[int(rng.integers(len(pool)))]

        children = [feasible(lambda g=genes: mutated(one_of(g))) for _ in range(50)]
        children += [feasible(lambda g=genes: crossed(one_of(g), one_of(g))) for _ in range(50)]


def random(space: SearchSpace, truth: Truth, bound: float, calls: int, seed: int, log: Log) -> None:
    """Architectures within the bound, uniformly; at most 120,000 draws."""
    rng = np.random.default_rng(seed)
    asked = 0
    for _ in range(60):
        drawn = space.sample(2000, rng)
        within = [arch for arch in drawn if truth.note10([arch])[0] <= bound][: calls - asked]
        for arch, value in zip(within, truth.top1(within) if within else [], strict=True):
            asked += 1
            log(asked, value, arch)
        if asked >= calls:
            return


def report(table: pd.DataFrame) -> None:
    """Final accuracies, the calls that `guided` needs to reach evolution's result, and the curves."""
    last = table.groupby(["bound_ms", "search", "seed"]).last().reset_index()
    print(
        last.groupby(["bound_ms", "search"])[["top1", "calls", "seconds"]]
        .agg(["mean", "min", "max"])
        .round(3)
        .to_string()
    )
    shapes = []
    for bound, part in table.groupby("bound_ms"):
        goal = last[(last["bound_ms"] == bound) & (last["search"] == "evolution")]["top1"].mean()
        mine = part[(part["search"] == "guided") & (part["top1"] >= goal - 0.005)].groupby("seed")["calls"].min()
        theirs = part[(part["search"] == "evolution") & (part["top1"] >= goal - 0.005)].groupby("seed")["calls"].min()
        print(
            f"{bound:g} ms: evolution ends at {goal:.3f} %, reached by itself after {theirs.tolist()} calls,", end=" "
        )
        print(f"by guided after {mine.tolist()}")
        grid = np.unique(np.geomspace(100, 50_100, 80).astype(int))
        series, bands = {}, {}
        for search, runs in part.groupby("search", sort=False):
            curves = []
            for _, run in runs.groupby("seed"):
                index = np.searchsorted(run["calls"].to_numpy(), grid, side="right") - 1
                values = np.where(
                    index >= 0, np.maximum.accumulate(run["top1"].to_numpy())[np.maximum(index, 0)], np.nan
                )
                curves.append(np.where(grid <= run["calls"].max(), values, np.nan))
            kept = ~np.isnan(np.mean(curves, 0))
            series[str(search)] = (grid[kept], np.mean(curves, 0)[kept])
            bands[str(search)] = (np.min(curves, 0)[kept], np.max(curves, 0)[kept])
        shapes.append(plots.Panel(series, x="accuracies asked", y=f"top-1 within {bound:g} ms, %", bands=bands))
    plots.save_png(plots.line_panels(shapes), RESULTS / "ofa_pareto.png")
    print(f"{platform.machine()}, one thread, torch {torch.__version__}")


if __name__ == "__main__":
    main()
