"""Time: what a design is expected to take, and what fits into a limit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from archgen.data import load_data
from archgen.design import Design, DesignRequest
from archgen.design.plan import SLOWED, START, Costs, ask_seconds, epoch_seconds, like_a_finalist, timetable
from archgen.graph import Architecture
from archgen.predictors.counts import Count
from archgen.run_folder import RunFolder
from archgen.strategies import Generative

COSTS = Costs(export=0.3, measurement=0.2, epoch=2.0, evaluation=1.0, finetune_epoch=0.5)
REQUEST = DesignRequest("digits", "nasbench201", {}, budget=100, epochs=200, finetune_epochs=40, measured=40)
THREE = replace(REQUEST, finalists=3)


def test_stages_add_up() -> None:
    plan = timetable(THREE, COSTS)
    assert plan.seconds == {
        "latency": 20.0,
        "supernet": 400.0,
        "search": 100.0,
        "final": pytest.approx(3 * (20.0 + 0.5) + 0.3),
    }
    assert plan.total == pytest.approx(581.8)
    assert (plan.epochs, plan.budget, plan.finetune_epochs, plan.finetuned) == (200, 100, 40, 3)


def test_processes_export_and_fine_tune_at_the_same_time() -> None:
    plan = timetable(THREE, COSTS, processes=2)
    assert plan.seconds["latency"] == pytest.approx(START + 40 * (0.15 + 0.2))
    assert plan.seconds["final"] == pytest.approx(2 * 20.0 * SLOWED + START + 3 * 0.35 + 0.3)
    alone = timetable(REQUEST, COSTS, processes=2).seconds["final"]
    assert alone == pytest.approx(20.0 + START + 0.35 + 0.3), "a training is not shared"
    limited = replace(THREE, time_limit=100.0)
    assert timetable(limited, COSTS, processes=3).finetune_epochs > timetable(limited, COSTS).finetune_epochs


def test_memory_takes_exports_and_latencies_from_elsewhere_nothing() -> None:
    elsewhere = replace(REQUEST, latency="phone.csv")
    assert timetable(elsewhere, COSTS).seconds["latency"] == 0.0
    assert timetable(elsewhere, COSTS).seconds["final"] == pytest.approx(20.0 + 0.3)
    small = timetable(replace(elsewhere, minimize=("memory_mb",), networks=2), COSTS).seconds
    assert small["latency"] == pytest.approx(12.0)
    assert small["final"] == pytest.approx(2 * (20.0 + 2 * 0.3)), "checked, and handed over"


def test_a_generous_limit_changes_nothing() -> None:
    assert timetable(replace(THREE, time_limit=600.0), COSTS) == timetable(THREE, COSTS)


@pytest.mark.parametrize("limit", [60.0, 120.0, 300.0])
def test_a_limit_is_kept(limit: float) -> None:
    plan = timetable(replace(REQUEST, time_limit=limit), COSTS)
    assert plan.total <= limit
    assert plan.total > 0.7 * limit, "and used"
    assert 1 <= plan.epochs < 200
    assert 1 <= plan.budget <= 100


@pytest.mark.parametrize(("limit", "finalists", "epochs"), [(5000.0, 12, 40), (300.0, 4, 40), (60.0, 3, 7)])
def test_a_limit_lessens_finalists_before_their_epochs(limit: float, finalists: int, epochs: int) -> None:
    wanted = replace(REQUEST, finalists=12, time_limit=limit)
    plan = timetable(wanted, COSTS, processes=2)
    assert (plan.finetuned, plan.finetune_epochs) == (finalists, epochs)
    assert timetable(replace(wanted, finalists=2), COSTS, processes=2).finetuned == 2, "never more than asked for"
    assert timetable(replace(wanted, minimize=("params",), networks=4), COSTS, processes=2).finetuned == 4, "a set"


def test_a_short_limit_measures_fewer_latencies_but_enough_for_a_predictor() -> None:
    slow = replace(COSTS, export=3.8)
    assert timetable(replace(REQUEST, time_limit=300.0), slow).measured == 15, "a fifth of the time, 4 s each"
    short = timetable(replace(REQUEST, time_limit=100.0), slow)
    assert (short.measured, short.seconds["latency"]) == (12, pytest.approx(48.0))
    elsewhere = replace(REQUEST, latency="phone.csv", time_limit=100.0)
    assert timetable(elsewhere, slow).measured == REQUEST.measured, "costs nothing"


def test_an_epoch_is_timed_on_a_copy() -> None:
    data, network = load_data("digits", limit=200), nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert epoch_seconds(network, data) > 0
    assert epoch_seconds(network, data, teacher=network) > 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize(("minimize", "least", "most"), [((), 0.6, 0.9), (("latency_ms",), 0.35, 0.65)])
def test_fine_tuning_is_timed_with_a_network_of_the_size_of_a_finalist(
    tmp_path: Path, minimize: tuple[str, ...], least: float, most: float
) -> None:
    request = replace(REQUEST, minimize=minimize, networks=1 + len(minimize))
    design = Design(RunFolder(tmp_path, {"facts": {}, "seconds": {}}), request, load_data("digits", limit=200))
    others = design.space.sample(1000, np.random.default_rng(5))
    flops = Count(design.space, "flops", design.network).predict([like_a_finalist(design), *others]).mean
    assert least < (flops[1:] < flops[0]).mean() < most


def test_a_proposal_is_timed_with_half_of_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The results have a trade-off: what is accurate is slow."""
    asked: list[tuple[int, int]] = []
    told: list[dict[str, float]] = []
    real = Generative.ask

    def ask(strategy: Generative, n: int) -> list[Architecture]:
        asked.append((len(strategy.trials), n))
        told[:] = [dict(trial.values) for trial in strategy.trials]
        return real(strategy, n)

    monkeypatch.setattr(Generative, "ask", ask)
    request = replace(REQUEST, budget=60, batch=4, minimize=("latency_ms",))
    design = Design(RunFolder(tmp_path, {"facts": {}, "seconds": {}}), request, load_data("digits", limit=200))
    assert ask_seconds(design) > 0
    assert asked == [(30, 4), (34, 4)]
    values = np.array([[each["val_acc"], each["latency_ms"]] for each in told])
    assert np.corrcoef(values.T)[0, 1] > 0.6
    assert (values >= 0).all()


def test_even_an_impossible_limit_leaves_a_little_of_everything() -> None:
    plan = timetable(replace(REQUEST, time_limit=1.0), COSTS)
    assert (plan.epochs, plan.budget, plan.finetune_epochs) == (1, 1, 1)
