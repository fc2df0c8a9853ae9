"""Designs of other kinds than the plain one: Pareto sets, other spaces and devices, a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
import pandas as pd
import pytest
import torch

from archgen import spaces
from archgen.data import load_data
from archgen.design import Design, DesignRequest, design, pipeline
from archgen.design.latency import spread
from archgen.design.plan import Costs, Timetable
from archgen.errors import ArchgenError, UnknownName
from archgen.evaluators import Cluster, Parallel, SupernetEvaluator
from archgen.export import check_onnx, load_network
from archgen.generators import DiscreteFlow
from archgen.metrics import pareto_front
from archgen.peak_memory import file_memory_mb
from archgen.progress import Progress
from archgen.run_folder import RunFolder
from archgen.supernets import Supernet

OWN = Path(__file__).parents[1] / "spaces" / "fixtures" / "my_cells.toml"
REQUEST = DesignRequest(
    "digits", "nasbench201", {}, budget=8, epochs=2, finetune_epochs=1, measured=12, limit=200, networks=3
)


class Noted(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def phone(folder: Path, name: str, arguments: dict[str, int]) -> str:
    """A table of a device that takes a millisecond a MFLOP."""
    space = spaces.for_images(name, 8)
    archs = spread(space, 16, arguments, 5)
    rows = [{"arch": space.format(a), "latency_ms": space.count(a, **arguments)["flops"] / 1e6} for a in archs]
    path = folder / "phone.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return str(path)


def images_of(arguments: dict[str, int]) -> dict[str, int]:
    return {**arguments, "classes": 10, "in_channels": 1, "image_size": 8}


def test_a_long_search_is_shared_by_processes_and_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"cells": 1, "channels": 4}
    device = phone(tmp_path, "nasbench201", images_of(arguments))
    request = replace(REQUEST, batch=2, network=arguments, latency=device)
    started: list[int] = []

    class Counted(Parallel):
        def __init__(self, *arguments: Any, workers: int, **others: Any) -> None:
            started.append(workers)
            super().__init__(*arguments, workers=workers, **others)

    monkeypatch.setattr(pipeline, "Parallel", Counted)
    found = []
    for long, processes in ((60.0, 8), (0.0, 8), (0.0, 1)):
        monkeypatch.setattr(pipeline, "LONG", long)
        monkeypatch.setattr(pipeline, "deliver", stop)
        with pytest.raises(KeyboardInterrupt):
            design(request, tmp_path / f"{long}-{processes}", processes=processes)
        trials = pd.read_parquet(tmp_path / f"{long}-{processes}" / "trials.parquet")
        found.append(trials.drop(columns="cost_seconds"))
    assert started == [request.batch], "not for a short search, nor in one process, and no more than a batch has"
    pd.testing.assert_frame_equal(found[0], found[1])
    pd.testing.assert_frame_equal(found[0], found[2])


def stop(*_: Any) -> Any:
    raise KeyboardInterrupt


def test_a_pareto_set_of_networks_on_a_device_elsewhere(tmp_path: Path) -> None:
    arguments = {"cells": 1, "channels": 4}
    request = replace(
        REQUEST,
        minimize=("latency_ms",),
        at_most={"params": 8000.0},
        at_most_percent={"flops": 60.0},
        network=arguments,
        latency=phone(tmp_path, "nasbench201", images_of(arguments)),
    )
    result = design(request, tmp_path / "run")
    networks = result["networks"]
    assert networks[0] == result["winner"]
    assert [n["files"] for n in networks] == ["best", "network2", "network3"][: len(networks)]
    trials = pd.read_parquet(tmp_path / "run" / "trials.parquet")
    assert (trials["params"] <= 8000).all()
    _, flops = result["constraints"]
    assert (flops["metric"], flops["percent"], flops["met"]) == ("flops", 60.0, True)
    assert (trials["flops"] <= flops["bound"]).all()
    report = (tmp_path / "run" / "report.html").read_text()
    assert "(60\u00a0% of random architectures meet it)" in report
    front = trials.iloc[pareto_front(trials[["val_acc", "latency_ms"]], (1, -1))]
    assert {n["inherited_val_acc"] for n in result["finalists"]} <= set(front["val_acc"])
    assert {n["arch"] for n in networks} <= {n["arch"] for n in result["finalists"]}
    tuned, latency = ([n[m] for n in networks] for m in ("val_acc", "latency_ms"))
    assert tuned == sorted(tuned, reverse=True)
    assert latency == sorted(latency, reverse=True), "of a front, the less accurate is faster"
    images = load_data("digits", limit=200).test.images
    for network in networks:
        built, facts = load_network(tmp_path / "run" / f"{network['files']}.json")
        assert facts["arch"] == network["arch"]
        assert check_onnx(built, tmp_path / "run" / f"{network['files']}.onnx", images) < 1e-4
    assert result["device"] == {"measurements": "phone.csv", "architectures": 16}
    assert not (tmp_path / "run" / "latency.parquet").exists(), "nothing is measured here"


@pytest.mark.parametrize(
    ("space", "arguments", "built", "strategy"),
    [
        ("mobilenetv3", {"width_percent": 10}, "mobilenetv3@8", "generative"),
        (str(OWN), {"channels": 4}, "my_cells", "bayes"),
    ],
)
def test_other_spaces(tmp_path: Path, space: str, arguments: dict[str, int], built: str, strategy: str) -> None:
    request = replace(
        REQUEST,
        space=space,
        network=arguments,
        budget=3,
        epochs=1,
        limit=150,
        latency=phone(tmp_path, space, images_of(arguments)),
    )
    result = design(request, tmp_path / "run")
    assert (result["space"], result["strategy"]) == (built, strategy)
    assert result["evaluations"] == 3
    network, _ = load_network(tmp_path / "run" / "best.json", spaces.for_images(space, 8))
    images = load_data("digits", limit=150).test.images
    assert check_onnx(network, tmp_path / "run" / "best.onnx", images) < 1e-4


def test_a_space_of_ones_own_is_searched_by_a_generator_of_ones_own(tmp_path: Path) -> None:
    space, arguments = spaces.load(str(OWN)), {"channels": 4}
    folder = tmp_path / "my_generator"
    flow = DiscreteFlow(space.node_domain, space.edge_domain, width=8, layers=1, heads=2)
    flow.save("discrete_flow", folder, {}, "# card\n")
    request = replace(
        REQUEST,
        space=str(OWN),
        generator=str(folder),
        network=arguments,
        epochs=1,
        limit=150,
        latency=phone(tmp_path, str(OWN), images_of(arguments)),
    )
    result = design(request, tmp_path / "run")
    assert (result["strategy"], result["evaluations"]) == ("generative", 8)
    assert RunFolder.open(tmp_path / "run").state["request"]["generator"] == str(folder), "kept for a resume"
    with pytest.raises(UnknownName, match="unknown generator 'nowhere'"):
        design(replace(request, generator="nowhere"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_memory_is_exact_of_what_is_chosen_and_each_network_has_its_constraints(tmp_path: Path) -> None:
    arguments = {"cells": 1, "channels": 4}
    table = phone(tmp_path, "nasbench201", images_of(arguments))
    request = replace(REQUEST, at_most={"memory_mb": 50.0}, minimize=("latency_ms",), network=arguments, latency=table)
    result = design(replace(request, networks=2, budget=4), tmp_path / "run")
    for network in result["networks"]:
        (constraint,) = network["constraints"]
        assert constraint["value"] == file_memory_mb(tmp_path / "run" / f"{network['files']}.onnx")
        assert constraint["met"]
    assert result["constraints"] == result["winner"]["constraints"]
    job = Design(RunFolder.open(tmp_path / "run"), request, load_data("digits", limit=200))
    archs = [job.space.parse(network["arch"]) for network in result["networks"]]
    assert job.memory(archs) == [network["memory_mb"] for network in result["networks"]]


def test_a_time_limit_cuts_training_and_search_and_says_so(tmp_path: Path) -> None:
    arguments, said = {"cells": 1, "channels": 4}, Noted()
    request = replace(
        REQUEST,
        epochs=100_000,
        budget=100_000,
        finetune_epochs=100_000,
        network=arguments,
        latency=phone(tmp_path, "nasbench201", images_of(arguments)),
        time_limit=12.0,
    )
    start = time.perf_counter()
    result = design(request, tmp_path / "run", progress=said)
    assert result["plan"]["epochs"] < 100_000
    assert result["evaluations"] < 100_000
    assert any(line.startswith("this will take about") for line in said.lines)
    assert any(line.startswith("the time limit allows") for line in said.lines)
    assert time.perf_counter() - start < 120, "ten times the limit: only what never ends is a failure"


@pytest.mark.parametrize(
    ("planned", "said"),
    [
        (
            Timetable(2, 8, 1, 12, 1, dict.fromkeys(pipeline.STAGES, 30.0)),
            "the least that can be done takes about",
        ),
        (Timetable(2, 8, 1, 12, 1, dict.fromkeys(pipeline.STAGES, 1.0)), "the time limit allows 12 latencies"),
        (
            Timetable(2, 8, 1, 13, 1, dict.fromkeys(pipeline.STAGES, 1.0)),
            "the time limit allows 1 epochs of fine-tuning",
        ),
    ],
)
def test_whatever_a_time_limit_cuts_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planned: Timetable, said: str
) -> None:
    monkeypatch.setattr(pipeline, "probe", lambda *given: Costs(0.1, 0.0, 0.01, 0.1, 0.1))
    monkeypatch.setattr(pipeline, "timetable", lambda *given: planned)
    request = replace(REQUEST, measured=13, finetune_epochs=2 if "fine" in said else 1, time_limit=10.0)
    noted, folder = Noted(), RunFolder(tmp_path, {"facts": {}, "seconds": {}})
    job = Design(folder, request, load_data("digits", limit=200), noted, since=time.monotonic() - 4)
    assert job.left == pytest.approx(6, abs=3), "from the beginning of `design`"
    job.plan()
    assert any(line.startswith(said) for line in noted.lines)


def test_training_that_is_slower_than_planned_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, said = {"cells": 1, "channels": 4}, Noted()
    real, epochs = pipeline.train_supernet, []

    def slow(*args: Any, on_epoch: Any, **options: Any) -> None:
        def late(epoch: int, losses: dict[str, float]) -> None:
            epochs.append(epoch)
            time.sleep(0.5)
            on_epoch(epoch, losses)

        real(*args, on_epoch=late, **options)

    monkeypatch.setattr(pipeline, "train_supernet", slow)
    monkeypatch.setattr(pipeline, "probe", lambda *given: Costs(0.1, 0.0, 0.01, 0.1, 0.1))  # on a machine of any speed
    request = replace(
        REQUEST,
        epochs=1000,
        network=arguments,
        latency=phone(tmp_path, "nasbench201", images_of(arguments)),
        time_limit=6.0,
    )
    evaluated: list[dict[str, torch.Tensor]] = []
    real_evaluator = Design.evaluator

    def evaluator(self: Design, supernet: Supernet) -> SupernetEvaluator:
        evaluated.append({name: value.clone() for name, value in supernet.state_dict().items()})
        return real_evaluator(self, supernet)

    def interrupted(*given: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Design, "evaluator", evaluator)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "deliver", interrupted)
        with pytest.raises(KeyboardInterrupt):
            design(request, tmp_path / "run", progress=said)
    assert "the time limit ends the training of the supernet early" in said.lines
    trained = len(epochs)
    result = design(None, tmp_path / "run", resume=True)
    assert result["trained_epochs"] == trained == len(epochs) < result["plan"]["epochs"]
    assert all(torch.equal(value, evaluated[-1][name]) for name, value in evaluated[0].items()), "trials, finalists"
    assert np.isfinite(result["winner"]["test_acc"])


def test_a_run_that_is_late_still_searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fine-tuning was meant to take all that is left and more: both share it."""

    def late(request: DesignRequest, costs: Costs, processes: int) -> Timetable:
        return Timetable(2, 6, 1, 12, 1, {"latency": 1.0, "supernet": 1.0, "search": 500.0, "final": 2000.0})

    monkeypatch.setattr(pipeline, "timetable", late)
    arguments = {"cells": 1, "channels": 4}
    table = phone(tmp_path, "nasbench201", images_of(arguments))
    request = replace(REQUEST, network=arguments, latency=table, batch=2, time_limit=1000.0)
    assert design(request, tmp_path / "run")["evaluations"] == 6


