"""Few-shot adaptation of the committed flow of NAS-Bench-201: to ten good examples, and to a related space.

    python experiments/few_shot.py [--seeds 5]

Ten examples: the best of 200 random cells by CIFAR-10 validation accuracy (those labels are all that is used). Figures
of 1,000 samples, drawn freely: uniqueness, share that is one of the ten, true test accuracy. Against it: the generator
as it was, the context without its guard, and all weights trained on the ten. Related space: cells of 5 nodes over four
of the operations (10 edges); 100 samples of it, 500 steps, started from the trained flow or from nothing; the loss on
5,000 others beside uniqueness. Writes experiments/results/few_shot.csv.
"""

from __future__ import annotations

import argparse
import copy
import platform
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from archgen import config
from archgen.generators import DiscreteFlow, adapt_to_examples, adapt_to_space, train_generator
from archgen.sampler import pretrained_generator
from archgen.spaces import CellSpace, load

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted", "nor_conv_3x3": "weighted"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    torch.set_num_threads(1)
    space = load("nasbench201")
    table = pd.read_parquet(tables / "nasbench201" / "accuracy.parquet").set_index("arch")
    trained = pretrained_generator(space)
    assert isinstance(trained, DiscreteFlow)
    rows: list[dict[str, object]] = []
    for seed in range(args.seeds):
        known = space.sample(200, np.random.default_rng(seed))
        value = table.loc[[space.format(arch) for arch in known], "cifar10_val_acc"].to_numpy()
        examples = [known[i] for i in np.argsort(-value)[:10]]
        adapted, free, forced = (copy.deepcopy(trained) for _ in range(3))
        adapt_to_examples(adapted, space.encode(examples), seed=seed)
        adapt_to_examples(free, space.encode(examples), unique=0.0, seed=seed)
        train_generator(forced, space.encode(examples), steps=300, seed=seed)
        flows = {"as trained": trained, "adapted": adapted, "without guard": free, "all weights": forced}
        for name, flow in flows.items():
            drawn = space.decode(flow.sample(1000, generator=torch.Generator().manual_seed(seed)))
            archs = [arch for arch in drawn if arch is not None]
            truth = table.loc[[space.format(arch) for arch in archs], "cifar10_test_acc"].to_numpy()
            row = {"task": "ten examples", "generator": name, "seed": seed, "unique": len(set(archs)) / 10}
            row |= {"copies": 100 * np.mean([arch in examples for arch in archs]), "mean": truth.mean()}
            rows.append(row | {"best": truth.max()})
            print(rows[-1], flush=True)
        rows += related(trained, seed)
    frame = pd.DataFrame(rows)
    frame.to_csv(Path(__file__).parent / "results" / "few_shot.csv", index=False)
    shown = frame.groupby(["task", "generator"], sort=False)[["unique", "copies", "mean", "best", "loss"]]
    print(shown.agg(["mean", "min", "max"]).round(2).T.to_string())
    print(f"{platform.machine()}, one thread, torch {torch.__version__}")


def related(trained: DiscreteFlow, seed: int) -> list[dict[str, object]]:
    network = {"cells": 1, "channels": 16, "classes": 10, "in_channels": 3, "image_size": 32}
    new = CellSpace("five_nodes", 5, ROLES, network)
    rng = np.random.default_rng(seed)
    train, test = new.encode(new.sample(100, rng)), new.encode(new.sample(5000, rng))
    rows: list[dict[str, object]] = []
    for name in ("as trained", "from nothing"):
        torch.manual_seed(seed)
        flow = DiscreteFlow(new.node_domain, new.edge_domain)
        if name == "as trained":
            old = load("nasbench201")
            flow = adapt_to_space(trained, old.labels, new.node_domain, new.edge_domain, new.labels)
        train_generator(flow, train, steps=500, lr=1e-3, seed=seed)
        with torch.no_grad():
            loss = float(flow.loss(test, generator=torch.Generator().manual_seed(seed)))
        archs = [
            a for a in new.decode(flow.sample(1000, generator=torch.Generator().manual_seed(seed))) if a is not None
        ]
        row = {"task": "related space", "generator": name, "seed": seed, "unique": 100 * len(set(archs)) / len(archs)}
        rows.append(row | {"loss": loss})
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
