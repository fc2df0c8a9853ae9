"""Tasks of small images, and the accuracies of the same random cells on each: what `meta_transfer.py` learns from.

    python experiments/meta_tasks.py [--cells 34] [--repeats 2]

Twelve tasks of seven families from CIFAR-10 (of ARCHGEN_DATA or ../shared/data) and scikit-learn's digits: subsets of
the classes at 8 and 16 pixels, grey or in colour, from 250 to 1,000 images to learn from; tasks of a family share
classes and images, tasks of two families no image (digits are one family). 16 pixels are CIFAR's averaged by 2, or the
digits' enlarged (bilinear). Test parts of the sources are not used; what is left is split anew into what is trained on
and, at most `VALIDATION` images, what the accuracy is of.

The cells are random ones of NAS-Bench-201 that compute different functions, one a stage with 8 channels in the first,
trained for 8 epochs (about 64 steps) by `TrainEvaluator`, twice; no two trainings of a cell have the same seed. Writes
experiments/results/meta_tasks.csv, a row a training, as it goes; rows that are there are not made again, so that a
stopped run goes on. Prints of each task the mean, best and spread of the accuracies, and how far two trainings of the
same cells agree (Kendall's tau), in accuracy and in loss.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from archgen import config, spaces
from archgen.artifacts import write_atomic
from archgen.data import ImageData, Split, load_data
from archgen.evaluators import TrainEvaluator
from archgen.graph import Architecture
from archgen.spaces import SearchSpace
from archgen.supernets.training import Schedule
from archgen.threads import single_threaded

RESULTS = Path(__file__).parent / "results" / "meta_tasks.csv"
KEY = ["task", "repeat", "cell"]
SCHEDULE = Schedule(epochs=8)
NETWORK = {"cells": 1, "channels": 8}
VALIDATION = 800
LIMIT = 22_000
"""Images of CIFAR-10 that are decoded; a sixth of them are test images."""
Images = tuple[Float[Tensor, "b c h w"], Int[Tensor, " b"]]


@dataclass(frozen=True)
class Task:
    """Which images of which classes.

    Args:
        family: Of tasks that share images.
        classes: Labels of the source that are kept.
        side: Of an image, in pixels.
        train: Images to learn from.
        grey: Whether colours are averaged.
        source: `cifar10` or `digits`.
    """

    family: str
    classes: tuple[int, ...]
    side: int
    train: int
    grey: bool = False
    source: str = "cifar10"


ANIMALS, VEHICLES, FIVE, ALL = (2, 3, 4, 5, 6, 7), (0, 1, 8, 9), (2, 4, 5, 6, 7), tuple(range(10))
TASKS = {
    "ten_8": Task("ten", ALL, 8, 1000),
    "ten_16_grey": Task("ten", ALL, 16, 500, grey=True),
    "animals_8": Task("animals", ANIMALS, 8, 1000),
    "animals_16": Task("animals", ANIMALS, 16, 300),
    "vehicles_8_grey": Task("vehicles", VEHICLES, 8, 1000, grey=True),
    "vehicles_16": Task("vehicles", VEHICLES, 16, 300),
    "cat_dog_16": Task("cat_dog", (3, 5), 16, 400),
    "plane_ship_8": Task("plane_ship", (0, 8), 8, 250),
    "five_8": Task("five", FIVE, 8, 250),
    "digits_8": Task("digits", ALL, 8, 800, source="digits"),
    "digits_16": Task("digits", ALL, 16, 300, source="digits"),
    "odd_digits_8": Task("digits", (1, 3, 5, 7, 9), 8, 250, source="digits"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=34)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    space = spaces.load("nasbench201")
    frame = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=KEY)
    done = set(frame[KEY].itertuples(index=False, name=None))
    runs = itertools.product(cells(space, args.cells), range(args.repeats), enumerate(TASKS))
    with single_threaded():
        images = task_images()
        evaluators = {name: TrainEvaluator(space, images[name], SCHEDULE, network=NETWORK) for name in TASKS}
        for arch, repeat, (number, name) in tqdm(list(runs), desc="trainings", disable=None):
            if (name, repeat, space.format(arch)) in done:
                continue
            # tasks of one seed would share the luck of the initial weights, and seem to agree
            (found,) = evaluators[name].evaluate([arch], seed=1000 * repeat + number)
            row = {"task": name, "repeat": repeat, "cell": space.format(arch), "seconds": round(found.cost_seconds, 2)}
            new = pd.DataFrame([row | {metric: round(value, 4) for metric, value in found.values.items()}])
            frame = pd.concat([frame, new], ignore_index=True) if len(frame) else new
            write_atomic(RESULTS, lambda path, table=frame: table.to_csv(path, index=False))
    shown = frame.groupby("task", sort=False)
    columns = {"mean": shown["val_acc"].mean(), "best": shown["val_acc"].max(), "spread": shown["val_acc"].std()}
    columns |= {f"tau of {label}": agreement(frame, label) for label in ("val_acc", "val_loss")}
    print(pd.DataFrame({**columns, "seconds": shown["seconds"].mean()}).round(3).to_string())


def cells(space: SearchSpace, n: int) -> list[Architecture]:
    """The first `n` random cells of different functions; more of them begin with the same ones."""
    rng = np.random.default_rng(0)
    found: dict[str, Architecture] = {}
    while len(found) < n:
        (arch,) = space.sample(1, rng)
        found.setdefault(space.canonical(arch), arch)
    return list(found.values())


def agreement(frame: pd.DataFrame, label: str) -> pd.Series:
    """Kendall's tau between two trainings of the same cells, a value a task."""
    wide = frame.pivot(index=["task", "cell"], columns="repeat", values=label).dropna()
    if wide.shape[1] < 2:
        return pd.Series(dtype=float)
    return wide.groupby("task").apply(lambda part: part[0].corr(part[1], method="kendall"))


