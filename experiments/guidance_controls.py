"""Guidance against its controls on NAS-Bench-201, at the same number of predictor calls, with the time beside it.

    python experiments/guidance_controls.py [--calls 64,256,1024] [--seeds 10]

The predictor is the committed one of CIFAR-10 validation accuracy (1,563 labels). A method may ask it for so many
distinct architectures, and hands over the 32 that the predictor likes best; they are judged by their true test
accuracy. Controls: random architectures, regularised evolution on the predictor, and the predictor over the whole list
(15,625 calls). Methods: the conditional generator (classifier-free: calls only to choose the 32), the tilted rates of
its noised predictor, both (`auto`, what the sampler does by itself), importance sampling, and particles.
Writes experiments/results/guidance_controls.csv.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from archgen import GuidedSampler, config, maximize
from archgen.generators import ImportanceGuidance, ParticleGuidance
from archgen.graph import Architecture
from archgen.rewards import Reward
from archgen.spaces import SearchSpace
from archgen.steering import Steering

METRIC, TRUTH, KEPT = "cifar10_val_acc", "cifar10_test_acc", 32


class Budget:
    """Asks the predictor, and stops everything when its calls are used up."""

    def __init__(self, sampler: GuidedSampler, calls: int) -> None:
        self.predictor, self.calls = sampler.predictor(METRIC), calls
        self.values: dict[Architecture, float] = {}

    def __call__(self, archs: list[Architecture]) -> list[float]:
        new = list(dict.fromkeys(arch for arch in archs if arch not in self.values))
        new = new[: self.calls - len(self.values)]
        if new:
            self.values.update(zip(new, self.predictor.predict(new).mean.tolist(), strict=True))
        return [self.values.get(arch, -np.inf) for arch in archs]

    @property
    def spent(self) -> bool:
        return len(self.values) >= self.calls

    def best(self) -> list[Architecture]:
        return sorted(self.values, key=lambda arch: -self.values[arch])[:KEPT]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", default="64,256,1024")
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    sampler = GuidedSampler.from_pretrained("nasbench201")
    space = sampler.space
    sampler.predictor(METRIC)
    sampler._scale(METRIC)
    truth = pd.read_parquet(tables / "nasbench201" / "accuracy.parquet").set_index("arch")[TRUTH]
    rows = []

    def judge(method: str, budget: Budget, seed: int, seconds: float) -> None:
        values = truth[[space.format(arch) for arch in budget.best()]].to_numpy()
        row = {"budget": budget.calls, "method": method, "asked": len(budget.values), "seed": seed}
        row |= {"mean": values.mean(), "best": values.max()}
        rows.append(row | {"seconds": seconds})
        print(rows[-1], flush=True)

    methods = {
        "random": lambda b, s: random(space, b, s),
        "evolution": lambda b, s: evolution(space, b, s),
        "auto": lambda b, s: guided(sampler, b, s, "auto"),
        "classifier_free": lambda b, s: guided(sampler, b, s, "classifier_free"),
        "importance": lambda b, s: guided(sampler, b, s, "importance"),
        "particles": lambda b, s: guided(sampler, b, s, "particles"),
        "noised": lambda b, s: guided(sampler, b, s, "noised"),
    }
    for calls in map(int, args.calls.split(",")):
        for name, method in methods.items():
            for seed in range(args.seeds):
                budget = Budget(sampler, calls)
                start = time.process_time()
                method(budget, seed)
                judge(name, budget, seed, time.process_time() - start)
    everything = Budget(sampler, space.size)
    start = time.process_time()
    everything(space.enumerate())
    judge("list", everything, 0, time.process_time() - start)
    table = pd.DataFrame(rows)
    table.to_csv(Path(__file__).parent / "results" / "guidance_controls.csv", index=False)
    shown = table.groupby(["budget", "method"], sort=False)[["asked", "mean", "best", "seconds"]]
    print(shown.agg(["mean", "min", "max"]).round(2).to_string())
    print(f"{platform.machine()}, one thread, torch {torch.__version__}; mean of the space {truth.mean():.2f}")


def random(space: SearchSpace, budget: Budget, seed: int) -> None:
    rng = np.random.default_rng(seed)
    while not budget.spent:
        budget(space.sample(32, rng))


def evolution(space: SearchSpace, budget: Budget, seed: int, population: int = 50, tournament: int = 10) -> None:
    """Regularised evolution (arXiv 1802.01548) on the predictor."""
    rng = np.random.default_rng(seed)
    living = space.sample(min(population, budget.calls // 2), rng)
    budget(living)
    idle = 0
    while not budget.spent and idle < 5000:
        before = len(budget.values)
        picked = [living[i] for i in rng.choice(len(living), min(tournament, len(living)), replace=False)]
        child = space.mutate(max(picked, key=lambda arch: budget.values[arch]), rng)
        budget([child])
        idle = idle + 1 if len(budget.values) == before else 0
        living = [*living[1:], child]


def guided(sampler: GuidedSampler, budget: Budget, seed: int, method: str) -> None:
    reward = Reward([maximize(METRIC)], sampler.predictor, sampler._scale, sampler.strength)
    centre, spread = sampler._scale(METRIC)

    def weigh(archs: list[Architecture]) -> np.ndarray:
        z = (np.array(budget(archs)) - centre) / spread
        return np.where(np.isfinite(z), sampler.strength * z, -1e3)  # not asked any more: never chosen

    member = {"importance": ImportanceGuidance, "particles": ParticleGuidance}.get(method)
    guidance = method if member is None else [member(sampler.space.decode, weigh, 4)]
    steering = Steering(sampler.space, sampler.generator, reward, guidance, steps=8)
    noise = torch.Generator().manual_seed(seed)
    for _ in range(50):
        budget(steering.draw(32 if member is None else max(2, budget.calls // 64), noise).archs)
        if budget.spent:
            return


if __name__ == "__main__":
    main()
