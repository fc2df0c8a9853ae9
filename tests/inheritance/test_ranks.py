"""How well inherited accuracies rank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata

from archgen.inheritance import SupernetRequest, rank, train_in_folder
from archgen.progress import Progress
from archgen.proxies import Synflow

REQUEST = SupernetRequest("nasbench201", "digits", network={"cells": 1, "channels": 4}, epochs=2, limit=200, seed=3)


def test_ranks_are_scipys_of_the_inherited_accuracies(tmp_path: Path) -> None:
    trained = train_in_folder(REQUEST, tmp_path / "whole")
    archs = trained.space.sample(30, np.random.default_rng(0))
    inherited = [m.values["val_acc"] for m in trained.evaluator.evaluate(archs, seed=0)]
    found = rank(trained, archs, np.array(inherited), Progress())
    assert found["val_acc"] == inherited
    assert found["kendall_tau"] == pytest.approx(1.0)
    assert found["kendall_tau_top"] is None or found["kendall_tau_top"] == pytest.approx(1.0)
    assert rank(trained, archs, -np.array(inherited), Progress())["spearman_rho"] == pytest.approx(-1.0)
    assert found["n"] == 30
    assert 0 < found["seconds"] < 5
    equal = rank(trained, archs[:1] * 3, np.arange(3.0), Progress())
    assert (equal["kendall_tau"], equal["kendall_tau_top"]) == (None, None)


def test_proxies_of_the_inherited_weights_join_in(tmp_path: Path) -> None:
    trained = train_in_folder(REQUEST, tmp_path / "whole")
    archs = trained.space.sample(20, np.random.default_rng(0))
    rows = [m.values for m in trained.evaluator_with([Synflow()]).evaluate(archs, seed=0)]
    columns = [[-row["val_loss"] for row in rows], [row.get("synflow", -np.inf) for row in rows]]
    score = sum(np.log(rankdata(column)) for column in columns)
    found = rank(trained, archs, score, Progress(), [Synflow()])
    assert found["kendall_tau_joined"] == pytest.approx(1.0, abs=0.02), "but for ties that rounding breaks"
    assert found["joined"] == pytest.approx((score - 2 * np.log(20)).tolist())
    assert found["kendall_tau"] < 1
