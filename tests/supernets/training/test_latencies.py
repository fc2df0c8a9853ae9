"""Latencies of operations: read from four kinds of files, and what a bad file is told."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from archgen.errors import ArchgenError, InvalidOption, InvalidTable, UnknownName
from archgen.supernets.training.latencies import expected_latency, read_latencies

EDGES = {"0->1": ("none", "conv"), "0->2": ("conv",)}
GIVEN = {"0->1": {"conv": 2, "none": 0}, "0->2": {"conv": 1.5}}
READ = {"0->1": [0.0, 2.0], "0->2": [1.5]}
ROWS = pd.DataFrame(
    [(edge, op, value) for edge, own in GIVEN.items() for op, value in own.items()],
    columns=["edge", "operation", "latency"],
)


def test_all_files_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(GIVEN))
    (tmp_path / "a.toml").write_text('["0->1"]\nconv = 2\nnone = 0\n["0->2"]\nconv = 1.5\n')
    ROWS.to_csv(tmp_path / "a.csv", index=False)
    ROWS.assign(device="phone").to_parquet(tmp_path / "a.parquet")
    for suffix in ("json", "toml", "csv", "parquet"):
        assert read_latencies(tmp_path / f"a.{suffix}", EDGES) == READ, suffix


@pytest.mark.parametrize(
    ("name", "text", "error", "told"),
    [
        ("a.json", None, InvalidOption, "latency=.*a.json is not a file"),
        ("a.csv", None, InvalidTable, "is not a file: expected latencies"),
        ("a.txt", "", InvalidTable, "is neither .parquet nor .csv: expected latencies of operations, or .json or"),
        ("a.json", "{", InvalidOption, "can not be read"),
        ("a.toml", "a = [", InvalidOption, "can not be read"),
        ("a.json", "[1]", InvalidOption, "is no table of operations for each edge"),
        ("a.json", '{"0->1": 3}', InvalidOption, "is no table of operations for each edge"),
        ("a.json", '{"0->1": {"none": 0, "conv": 1}}', InvalidOption, "has no latency of 'conv' on '0->2'; add it"),
        ("a.json", '{"0->3": {}}', UnknownName, "unknown edge in .* '0->3': did you mean"),
        ("a.json", '{"0->1": {"cnv": 1}}', UnknownName, "unknown operation of 0->1 in .* 'cnv': did you mean 'conv'"),
        ("a.json", '{"0->1": {"none": 0, "conv": -1}}', InvalidOption, "must be a number from 0, got -1"),
        ("a.json", '{"0->1": {"none": true, "conv": 1}}', InvalidOption, "must be a number from 0, got True"),
        ("a.json", '{"0->1": {"none": "x", "conv": 1}}', InvalidOption, "must be a number from 0, got 'x'"),
        ("a.csv", "edge,operation,ms\n0->1,conv,1\n", UnknownName, "unknown column of .* 'latency'"),
        ("a.csv", "edge,operation,latency\n0->1,conv,1\n0->1,conv,2\n", InvalidOption, "two latencies of 'conv'"),
        ("a.csv", "edge,operation,latency\n0->1,none,\n0->1,conv,2\n", InvalidOption, "a number from 0, got nan"),
    ],
)
def test_a_bad_file_is_told_in_one_line(
    tmp_path: Path, name: str, text: str | None, error: type[ArchgenError], told: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match=told) as raised:
        read_latencies(tmp_path / name, EDGES)
    assert "\n" not in str(raised.value)


def test_the_expected_latency_by_hand() -> None:
    p = {"a": torch.tensor([0.25, 0.75]), "b": torch.tensor([1.0])}
    latencies = {"a": torch.tensor([4.0, 8.0]), "b": torch.tensor([3.0])}
    assert float(expected_latency(p, latencies)) == 0.25 * 4 + 0.75 * 8 + 3