class Threads:
    """Stands for a cluster."""

    def slots(self) -> int:
        return 3

    @property
    def executor(self) -> Callable[..., Executor]:
        return ThreadPoolExecutor


def test_a_design_on_a_cluster_asks_for_as_many_as_it_has_places(tmp_path: Path) -> None:
    arguments = {"cells": 1, "channels": 4}
    table = phone(tmp_path, "nasbench201", images_of(arguments))
    request = replace(REQUEST, network=arguments, latency=table, budget=6, batch=2)
    result = design(request, tmp_path / "run", cluster=cast(Cluster, Threads()))
    assert result["evaluations"] == 6
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'run' / 'study.db'}")
    trials = optuna.load_study(study_name="archgen", storage=storage).trials
    assert len(trials[0].user_attrs["batch"]) == 3, "not the two of the request"
    storage.engine.dispose()


class Full(Threads):
    """A cluster none of whose nodes has what an evaluation asks for."""

    def slots(self) -> int:
        raise ArchgenError("an evaluation asks for GPU=1, more than any node has")


def test_a_cluster_without_a_place_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = cast(Cluster, Full())
    with pytest.raises(ArchgenError, match="more than any node has"):
        design(REQUEST, tmp_path / "run", cluster=cluster)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(Design, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        design(REQUEST, tmp_path / "run")
    with pytest.raises(ArchgenError, match="more than any node has"):
        design(None, tmp_path / "run", resume=True, cluster=cluster)
