"""NAS-Bench-201 and NATS-Bench: files of the published layout, with the values that the published API would give."""

from __future__ import annotations

import bz2
import pickle
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from archgen.benchmarks import read_nats_bench
from archgen.benchmarks.nats_bench import EXTENSION, compact
from archgen.benchmarks.pickles import read_pickle
from archgen.errors import InvalidTable, UnknownName
from archgen.evaluators import TabularEvaluator
from archgen.spaces import SearchSpace

PARTS = {
    "cifar10-valid": ("ori-test", "x-valid"),
    "cifar10": ("ori-test",),
    "cifar100": ("ori-test", "x-valid", "x-test"),
    "ImageNet16-120": ("ori-test", "x-valid", "x-test"),
}


def run(arch: str, dataset: str, seed: int, epochs: int, rng: np.random.Generator) -> dict[str, Any]:
    """`ResultsCount.state_dict()` of the published API."""
    keys = [f"{part}@{epoch}" for part in PARTS[dataset] for epoch in range(epochs)]
    return {
        "name": "infer.tiny",
        "net_state_dict": None,
        "train_acc1es": OrderedDict((i, float(v)) for i, v in enumerate(rng.uniform(10, 100, epochs))),
        "train_acc5es": OrderedDict((i, float(v)) for i, v in enumerate(rng.uniform(10, 100, epochs))),
        "train_losses": OrderedDict((i, float(v)) for i, v in enumerate(rng.uniform(0, 2, epochs))),
        "train_times": OrderedDict((i, float(v)) for i, v in enumerate(rng.uniform(5, 9, epochs))),
        "arch_config": {"channel": 16, "num_cells": 5, "arch_str": arch, "class_num": 10},
        "params": float(rng.uniform(0.1, 1.5)),
        "flop": float(rng.uniform(10, 200)),
        "seed": seed,
        "epochs": epochs,
        "latency": [float(v) for v in rng.uniform(0.01, 0.03, 3)],
        "eval_names": list(PARTS[dataset]),
        "eval_acc1es": {key: float(v) for key, v in zip(keys, rng.uniform(10, 95, len(keys)), strict=True)},
        "eval_times": {key: float(v) for key, v in zip(keys, rng.uniform(1, 2, len(keys)), strict=True)},
        "eval_losses": {key: float(v) for key, v in zip(keys, rng.uniform(0, 2, len(keys)), strict=True)},
    }


def results(index: int, arch: str, epochs: int, seeds: dict[str, Sequence[int]]) -> dict[str, Any]:
    """`ArchResults.state_dict()` of the published API."""
    rng = np.random.default_rng([index, epochs])
    runs = {(d, seed): run(arch, d, seed, epochs, rng) for d, each in seeds.items() for seed in each}
    return {
        "arch_index": index,
        "arch_str": arch,
        "all_results": runs,
        "dataset_seed": {dataset: list(each) for dataset, each in seeds.items()},
        "clear_net_done": True,
    }


SHORT, LONG = dict.fromkeys(PARTS, (777,)), {**dict.fromkeys(PARTS, (777, 888)), "cifar10": (777, 888, 999)}


@pytest.fixture(scope="module")
def archs(space: SearchSpace) -> list[str]:
    return [space.format(arch) for arch in space.sample(3, np.random.default_rng(1))]


@pytest.fixture(scope="module")
def infos(archs: list[str]) -> dict[int, dict[str, Any]]:
    """Results of the architectures 0 and 2; 1 is listed and was not trained."""
    return {i: {"12": results(i, archs[i], 12, SHORT), "200": results(i, archs[i], 200, LONG)} for i in (0, 2)}


def single(path: Path, archs: list[str], infos: dict[int, Any]) -> Path:
    whole = {"meta_archs": archs, "arch2infos": infos, "evaluated_indexes": {0, 2}}
    path.write_bytes(bz2.compress(pickle.dumps(whole, 4)))
    return path


def folder(path: Path, archs: list[str], infos: dict[int, Any]) -> Path:
    path.mkdir()
    meta = {"meta_archs": archs, "total_archs": len(archs), "evaluated_indexes": {0, 2}}
    (path / f"meta{EXTENSION}").write_bytes(bz2.compress(pickle.dumps(meta, 4)))
    for index, each in infos.items():
        (path / f"{index:06d}{EXTENSION}").write_bytes(bz2.compress(pickle.dumps(OrderedDict(each), 4)))
    return path


