"""Train the committed predictors of every space from the published tables.

    python experiments/train_predictors.py [--spaces nasbench201,darts] [--metrics M,M] [--here latency.parquet]

Needs the published tables (ARCHGEN_DATA or ../shared/data). `--here` adds the predictor of plain `latency_ms` of
NAS-Bench-201, from a table that `experiments/measure_latency.py` wrote. Every figure on a card is measured on
architectures that the predictor has not seen. Adds its rows to experiments/results/predictors.csv.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from ofa_truth import Truth

from archgen import config, spaces
from archgen.graph import Architecture
from archgen.pretrain_predictor import LABELS, checkpoint_name, pretrain_predictor
from archgen.spaces import SearchSpace

RESULTS = Path(__file__).parent / "results" / "predictors.csv"
NO_DEVICE = ("arch", "index", "ops")
"""Columns of the latency tables that are none of a device."""
ACCURACY_LABELS = 1563  # a tenth of NAS-Bench-201, the most that published predictors are compared at
HELP = "HELP's latency table (MIT, arXiv 2106.08630), ms"


class Task(NamedTuple):
    """What one predictor is trained on."""

    metric: str
    kind: str
    archs: list[Architecture]
    y: NDArray[np.float64]
    source: str
    labels: int = LABELS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", default=",".join(TASKS))
    parser.add_argument("--metrics", help="only these, comma-separated")
    parser.add_argument("--here", type=Path, help="table of experiments/measure_latency.py")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    tables = config.data_dir()
    if tables is None:
        sys.exit("expected the published tables in ARCHGEN_DATA or ../shared/data; there are none")
    rows = []
    for name in args.spaces.split(","):
        space = spaces.load(name)
        tasks = [*TASKS[name](space, tables)]
        if name == "nasbench201" and args.here is not None:
            tasks.append(measured_here(space, args.here))
        for task in tasks:
            if args.metrics is not None and task.metric not in args.metrics.split(","):
                continue
            folder = config.checkpoints_dir() / "predictors" / checkpoint_name(space, task.metric)
            figures = pretrain_predictor(
                space,
                task.archs,
                task.y,
                folder,
                metric=task.metric,
                kind=task.kind,
                labels=task.labels,
                source=task.source,
                command=f"python experiments/train_predictors.py --spaces {name} --seed {args.seed}",
                seed=args.seed,
            )
            rows.append({"space": name, "metric": task.metric, "predictor": task.kind, **figures})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    if RESULTS.exists():
        before = pd.read_csv(RESULTS)
        if set(before.columns) == set(table.columns):
            done = set(zip(table["space"], table["metric"], strict=True))
            kept = [(s, m) not in done for s, m in zip(before["space"], before["metric"], strict=True)]
            table = pd.concat([before[kept], table])
    table.to_csv(RESULTS, index=False)
    print(table.round(3).to_string(index=False))


def parsed(space: SearchSpace, table: pd.DataFrame) -> list[Architecture]:
    return [space.parse(text) for text in table["arch"]]


def devices(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table.columns if name not in NO_DEVICE]


def nasbench201(space: SearchSpace, tables: Path) -> Iterator[Task]:
    accuracy = pd.read_parquet(tables / "nasbench201" / "accuracy.parquet")
    archs = parsed(space, accuracy)
    source = "NAS-Bench-201 (MIT, arXiv 2001.00326), mean over seeds after 200 epochs, percent"
    for metric in ("cifar10_val_acc", "cifar100_val_acc", "imagenet16_120_val_acc"):
        yield Task(metric, "gp", archs, accuracy[metric].to_numpy(float), source, ACCURACY_LABELS)
    latency = pd.read_parquet(tables / "nasbench201" / "latency_ms.parquet")
    archs = parsed(space, latency)
    for device in devices(latency):
        source = f"{HELP}, published CIFAR-10 network"
        yield Task(f"latency_ms@{device}", "latency", archs, latency[device].to_numpy(float), source)
    hardware = pd.read_parquet(tables / "nasbench201" / "hw_nas_bench.parquet")
    source = "HW-NAS-Bench (MIT, arXiv 2103.10584), ms, published CIFAR-10 network"
    for device, where in (("edgegpu", ""), ("edgetpu", "; of the cells that the device can run")):
        known = hardware[hardware[f"cifar10_{device}_latency"].notna()]
        y = known[f"cifar10_{device}_latency"].to_numpy(float)
        yield Task(f"latency_ms@{device}", "latency", parsed(space, known), y, f"{source}{where}")
    source = "HW-NAS-Bench (MIT, arXiv 2103.10584), mJ an image, published CIFAR-10 network"
    for device in ("edgegpu", "eyeriss", "fpga"):  # energy adds up over operations as latency does
        y = hardware[f"cifar10_{device}_energy"].to_numpy(float)
        yield Task(f"energy_mj@{device}", "latency", parsed(space, hardware), y, source)


def measured_here(space: SearchSpace, path: Path) -> Task:
    facts = json.loads(path.with_suffix(".json").read_text())["device"]
    source = (
        f"measured by experiments/measure_latency.py with onnxruntime {facts['version']}, one thread, batch 1, "
        f"on a 2-core {facts['cpu']}: the published CIFAR-10 network, dead edges left out. On another machine the "
        "order holds better than the milliseconds; `archgen design` measures its own"
    )
    table = pd.read_parquet(path)
    return Task("latency_ms", "latency", parsed(space, table), table["latency_ms"].to_numpy(float), source)


def darts(space: SearchSpace, tables: Path) -> Iterator[Task]:
    table = pd.read_parquet(tables / "darts" / "accuracy_1000.parquet")
    source = "1,000 DARTS networks published with SWAP (arXiv 2403.04161), percent"
    yield Task("cifar10_val_acc", "gp", parsed(space, table), table["cifar10_val_acc"].to_numpy(float), source)


def mobilenetv3(space: SearchSpace, tables: Path) -> Iterator[Task]:
    truth = Truth(space, tables / "ofa_mobilenetv3")
    archs = [arch for arch in space.sample(12_000, np.random.default_rng(0)) if truth.knows(arch)][:2000]
    what = "Once-for-All (MIT, arXiv 1908.09791), 1.2 times the channels, resolutions 160 to 224 in steps of 16"
    yield Task("imagenet_top1", "gp", archs, truth.top1(archs), f"the published accuracy predictor of {what}, percent")
    yield Task("latency_ms@note10", "latency", archs, truth.note10(archs), f"the published Note10 table of {what}, ms")


def fbnet(space: SearchSpace, tables: Path) -> Iterator[Task]:
    table = pd.read_parquet(tables / "fbnet" / "latency_ms.parquet")
    archs = parsed(space, table)
    for device in devices(table):
        yield Task(f"latency_ms@{device}", "latency", archs, table[device].to_numpy(float), HELP)


def nasbench_macro(space: SearchSpace, tables: Path) -> Iterator[Task]:
    table = pd.read_parquet(tables / "nasbench_macro.parquet")
    source = "NAS-Bench-Macro (Apache-2.0, arXiv 2103.11922), mean of 3 seeds, percent"
    yield Task("test_acc", "gp", parsed(space, table), table["test_acc"].to_numpy(float), source)


TASKS: dict[str, Callable[[SearchSpace, Path], Iterator[Task]]] = {
    "nasbench201": nasbench201,
    "darts": darts,
    "mobilenetv3": mobilenetv3,
    "fbnet": fbnet,
    "nasbench_macro": nasbench_macro,
}


if __name__ == "__main__":
    main()