def task_images() -> dict[str, ImageData]:
    """The images of every task."""
    folder = config.data_dir()
    if folder is None:
        sys.exit("expected CIFAR-10 in ARCHGEN_DATA or ../shared/data; there is none")
    left = {
        "cifar10": pool(load_data(str(folder / "cifar10" / "images_jpeg.parquet"), limit=LIMIT)),
        "digits": pool(load_data("digits")),
    }
    found = {}
    for family in dict.fromkeys(task.family for task in TASKS.values()):
        members = {name: task for name, task in TASKS.items() if task.family == family}
        first = next(iter(members.values()))
        x, labels = left[first.source]
        classes = sorted({k for task in members.values() for k in task.classes})
        each = math.ceil((max(task.train for task in members.values()) + VALIDATION) / len(classes))
        each = each if first.source == "cifar10" else len(x)  # all digits are one family's
        chosen = np.concatenate([np.flatnonzero(labels == k)[:each] for k in classes])
        chosen = np.random.default_rng(0).permutation(chosen)
        found |= {name: make(name, task, x[chosen], labels[chosen]) for name, task in members.items()}
        rest = np.setdiff1d(np.arange(len(x)), chosen)
        left[first.source] = x[rest], labels[rest]  # no other family sees these images
    return {name: found[name] for name in TASKS}


def pool(source: ImageData) -> Images:
    """What may be used of a source, its training and validation parts, in a random order; pixels in [0, 1]."""
    x = torch.cat([pixels(source, part.images) for part in (source.train, source.validation)])
    labels = torch.cat([source.train.labels, source.validation.labels])
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
    return x[order], labels[order]


def pixels(data: ImageData, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Images as they were before normalisation, in [0, 1]."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    return (images * std + mean).clamp(0, 1)


def make(name: str, task: Task, x: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> ImageData:
    """A task out of the images of its family; the test part stays empty."""
    kept = torch.isin(labels, torch.tensor(task.classes))
    x, labels = x[kept], labels[kept]
    if task.grey:
        x = x.mean(1, keepdim=True)
    x = F.interpolate(x, (task.side, task.side), mode="bilinear" if x.shape[-1] < task.side else "area")
    labels = torch.searchsorted(torch.tensor(task.classes), labels)
    mean, std = x[: task.train].mean((0, 2, 3)), x[: task.train].std((0, 2, 3))
    x = (x - mean[:, None, None]) / std[:, None, None]
    ends = {"train": (0, task.train), "validation": (task.train, task.train + VALIDATION), "test": (0, 0)}
    return ImageData(
        name,
        **{part: Split(x[low:high], labels[low:high]) for part, (low, high) in ends.items()},
        classes=tuple(str(k) for k in labels.unique().tolist()),
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        flip=x.shape[1] == 3,
    )


if __name__ == "__main__":
    main()
