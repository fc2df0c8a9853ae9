"""The command as its users run it, and what several commands work on: tables, runs, checkpoints, full disks."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest
import torch

from archgen import artifacts, cli, config, pretrain
from archgen.design.latency import MeasuredHere
from archgen.generators import GENERATORS
from archgen.graph import Architecture
from archgen.hardware import LatencyMeasurement
from archgen.predictors import load_predictor
from archgen.predictors.counts import Count
from archgen.pretrain_predictor import checkpoint_name, pretrain_predictor
from archgen.spaces import CellSpace, SearchSpace

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def run() -> Run:
    """Run the command in this process, as its entry point does."""

    def run(*arguments: object) -> CompletedProcess[str]:
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            warnings.catch_warnings(),  # the entry point sets its own filters
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.setattr(sys, "argv", ["archgen", *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        assert isinstance(ended.value.code, int)
        return CompletedProcess(arguments, ended.value.code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def images(workplace: Path) -> Callable[[str, float], str]:
    """Makes a file of images of two classes around a level of grey, and gives its name."""

    def make(path: str, level: float) -> str:
        rng, labels = np.random.default_rng(0), np.tile([0, 1], 30)
        x = np.clip(level + 0.1 * rng.standard_normal((60, 8, 8)) + 0.1 * labels[:, None, None], 0, 1) * 255
        x = x.astype(np.uint8)
        np.savez(workplace / path, x_train=x[:40], y_train=labels[:40], x_test=x[40:], y_test=labels[40:])
        return path

    return make


@pytest.fixture(scope="session")
def succeeds(run: Run) -> Run:
    """Run a command that must end with status 0."""

    def succeeds(*arguments: object) -> CompletedProcess[str]:
        outcome = run(*arguments)
        assert outcome.returncode == 0, outcome.stderr
        return outcome

    return succeeds


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes | None]]:
    """Everything that is in a folder."""

    def contents(folder: Path) -> dict[str, bytes | None]:
        return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}

    return contents


@pytest.fixture(scope="session")
def refused(run: Run, contents: Callable[[Path], dict[str, bytes | None]]) -> Callable[..., str]:
    """The one line of a command that must fail without touching the working folder; `notes` may come before it."""

    def refused(*arguments: object, notes: int = 0) -> str:
        before = contents(Path())
        outcome = run(*arguments)
        assert outcome.returncode == 2, outcome
        assert outcome.stdout == ""
        lines = outcome.stderr.splitlines()
        assert len(lines) == notes + 1, outcome.stderr
        assert lines[-1].startswith("archgen: ")
        assert "Traceback" not in outcome.stderr
        assert contents(Path()) == before, "a refused command left something behind"
        return lines[-1]

    return refused


# -- tables


@pytest.fixture(scope="session")
def table(space: SearchSpace) -> pd.DataFrame:
    """60 architectures with an accuracy that follows from their convolutions and a latency."""
    archs = list(dict.fromkeys(space.sample(80, np.random.default_rng(0))))[:60]
    counts = np.array([sum(op.startswith("nor_conv") for op in arch.ops) for arch in archs])
    noise = np.random.default_rng(1).uniform(0, 0.5, 60)
    texts = [space.format(arch) for arch in archs]
    return pd.DataFrame({"arch": texts, "acc": 60 + 5 * counts + noise, "lat": 1.0 + counts, "index": range(60)})


@pytest.fixture
def listed(table: pd.DataFrame, workplace: Path) -> Path:
    table.to_parquet("table.parquet", index=False)
    return Path("table.parquet")


# -- a finished design


def pretended(self: MeasuredHere, archs: list[Architecture]) -> list[LatencyMeasurement]:
    """A latency that follows from the FLOPs: measuring is tested elsewhere, and exports take their time."""
    self.meter.reference_ms = 1.0
    flops = [self.space.count(self.space.simplify(arch), **self.arguments)["flops"] for arch in archs]
    return [LatencyMeasurement(f * 1e-6, f * 0.9e-6, f * 1.1e-6, 0.0, 1) for f in flops]


@pytest.fixture
def pretended_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MeasuredHere, "measure", pretended)


@pytest.fixture(scope="session")
def small() -> list[object]:
    """Arguments of a design that takes seconds."""
    sizes = {"budget": 3, "epochs": 2, "finetune-epochs": 1, "measured": 12, "limit": 200}
    own = ["--network", "cells=1", "--network", "channels=4", "--at-most", "latency_ms=0.2"]
    return ["design", *own, *(a for k, v in sizes.items() for a in (f"--{k}", v))]


@pytest.fixture(scope="session")
def finished(
    small: list[object], succeeds: Run, tmp_path_factory: pytest.TempPathFactory
) -> tuple[CompletedProcess[str], Path]:
    """What `archgen design` says, and its folder."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeasuredHere, "measure", pretended)
        return succeeds(*small, "--out", folder), folder


