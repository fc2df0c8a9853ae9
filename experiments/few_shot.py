"""Few-shot adaptation of committed flows: to ten good cells of NAS-Bench-201, to a space related to NAS-Bench-101.

    python experiments/few_shot.py [--seeds 5]

Ten examples: the best of 200 random cells by CIFAR-10 validation accuracy (those labels are all that is used). Figures
of 1,000 samples, drawn freely: uniqueness, share that is one of the ten, true test accuracy. Against it: the generator
as it was, the context without its guard, and all weights trained on the ten. Related space: modules of at most 6
vertices and 8 edges (30,285), 100 of them as samples; a flow that starts from the trained one for 20 steps, against
others that start from nothing, for 20 and for 320 steps. Figures: the loss on 2,000 other modules, the share valid
before the projector, and uniqueness. Writes experiments/results/few_shot.csv.
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
from archgen.spaces import ModuleSpace, load
from archgen.steering import CountedProjector


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
        rows += related(seed)
    frame = pd.DataFrame(rows)
    frame.to_csv(Path(__file__).parent / "results" / "few_shot.csv", index=False)
    shown = frame.groupby(["task", "generator"], sort=False)[["unique", "copies", "mean", "best", "valid_raw", "loss"]]
    print(shown.agg(["mean", "min", "max"]).round(2).T.to_string())
    print(f"{platform.machine()}, one thread, torch {torch.__version__}")


def related(seed: int) -> list[dict[str, object]]:
    old = load("nasbench101")
    trained = pretrained_generator(old)
    assert isinstance(trained, DiscreteFlow)
    assert isinstance(old, ModuleSpace)
    new = ModuleSpace("six_vertices", 6, 8, old.operations, old.network_defaults)
    listed = new.enumerate()
    order = np.random.default_rng(seed).permutation(len(listed))
    train, test = (new.encode([listed[i] for i in part]) for part in (order[:100], order[100:2100]))
    rows: list[dict[str, object]] = []
    for name, steps in (("as trained", 20), ("from nothing", 20), ("from nothing", 320)):
        torch.manual_seed(seed)
        flow = DiscreteFlow(new.node_domain, new.edge_domain)
        if name == "as trained":
            flow = adapt_to_space(trained, old.labels, new.node_domain, new.edge_domain, new.labels)
        train_generator(flow, train, steps=steps, lr=1e-3, seed=seed)
        flow.eval()
        with torch.no_grad():
            loss = float(flow.loss(test, generator=torch.Generator().manual_seed(seed)))
        projector = CountedProjector(new)
        drawn = flow.sample(1000, projector=projector, generator=torch.Generator().manual_seed(seed))
        archs = [arch for arch in new.decode(drawn) if arch is not None]
        row = {"task": "related space", "generator": f"{name}, {steps} steps", "seed": seed, "loss": loss}
        rows.append(row | {"valid_raw": 100 * projector.share, "unique": 100 * len(set(archs)) / len(archs)})
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
