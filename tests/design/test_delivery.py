"""The end of a design: of several finalists the one that fine-tuning makes the best is handed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

from archgen.design import DesignRequest, delivery, design, tuners
from archgen.design.choosing import JOINED, ranked
from archgen.hardware import LatencyMeasurement, Timing, base, onnx_latency
from archgen.objectives import maximize, minimize
from archgen.spaces import SearchSpace
from archgen.study import Trial

REQUEST = DesignRequest(
    "digits",
    "nasbench201",
    {},
    budget=6,
    epochs=2,
    finetune_epochs=1,
    finalists=3,
    measured=12,
    limit=200,
    network={"cells": 1, "channels": 4},
    runtime="torch",  # needs no export to measure
)


def test_under_a_time_limit_finalists_share_all_that_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be it more than what was planned: 1,000 seconds allow all epochs, but few were planned."""
    real, shares = tuners.finetune, []

    def finetune(*given: Any) -> Any:
        shares.append(given[3:])
        return real(*given[:3], 1)

    monkeypatch.setattr(tuners, "finetune", finetune)
    request = replace(REQUEST, finetune_epochs=10**6, time_limit=1000.0)
    result = design(request, tmp_path / "run")
    assert result["plan"]["finetune_epochs"] < 10**6
    assert [epochs for epochs, _ in shares] == [10**6] * 3
    assert [seconds for _, seconds in shares] == pytest.approx([300, 450, 900], rel=0.3)


def test_the_finalist_of_the_best_validation_accuracy_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tuned = tuners.finetune, []

    def finetune(*given: Any) -> Any:
        network, _ = real(*given)
        tuned.append(given[2].arch)
        return network, (50.0, 70.0, 70.0)[len(tuned) - 1]

    monkeypatch.setattr(tuners, "finetune", finetune)
    result = design(REQUEST, tmp_path / "run")
    finalists = result["finalists"]
    assert [each["val_acc"] for each in finalists] == [50.0, 70.0, 70.0]
    assert result["winner"]["arch"] == finalists[1]["arch"], "of equal ones the more promising"
    assert result["winner"]["val_acc"] == 70.0
    assert result["winner"]["inherited_val_acc"] == finalists[1]["inherited_val_acc"]
    assert len(result["networks"]) == 1
    assert not (tmp_path / "run" / "network2.onnx").exists()
    trials = pd.read_parquet(tmp_path / "run" / "trials.parquet")
    assert set(JOINED) <= set(trials.columns), "single paths are trained"
    metrics = [str(c) for c in trials.columns if c not in ("trial", "arch", "cost_seconds", "state")]
    rows = [
        Trial(i, tuned[0], {m: float(row[m]) for m in metrics if pd.notna(row[m])}, 0.0)
        for i, (_, row) in enumerate(trials.iterrows())
    ]
    order = [t.number for t in ranked(rows)]
    assert [each["inherited_val_acc"] for each in finalists] == [trials["val_acc"][i] for i in order[:3]]


@pytest.mark.parametrize(
    ("accuracies", "latencies", "params", "delivered"),
    [
        ([50.0, 70.0, 70.0], None, None, [1]),
        ([72.0, 74.0, 73.0, 71.0], [0.6, 0.3, 0.25, 0.2], None, [1, 2, 3]),
        ([74.0, 73.0, 74.5], [0.3, 0.2, 0.3], None, [2, 1]),
        ([74.0, 73.0, 74.5], [0.3, 0.2, 0.3], [5.0, 9.0, 6.0], [2, 0, 1]),
    ],
)
def test_what_another_one_beats_after_fine_tuning_is_not_delivered(
    space: SearchSpace,
    accuracies: list[float],
    latencies: list[float] | None,
    params: list[float] | None,
    delivered: list[int],
) -> None:
    arch = space.sample(1, np.random.default_rng(0))[0]
    directions = [maximize("val_acc")]
    directions += [minimize(m) for m, given in (("latency_ms", latencies), ("params", params)) if given is not None]
    tuned = []
    for i, val_acc in enumerate(accuracies):
        ms = 1.0 if latencies is None else latencies[i]
        known = {"val_acc": 99.0 - i, "latency_ms": 9.0, "params": 1.0 if params is None else params[i]}
        measured = LatencyMeasurement(ms, ms, ms, 0.0, 1)
        tuned.append(delivery.Tuned(Trial(i, arch, known, 0.0), measured, nn.Identity(), val_acc))
    assert [each.trial.number for each in delivery._delivered(tuned, directions)] == delivered


def test_eight_bits_are_timed_for_the_speed_that_all_latencies_are_given_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is twice as fast once the predictor is measured; the i-th network takes 1 + i / 100 ms before."""
    speeds = []

    def interleaved(runs: Sequence[Any], *given: Any, rounds: int, **options: Any) -> Timing:
        speeds.append(0.5 if speeds else 1.0)
        times = speeds[-1] * (1 + np.arange(len(runs)) / 100)
        return Timing(np.tile(times, (rounds, 1)), np.full(rounds, speeds[-1]), (1,) * len(runs))

    monkeypatch.setattr(base, "interleaved", interleaved)
    monkeypatch.setattr(onnx_latency, "interleaved", interleaved)
    result = design(replace(REQUEST, finalists=1, runtime="onnxruntime"), tmp_path / "run")
    assert result["reference"] == {"then_ms": 1.0, "now_ms": 0.5}
    assert result["winner"]["latency_ms"] == pytest.approx(1.0)
    assert result["winner"]["int8"]["float_latency_ms"] == pytest.approx(1.0)
    assert result["winner"]["int8"]["latency_ms"] == pytest.approx(1.01)
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "2.00 times as fast" in text
