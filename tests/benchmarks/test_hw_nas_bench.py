"""HW-NAS-Bench: a file of the published layout."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from archgen.benchmarks import read_hw_nas_bench
from archgen.benchmarks.hw_nas_bench import DATASETS
from archgen.errors import InvalidTable, UnknownName
from archgen.spaces import SearchSpace


@pytest.fixture
def whole(space: SearchSpace) -> dict[str, Any]:
    """Configurations and metrics by the official index; the second device can not run every network."""
    archs = [space.format(arch) for arch in space.sample(4, np.random.default_rng(0))]
    part = {}
    for i, dataset in enumerate(DATASETS.values()):
        config = [
            {"name": "infer.tiny", "C": 16, "N": 5, "arch_str": arch, "num_classes": [10, 100, 120][i]}
            for arch in archs
        ]
        part[dataset] = {
            "config": config,
            "edgegpu_latency": [1.0 + i, 2.0, 3.0, 4.0],
            "edgetpu_latency": np.array([0.5, np.nan, 0.25, np.nan]),
            "eyeriss_energy": [np.float64(v) for v in (7, 8, 9, 10)],
        }
    return {"nasbench201": part, "fbnet": {"edgegpu_latency": {"ConvNorm_H32_W32": 0.1}}}


def write(path: Path, value: Any) -> Path:
    path.write_bytes(pickle.dumps(value, 2))
    return path


def test_metrics_come_by_data_set_and_device(tmp_path: Path, whole: dict[str, Any]) -> None:
    frame = read_hw_nas_bench(write(tmp_path / "f", whole))
    assert frame["index"].tolist() == [0, 1, 2, 3]
    assert frame["arch"].tolist() == [c["arch_str"] for c in whole["nasbench201"]["cifar10"]["config"]]
    assert frame["cifar100_edgegpu_latency"].tolist() == [2, 2, 3, 4]
    assert frame["imagenet16_120_eyeriss_energy"].tolist() == [7, 8, 9, 10]
    assert frame["cifar10_edgetpu_latency"].isna().tolist() == [False, True, False, True]
    assert len(frame.columns) == 2 + 3 * 3
    one = read_hw_nas_bench(tmp_path / "f", "cifar100")
    pd.testing.assert_frame_equal(one, frame[["arch", "index", *(c for c in frame.columns if "cifar100_" in c)]])


def test_values_may_be_kept_by_their_index(tmp_path: Path, whole: dict[str, Any]) -> None:
    expected = read_hw_nas_bench(write(tmp_path / "f", whole))
    for table in whole["nasbench201"].values():
        for name in ("config", "edgegpu_latency"):
            table[name] = {i: table[name][i] for i in (2, 0, 3, 1)}
    pd.testing.assert_frame_equal(read_hw_nas_bench(write(tmp_path / "f", whole)), expected)


def test_other_files_are_refused(tmp_path: Path, whole: dict[str, Any]) -> None:
    def refuse(value: Any, match: str) -> None:
        with pytest.raises(InvalidTable, match=match):
            read_hw_nas_bench(write(tmp_path / "f", value))

    refuse([1], "has no part nasbench201")
    part = whole["nasbench201"]
    refuse({"nasbench201": {**part, "cifar100": {}}}, "has no cifar100 with a config")
    refuse({"nasbench201": {**part, "cifar10": {**part["cifar10"], "config": [1]}}}, "cifar10 is not as published")
    refuse({"nasbench201": {**part, "cifar10": {**part["cifar10"], "fpga_energy": [1.0]}}}, r"has \(1,\) values for 4")
    other = {**part["cifar10"], "config": part["cifar10"]["config"][::-1]}
    refuse({"nasbench201": {**part, "cifar10": other}}, "other architectures for one data set")
    strange = [{**c, "arch_str": "|x~0|"} for c in part["cifar10"]["config"]]
    with pytest.raises(InvalidTable, match="is not of the space nasbench201"):
        read_hw_nas_bench(write(tmp_path / "f", {"nasbench201": {"cifar10": {"config": strange}}}), "cifar10")
    with pytest.raises(UnknownName, match="did you mean 'cifar100'"):
        read_hw_nas_bench(tmp_path / "f", "cifar1000")
