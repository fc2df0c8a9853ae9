"""`archgen latency blocks`, and `latency fit|evaluate --blocks`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

from archgen import spaces
from archgen.hardware import OnnxLatency, Timing, base
from archgen.predictors import BlockTable, load_predictor

Run = Callable[..., CompletedProcess[str]]
BLOCKS = ("latency", "blocks", "--space", "nasbench_macro", "--out", "b.parquet")


class Device:
    """Whose blocks take 1 ms for ten thousand parameters, beside .5 ms a call; it may be interrupted."""

    stop_after = 99

    def load(self, network: nn.Module) -> Callable[[object], Callable[[], float]]:
        return lambda inputs: lambda: 0.5 + sum(p.numel() for p in network.parameters()) * 1e-4

    def interleaved(self, runs: Sequence[Callable[[], float]], reference: Callable[[], float], **_: Any) -> Timing:
        self.stop_after -= 1
        if self.stop_after < 0:
            raise KeyboardInterrupt
        return Timing(np.array([[run() for run in runs]] * 9), np.full(9, reference()), (1,) * len(runs))


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()
    monkeypatch.setattr(base, "interleaved", device.interleaved)
    monkeypatch.setattr(OnnxLatency, "load", lambda self, network: device.load(network))
    return device


def networks(path: str) -> pd.DataFrame:
    """30 networks that take twice what their blocks take."""
    space = spaces.load("nasbench_macro")
    archs = list(dict.fromkeys(space.sample(40, np.random.default_rng(0))))[:30]
    ms = [1 + 2e-4 * space.count(arch)["params"] for arch in archs]
    frame = pd.DataFrame({"arch": [space.format(arch) for arch in archs], "phone": ms})
    frame.to_parquet(path)
    return frame


def test_blocks_are_measured_go_on_after_an_interrupt_and_make_a_predictor(device: Device, run: Run) -> None:
    device.stop_after = 1
    stopped = run(*BLOCKS)
    assert stopped.returncode == 130
    assert "nasbench_macro has 17 different blocks, of which 0 are measured" in stopped.stderr
    assert "interrupted; b.parquet holds 15 of 17 blocks; go on with the same command" in stopped.stderr
    device.stop_after = 99
    outcome = run(*BLOCKS)
    assert outcome.returncode == 0, outcome.stderr
    assert "2 measured; 17 of 17 blocks in b.parquet" in outcome.stdout
    assert "calling the runtime takes 0.5000 ms" in outcome.stdout

    frame = networks("n.parquet")
    fit = ("--space", "nasbench_macro", "--table", "n.parquet", "--target", "phone", "--blocks", "b.parquet")
    made = run("latency", "fit", *fit, "--out", "mine")
    assert made.returncode == 0, made.stderr
    space = spaces.load("nasbench_macro")
    predictor = load_predictor(Path("mine"), space)
    assert isinstance(predictor, BlockTable)
    archs = [space.parse(text) for text in frame["arch"]]
    assert predictor.predict(archs).mean == pytest.approx(frame["phone"].to_numpy())
    plain = run("latency", "fit", "--space", "nasbench_macro", "--blocks", "b.parquet", "--out", "sums")
    assert plain.returncode == 0, plain.stderr
    sums = load_predictor(Path("sums"), space).predict(archs)
    assert sums.mean == pytest.approx(0.5 + (frame["phone"].to_numpy() - 1) / 2)
    assert np.isnan(sums.std).all()
    judged = run("latency", "evaluate", *fit, "-n", 5, "--json")
    assert json.loads(judged.stdout)["spearman_rho"] == pytest.approx(1.0)


def test_published_tables_are_read_too(run: Run) -> None:
    networks("n.parquet")
    row = "MBConv-input:16x16x64-output:16x16x64-expand:3-kernel:3-stride:1-idskip:1-se:0"
    pd.DataFrame({"block": [row], "mean_ms": [1.0]}).to_csv("p.csv")
    fit = ("--space", "nasbench_macro", "--table", "n.parquet", "--target", "phone", "--blocks", "p.csv")
    outcome = run("latency", "evaluate", *fit, "-n", 5)
    assert outcome.returncode == 2
    assert "the table has no block 'stem 3 32 @ 3x32x32'; measure it" in outcome.stderr


def test_what_does_not_go_together_is_refused(refused: Callable[..., str]) -> None:
    networks("n.parquet")
    fit = ("latency", "fit", "--space", "nasbench_macro", "--table", "n.parquet", "--target", "phone", "--out", "mine")
    assert "is not a file: expected a table of blocks" in refused(*fit, "--blocks", "absent.parquet")
    assert "--simplified have no use there" in refused(*fit, "--blocks", "b.parquet", "--simplified")
    assert "or --blocks alone for plain sums" in refused(*fit[:4], "--out", "mine")
    assert "or --blocks alone for plain sums" in refused(
        *fit[:4], "--out", "mine", "--blocks", "b.csv", "--target", "x"
    )
    assert "--network is for --blocks" in refused(*fit, "--network", "width_percent=120")
    assert "no chain of blocks" in refused("latency", "blocks", "--space", "nasbench201", "--out", "b.parquet")
