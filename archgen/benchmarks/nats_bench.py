"""NAS-Bench-201 (arXiv 2001.00326) and the topology half of NATS-Bench (arXiv 2009.00437), from the published files.

Both keep, for each architecture and each length of training, the results of every data set and seed. All published
forms are read: `NAS-Bench-201-v1_1-096897.pth`, `NATS-tss-v1_0-3ffb9.pickle.pbz2`, and the folder
`NATS-tss-v1_0-3ffb9-simple` with a file an architecture. The single files say what happened in each of 200 epochs: of
that only sums and last values are kept while they are read, which needs 1.5 GB instead of 40.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from archgen import spaces
from archgen.benchmarks.base import BENCHMARKS, chosen, formatted, needed
from archgen.benchmarks.pickles import read_pickle
from archgen.errors import InvalidTable

SETS = {
    "cifar10": {"val": ("cifar10-valid", "x-valid"), "test": ("cifar10", "ori-test")},
    "cifar100": {"val": ("cifar100", "x-valid"), "test": ("cifar100", "x-test")},
    "imagenet16_120": {"val": ("ImageNet16-120", "x-valid"), "test": ("ImageNet16-120", "x-test")},
}
"""Of each data set where the published API takes validation and test accuracy from: training run and split."""

LENGTHS = {"12": 12, "200": 200, "less": 12, "full": 200}
"""Epochs of a training run, by the name that NATS-Bench or NAS-Bench-201 gives it."""

UNUSED = ("train_acc1es", "train_acc5es", "train_losses", "eval_losses", "eval_times", "net_state_dict")
EXTENSION = ".pickle.pbz2"

Row = dict[str, float]


@BENCHMARKS.register("nats-bench")
@BENCHMARKS.register("nas-bench-201")
def read_nats_bench(path: Path | None, dataset: str | None = None) -> pd.DataFrame:
    """The table of an official file or folder.

    Columns, of each data set, all means over seeds: `<dataset>_val_acc` and `<dataset>_test_acc` in % after 200 epochs;
    `<dataset>_val_acc_12ep` after 12, and how long their training took, `<dataset>_12ep_train_seconds`;
    `<dataset>_latency_ms` as published, of a batch on their GPU; `params` and `flops` of the network for CIFAR-10,
    plain numbers; and `index`, the official one. What is not published is NaN.

    Args:
        path: File or folder; a folder may hold some of the architectures only.
        dataset: `cifar10`, `cifar100` or `imagenet16_120`; all by default.

    Raises:
        InvalidTable: Not such a file, damaged, or of the size search space (`sss`).
        UnknownName: No such data set.
    """
    datasets = chosen(dataset, tuple(SETS))
    path = needed(path, "NATS-tss-v1_0-3ffb9.pickle.pbz2")
    space = spaces.load("nasbench201")
    rows = []
    for index, text, results in _folder(path) if path.is_dir() else _file(path):
        merged: Row = {}
        for row in results.values():  # of short and of long training: they share no column
            merged |= row if isinstance(row, dict) else {}
        rows.append({"arch": formatted(space, text, path), "index": index, **merged})
    if not rows:
        raise InvalidTable(f"{path} has results of no architecture; download it again")
    frame = pd.DataFrame(rows).sort_values("index", ignore_index=True)
    kept = ["arch", "index", *(f"{d}_{metric}" for d in datasets for metric in _METRICS), "params", "flops"]
    return frame.reindex(columns=kept)


_METRICS = ("val_acc", "test_acc", "val_acc_12ep", "12ep_train_seconds", "latency_ms")


def _file(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    whole = read_pickle(path, compact)
    if not isinstance(whole, dict) or not {"meta_archs", "arch2infos"} <= whole.keys():
        raise InvalidTable(f"{path} is not NAS-Bench-201 or NATS-Bench: it has no meta_archs and arch2infos")
    for index, results in whole["arch2infos"].items():
        yield _found(path, index, whole["meta_archs"], results)


def _folder(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    meta = read_pickle(path / f"meta{EXTENSION}")
    if not isinstance(meta, dict) or "meta_archs" not in meta:
        raise InvalidTable(f"{path / f'meta{EXTENSION}'} has no meta_archs: expected the folder of NATS-Bench")
    for index in range(len(meta["meta_archs"])):
        for name in (f"{index:06d}{EXTENSION}", f"{index}{EXTENSION}"):
            if (path / name).is_file():
                yield _found(path / name, index, meta["meta_archs"], read_pickle(path / name, compact))
                break


def _found(path: Path, index: Any, archs: Any, results: Any) -> tuple[int, str, dict[str, Any]]:
    if not isinstance(index, int) or not 0 <= index < len(archs) or not isinstance(archs[index], str):
        raise InvalidTable(f"{path} has results of architecture {index!r}, which it does not list; download it again")
    if ":" in archs[index] and "|" not in archs[index]:
        raise InvalidTable(f"{path} is of the size search space; expected the topology one, NATS-tss")
    if not isinstance(results, dict):
        raise InvalidTable(f"{path}: the results of architecture {index} are no dictionary; download it again")
    return index, archs[index], results


# -- making results small while they are read ----------------------------------------------------------------------


def compact(key: object, found: dict[Any, Any]) -> None:
    """Keep of the results of a training run what the table needs; called again when more items have come.

    Results of one run (`ResultsCount` of the published API) keep the last accuracy of each split and the sum of the
    times; the runs of one architecture and length (`ArchResults`) become a row.
    """
    if key in UNUSED:
        found.clear()
    elif key == "train_times":
        total = sum(found.values())
        found.clear()
        found["total"] = total
    elif key == "eval_acc1es":
        last = {_split(k): k for k in sorted(found, key=_epoch)}
        _replace(found, {k: found[k] for k in last.values()})
    elif {"all_results", "dataset_seed"} <= found.keys() and key in LENGTHS:
        row = _row(found, LENGTHS[str(key)])
        for run in found["all_results"].values():
            run.clear()  # the unpickler remembers it until the end of the file
        _replace(found, row)


def _replace(found: dict[Any, Any], kept: dict[Any, Any]) -> None:
    found.clear()
    found.update(kept)


def _split(key: str) -> str:
    return key.partition("@")[0]


def _epoch(key: str) -> int:
    return int(key.partition("@")[2])


def _row(results: dict[str, Any], epochs: int) -> Row:
    """Columns of one architecture from all its runs of one length, which `compact` has made small."""
    row: Row = {}
    for dataset, parts in SETS.items():
        for part, (trained_on, split) in parts.items():
            runs = [results["all_results"][trained_on, seed] for seed in results["dataset_seed"].get(trained_on, ())]
            found = [{_split(k): v for k, v in run["eval_acc1es"].items()} for run in runs]
            values = [accuracies[split] for accuracies in found if split in accuracies]
            if not values:
                continue
            if epochs == 200:
                row[f"{dataset}_{part}_acc"] = float(np.mean(values))
                latencies = [np.mean(run["latency"]) for run in runs if run["latency"]]
                if part == "val" and latencies:
                    row[f"{dataset}_latency_ms"] = 1000 * float(np.mean(latencies))
                row.setdefault("params", 1e6 * float(np.mean([run["params"] for run in runs])))
                row.setdefault("flops", 1e6 * float(np.mean([run["flop"] for run in runs])))
            elif part == "val":
                row[f"{dataset}_val_acc_12ep"] = float(np.mean(values))
                seconds = [run["train_times"]["total"] for run in runs if run["train_times"]]
                if seconds:
                    row[f"{dataset}_12ep_train_seconds"] = float(np.mean(seconds))
    return row
