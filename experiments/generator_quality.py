"""Validity, uniqueness and novelty of unguided samples of each space (figure B2), and their speed.

    python experiments/generator_quality.py [--spaces nasbench201,darts] [--steps 3000] [--seeds 10]

NAS-Bench-201: a generator is trained here on a fixed half of the space; novel means not in that half, a perfect model
of the whole space would draw about 50 % novel ones. The other spaces: the committed generator, novel is what is not in
the sample that it was trained on. `valid_raw` is before the projector's last call, `valid` after it; samples are drawn
freely (duplicates kept), 1,000 a seed. Uniqueness is by the published string, as in DiffusionNAG, and by canonical
form beside it (two strings may be one function). Writes experiments/results/generator_quality.csv.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from archgen import spaces
from archgen.generators import DiscreteFlow, Generator, load_generator, train_generator
from archgen.graph import Architecture
from archgen.pretrain import training_sample
from archgen.sampler import pretrained_generator
from archgen.spaces import SearchSpace
from archgen.steering import CountedProjector

DRAWN = 1000
HALF = "nasbench201"
FOLDER = Path("runs/half-nasbench201")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", default=f"{HALF},nasbench101,darts,mobilenetv3,flexibert")
    parser.add_argument("--steps", type=int, default=3000, help="training steps of the half of NAS-Bench-201")
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in args.spaces.split(","):
        space = spaces.load(name)
        generator, seen = (
            half(space, args.steps) if name == HALF else (pretrained_generator(space), set(training_sample(space)))
        )
        for seed in range(args.seeds):
            rows.append({"space": name, "seed": seed, **judge(space, generator, seen, seed)})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    results = Path(__file__).parent / "results" / "generator_quality.csv"
    if results.exists():
        before = pd.read_csv(results)
        if set(before.columns) == set(table.columns):
            table = pd.concat([before[~before["space"].isin(table["space"])], table])
    table.to_csv(results, index=False)
    figures = ["valid_raw", "valid", "unique", "distinct_functions", "novel", "seconds_256"]
    print(table.groupby("space", sort=False)[figures].agg(["mean", "min", "max"]).round(2).T.to_string())
    print(f"{platform.machine()}, one thread, torch {torch.__version__}")


def half(space: SearchSpace, steps: int) -> tuple[Generator, set[Architecture]]:
    """A generator trained on a fixed half of the space, and that half."""
    archs = space.enumerate()
    order = np.random.default_rng(0).permutation(len(archs))
    train = [archs[i] for i in order[: len(archs) // 2]]
    if (FOLDER / "config.json").exists():
        return load_generator(FOLDER), set(train)
    torch.manual_seed(0)
    flow = DiscreteFlow(space.node_domain, space.edge_domain)
    train_generator(flow, space.encode(train), steps=steps)
    flow.save("discrete_flow", FOLDER, {}, "# trained on half of NAS-Bench-201 by experiments/generator_quality.py\n")
    return flow, set(train)


def judge(space: SearchSpace, generator: Generator, seen: set[Architecture], seed: int) -> dict[str, float]:
    noise = torch.Generator().manual_seed(seed)
    counted = CountedProjector(space)
    projector = None if space.free else counted
    archs = [a for a in space.decode(generator.sample(DRAWN, projector=projector, generator=noise)) if a is not None]
    raw = len(archs) / DRAWN if space.free else counted.share
    start = time.process_time()
    space.decode(generator.sample(256, projector=projector, generator=noise))
    seconds = time.process_time() - start
    return {
        "valid_raw": 100 * raw,
        "valid": 100 * len(archs) / DRAWN,
        "unique": 100 * len(set(archs)) / len(archs),
        "distinct_functions": 100 * len({space.canonical(arch) for arch in archs}) / len(archs),
        "novel": 100 * sum(arch not in seen for arch in archs) / len(archs),
        "seconds_256": seconds,
    }


if __name__ == "__main__":
    main()
