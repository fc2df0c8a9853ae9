"""`archgen data convert` from a file to a table that `archgen search` takes."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest

from archgen import spaces
from archgen.spaces import TreeSpace

Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]


@pytest.fixture
def bench(workplace: Path) -> Path:
    space = spaces.load("nasbench_graph")
    assert isinstance(space, TreeSpace)
    results = {
        space.hash(arch): {"valid_perf": 0.5 + i / 100, "perf": 0.5, "latency": 0.1, "para": 0.2}
        for i, arch in enumerate(dict.fromkeys(space.sample(30, np.random.default_rng(0))))
    }
    (workplace / "cora.bench").write_bytes(pickle.dumps(results))
    return workplace / "cora.bench"


def test_a_converted_table_can_be_searched(bench: Path, succeeds: Run) -> None:
    convert = ["data", "convert", "--from", "nas-bench-graph", "--file", bench, "--out", "cora.parquet"]
    facts = json.loads(succeeds(*convert, "--json").stdout)
    rows = len(pd.read_parquet("cora.parquet"))
    assert facts == {
        "out": "cora.parquet",
        "architectures": rows,
        "metrics": ["val_acc", "test_acc", "latency_ms", "params"],
    }
    assert succeeds(*convert).stdout == f"{rows} architectures in cora.parquet: val_acc, test_acc, latency_ms, params\n"
    search = ["search", "--space", "nasbench_graph", "--evaluator", "cora.parquet", "--maximize", "val_acc"]
    search += ["--strategy", "random", "--budget", "6", "--partial", "--out", "found.csv"]
    assert json.loads(succeeds(*search, "--json").stdout)["evaluations"] == 6
    assert pd.read_csv("found.csv")["val_acc"].between(50, 50 + rows).all()


def test_mistakes_are_refused_in_one_line(bench: Path, refused: Refused) -> None:
    out = ["--out", "t.parquet"]
    assert "did you mean 'nats-bench'" in refused("data", "convert", "--from", "nats-benches", *out)
    assert "give --file" in refused("data", "convert", "--from", "nats-bench", *out)
    assert "is not a file" in refused("data", "convert", "--from", "hw-nas-bench", "--file", "none", *out)
    assert "has no part nasbench201" in refused("data", "convert", "--from", "hw-nas-bench", "--file", bench, *out)
    assert "is a folder" in refused("data", "convert", "--from", "nas-bench-graph", "--file", bench, "--out", ".")