def checkpoint(path: Path, archs: list[str], infos: dict[int, Any]) -> Path:
    """NAS-Bench-201: other names of the lengths, in a checkpoint of torch from before zip archives."""
    named = {i: {"less": each["12"], "full": each["200"]} for i, each in infos.items()}
    whole = {"meta_archs": archs, "total_archs": len(archs), "arch2infos": named, "evaluated_indexes": {0, 2}}
    torch.save(whole, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize("write", [single, folder, checkpoint])
def test_every_form_gives_the_means_of_the_published_api(
    tmp_path: Path, archs: list[str], infos: dict[int, Any], write: Callable[..., Path]
) -> None:
    frame = read_nats_bench(write(tmp_path / "f", archs, infos), None)
    assert frame["index"].tolist() == [0, 2]
    assert frame["arch"].tolist() == [archs[0], archs[2]]
    for row, index in enumerate((0, 2)):
        short, long = infos[index]["12"]["all_results"], infos[index]["200"]["all_results"]

        def last(runs: Any, dataset: str, part: str, epochs: int) -> float:
            return float(
                np.mean([r["eval_acc1es"][f"{part}@{epochs - 1}"] for (d, _), r in runs.items() if d == dataset])
            )

        expected = {
            "cifar10_val_acc": last(long, "cifar10-valid", "x-valid", 200),
            "cifar10_test_acc": last(long, "cifar10", "ori-test", 200),
            "cifar100_val_acc": last(long, "cifar100", "x-valid", 200),
            "imagenet16_120_test_acc": last(long, "ImageNet16-120", "x-test", 200),
            "cifar100_val_acc_12ep": last(short, "cifar100", "x-valid", 12),
        }
        expected["cifar100_12ep_train_seconds"] = sum(short["cifar100", 777]["train_times"].values())
        runs = [long["cifar10-valid", seed] for seed in (777, 888)]
        expected["params"] = 1e6 * np.mean([r["params"] for r in runs])
        expected["flops"] = 1e6 * np.mean([r["flop"] for r in runs])
        expected["cifar10_latency_ms"] = 1e3 * np.mean([np.mean(r["latency"]) for r in runs])
        assert frame.loc[row, list(expected)].to_dict() == pytest.approx(expected, rel=1e-12)


def test_the_table_can_be_searched(tmp_path: Path, archs: list[str], infos: dict[int, Any], space: SearchSpace) -> None:
    frame = read_nats_bench(single(tmp_path / "f", archs, infos), "cifar100")
    assert [c for c in frame.columns if "acc" in c] == [
        "cifar100_val_acc",
        "cifar100_test_acc",
        "cifar100_val_acc_12ep",
    ]
    frame.to_parquet(tmp_path / "t.parquet")
    table = TabularEvaluator(space, tmp_path / "t.parquet", needed=["cifar100_val_acc"], partial=True)
    assert table.architectures == [space.parse(archs[0]), space.parse(archs[2])]


def test_what_was_not_measured_is_nan(tmp_path: Path, archs: list[str], infos: dict[int, Any]) -> None:
    only = {0: {"12": infos[0]["12"]}}
    frame = read_nats_bench(folder(tmp_path / "f", archs, only))
    assert frame["cifar10_val_acc"].isna().all()
    assert frame["cifar10_val_acc_12ep"].notna().all()


def test_runs_are_made_small_as_soon_as_they_are_read(archs: list[str]) -> None:
    found = run(archs[0], "cifar100", 777, 200, np.random.default_rng(0))
    total, last = sum(found["train_times"].values()), found["eval_acc1es"]["x-test@199"]
    for key, value in found.items():
        if isinstance(value, dict):
            compact(key, value)
            compact(key, value)  # a second batch of items comes to what is small already
    assert found["train_times"] == {"total": pytest.approx(total)}
    assert found["eval_acc1es"]["x-test@199"] == last
    assert sum(len(value) for value in found.values() if isinstance(value, dict)) == 1 + 3 + 4


def test_reading_holds_a_small_part_of_the_file(tmp_path: Path, archs: list[str]) -> None:
    """One run at a time, and of those before what they leave."""
    path = single(tmp_path / "f", archs, {i: {"200": results(i, arch, 200, LONG)} for i, arch in enumerate(archs)})
    peaks = []
    for smaller in (None, compact):
        tracemalloc.start()
        read_pickle(path, smaller)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] / 3


def test_other_files_are_refused(tmp_path: Path, archs: list[str], infos: dict[int, Any]) -> None:
    infos = {index: {"12": each["12"]} for index, each in infos.items()}

    def refuse(path: Path, match: str) -> None:
        with pytest.raises(InvalidTable, match=match):
            read_nats_bench(path)

    refuse(tmp_path / "none", "is not a file")
    (tmp_path / "list").write_bytes(pickle.dumps([1]))
    refuse(tmp_path / "list", "not NAS-Bench-201 or NATS-Bench")
    refuse(single(tmp_path / "size", ["64:64:64:64:64"] * 3, infos), "size search space")
    refuse(single(tmp_path / "ops", [arch.replace("none", "nothing") for arch in archs], infos), "space nasbench201")
    refuse(single(tmp_path / "index", archs[:1], infos), "results of architecture 2, which it does not list")
    refuse(folder(tmp_path / "empty", archs, {}), "results of no architecture")
    whole = single(tmp_path / "whole", archs, infos).read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    refuse(tmp_path / "cut", "not a whole pickle")
    damaged = {0: {"12": {**infos[0]["12"], "dataset_seed": {"cifar10": [1]}}}}
    refuse(single(tmp_path / "keys", archs, damaged), "not a whole pickle")
    with pytest.raises(UnknownName, match="did you mean 'cifar10'"):
        read_nats_bench(tmp_path / "whole", "cifar11")
    with pytest.raises(InvalidTable, match="give --file"):
        read_nats_bench(None)