# -- a space of one's own


@pytest.fixture
def own_space(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A TOML file of a space of 27 cells, one operation of which is imported from a file beside it; no checkpoints."""
    monkeypatch.setenv("ARCHGEN_CHECKPOINTS", str(workplace / "checkpoints"))
    return Path(__file__).parents[1] / "spaces" / "fixtures" / "my_cells.toml"


# -- checkpoints


@pytest.fixture
def checkpoints(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the committed generator that may be damaged."""
    name = "nasbench201-discrete_flow"
    folder = workplace / "checkpoints" / "generators" / name
    shutil.copytree(config.checkpoints_dir() / "generators" / name, folder)
    monkeypatch.setenv("ARCHGEN_CHECKPOINTS", str(workplace / "checkpoints"))
    return folder


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])


def _no_tensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"hello")


def _half_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"kind": "gen')


def _another_kind(folder: Path) -> None:
    header = json.loads((folder / "config.json").read_text())
    artifacts.write_json(folder / "config.json", {**header, "kind": "predictor"})


def _other_weights(folder: Path) -> None:
    artifacts.write_tensors(folder / "model.safetensors", {"w": torch.zeros(3)})


def _another_space(folder: Path) -> None:
    roles = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted"}
    other = CellSpace("small", 3, roles, {"cells": 1, "channels": 4, "classes": 2, "in_channels": 1, "image_size": 8})
    GENERATORS["discrete_flow"](other.node_domain, other.edge_domain).save("discrete_flow", folder, {}, "card")  # type: ignore[call-arg]


@pytest.fixture(
    params=[_truncate, _no_tensors, _half_config, _another_kind, _other_weights, _another_space, shutil.rmtree],
    ids=lambda damage: damage.__name__.strip("_"),
)
def damaged(request: pytest.FixtureRequest, checkpoints: Path) -> Path:
    """A generator's checkpoint that is truncated, foreign or gone."""
    request.param(checkpoints)
    return checkpoints


@pytest.fixture
def quick_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """`archgen train generator` on a pool of 40 architectures, with tiny networks and without the card's samples."""
    tiny = {"width": 8, "layers": 1, "heads": 2}
    monkeypatch.setattr(pretrain, "LISTED", 0)
    monkeypatch.setattr(pretrain, "make_pool", partial(pretrain.make_pool, size=40))
    monkeypatch.setattr(pretrain, "pretrain_generator", partial(pretrain.pretrain_generator, batch_size=8, **tiny))
    monkeypatch.setattr(pretrain, "distil", partial(pretrain.distil, samples=64, batch_size=8, width=8, components=4))
    figures = {"valid_raw": 100.0, "valid": 100.0, "unique": 90.0}
    monkeypatch.setattr(pretrain, "_sample_figures", lambda space, generator: figures)


@pytest.fixture(scope="session")
def _trained(space: SearchSpace, table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of a predictor of `acc@phone` and of a tiny generator that takes a condition on it."""
    root = tmp_path_factory.mktemp("trained")
    archs, y = [space.parse(text) for text in table["arch"]], table["acc"].to_numpy()
    folder = root / "predictors" / checkpoint_name(space, "acc@phone")
    pretrain_predictor(space, archs, y, folder, metric="acc@phone", labels=40, source="a test", command="none")
    predictors = {"params": Count(space, "params"), "acc@phone": load_predictor(folder, space)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "LISTED", 0)
        patch.setattr(pretrain, "_sample_figures", lambda *_: {"valid_raw": 100.0, "valid": 100.0, "unique": 90.0})
        pretrain.pretrain_generator(
            space,
            root / "generators" / "nasbench201-discrete_flow",
            pool=pretrain.make_pool(space, predictors, size=60),
            steps=2,
            batch_size=8,
            width=8,
            layers=1,
            heads=2,
        )
    return root


@pytest.fixture
def trained(_trained: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Checkpoints of the test's own: a predictor of `acc@phone`, a tiny generator conditioned on it and on `params`."""
    root = workplace / "checkpoints"
    shutil.copytree(_trained, root)
    monkeypatch.setenv("ARCHGEN_CHECKPOINTS", str(root))
    return root
