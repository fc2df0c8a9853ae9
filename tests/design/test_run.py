"""What is refused before there is a folder, and what an earlier one is gone on with by."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from archgen import artifacts, config
from archgen.design import DesignRequest, design, load, run
from archgen.design.pipeline import SUPERNET, Design
from archgen.errors import (
    ArchgenError,
    Infeasible,
    InvalidCheckpoint,
    InvalidData,
    InvalidObjective,
    InvalidTable,
    RunConflict,
    UnknownMetric,
    UnknownName,
)
from archgen.run_folder import RunFolder

REQUEST = DesignRequest("digits", "nasbench201", {}, network={"cells": 1, "channels": 4}, limit=200)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"space": "nasbench202"}, UnknownName, "unknown search space 'nasbench202': did you mean 'nasbench201'"),
        ({"strategy": "bayess"}, UnknownName, "unknown search strategy 'bayess': did you mean 'bayes'"),
        ({"data": "nowhere.npz"}, InvalidData, r"'nowhere\.npz' does not exist"),
        ({"limit": 3}, InvalidData, "--limit 3 is too small"),
        ({"resize": 4}, InvalidData, "--resize must be 8 to 1024 pixels, got 4"),
        ({"network": {"cell": 1}}, UnknownName, "unknown argument of the network 'cell': did you mean 'cells'"),
        ({"minimize": ("size",)}, UnknownMetric, "unknown metric 'size'"),
        ({"runtime": "tvm"}, UnknownName, "unknown runtime 'tvm'"),
        ({"latency": "phone.csv"}, InvalidTable, r"phone\.csv is not a file"),
        ({"strategy": "evolution", "minimize": ("params",)}, InvalidObjective, "expected one metric to maximize"),
    ],
)
def test_a_request_that_can_not_be_served_leaves_no_folder(
    tmp_path: Path, changes: dict[str, Any], error: type[ArchgenError], message: str
) -> None:
    with pytest.raises(error, match=message):
        design(replace(REQUEST, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_damaged_generator_is_refused_before_anything_is_measured_or_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = tmp_path / "checkpoints"
    shutil.copytree(config.checkpoints_dir() / "generators", checkpoints / "generators")
    weights = checkpoints / "generators" / "nasbench201-discrete_flow" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    monkeypatch.setenv("ARCHGEN_CHECKPOINTS", str(checkpoints))
    with pytest.raises(InvalidCheckpoint, match=r"model\.safetensors is not a whole safetensors file"):
        design(REQUEST, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_images_are_those_of_the_request() -> None:
    data = load(replace(REQUEST, resize=12, limit=120))
    assert data.image_size == 12
    assert len(data.train) + len(data.validation) + len(data.test) == 120


def test_a_finished_run_is_read_without_its_images(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", asdict(replace(REQUEST, data="moved.npz")))
    artifacts.write_json(folder.file("result.json"), {"winner": "known"})
    assert design(None, folder.path, resume=True) == {"winner": "known"}


def test_a_request_of_another_version_is_refused(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", {**asdict(REQUEST), "cells": 1})
    with pytest.raises(RunConflict, match=r"made by another version of archgen \(.*'cells'\); start a new run"):
        design(None, tmp_path / "run", resume=True)


@pytest.mark.parametrize("trained", [False, True])
def test_asking_too_much_leaves_a_folder_only_with_what_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: bool
) -> None:
    def infeasible(self: Design) -> dict[str, Any]:
        if trained:
            self.folder.file(SUPERNET).write_bytes(b"weights")
        raise Infeasible("too much")

    monkeypatch.setattr(run.Design, "run", infeasible)
    with pytest.raises(Infeasible, match="too much"):
        design(REQUEST, tmp_path / "run")
    assert (tmp_path / "run").exists() == trained


@pytest.mark.parametrize("kind", ["empty folder", "link", "here", "written to meanwhile"])
def test_asking_too_much_takes_nothing_but_the_runs_own_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    folder = out = tmp_path / "run"
    if kind != "written to meanwhile":
        folder.mkdir()
    if kind == "link":
        out = tmp_path / "link"
        out.symlink_to(folder)
    if kind == "here":
        monkeypatch.chdir(folder)
        out = Path()

    def infeasible(self: Design) -> dict[str, Any]:
        self.folder.file("latency.parquet").write_bytes(b"table")
        if kind == "written to meanwhile":
            self.folder.file("thesis.txt").write_text("years of work")
        raise Infeasible("too much")

    monkeypatch.setattr(run.Design, "run", infeasible)
    for _ in range(1 if kind == "written to meanwhile" else 2):  # the same command with another bound works
        with pytest.raises(Infeasible, match="too much"):
            design(REQUEST, out)
        assert [path.name for path in folder.iterdir()] == ["thesis.txt"] * (kind == "written to meanwhile")
    assert out.exists()
