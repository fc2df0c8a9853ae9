"""One small but real design, from images to an exported network, and what surrounds it: conflicts, kills, bounds."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch

from archgen.data import ImageData, Split, load_data
from archgen.design import Design, DesignRequest, choosing, design, pipeline
from archgen.design import run as run_module
from archgen.design.latency import MeasuredHere
from archgen.design.metrics import check_reachable
from archgen.design.plan import Timetable
from archgen.errors import (
    ArchgenError,
    Infeasible,
    InvalidCheckpoint,
    InvalidTable,
    RunConflict,
)
from archgen.evaluators import SupernetEvaluator
from archgen.export import check_onnx, load_network, open_onnx
from archgen.graph import Architecture
from archgen.hardware import LatencyMeasurement
from archgen.predictors.counts import Count
from archgen.progress import Bar, Progress
from archgen.proxies import az_nas
from archgen.run_folder import RunFolder
from archgen.spaces import SearchSpace

PARAMS = 40_000.0
REQUEST = DesignRequest(
    "digits",
    "nasbench201",
    {"latency_ms": 50.0, "params": PARAMS},
    seed=1,
    budget=6,
    epochs=3,
    finetune_epochs=2,
    network={"cells": 1, "channels": 8},
    measured=12,
    limit=400,
)
"""50 ms is met on any machine; the bound on the parameters is not met by every architecture."""


@dataclass(frozen=True)
class Finished:
    """The run that most tests look at, and the files that were there whenever the test images were read.

    The first time is for their digest, before there is a folder.
    """

    result: dict[str, Any]
    folder: Path
    looks: list[list[str]]

    def trials(self) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "trials.parquet")


def watch(split: Split, folder: Path, looks: list[list[str]]) -> Split:
    """The same images; each time they are read, the files of the run are noted in `looks`."""

    class Watched(Split):
        def __getattribute__(self, name: str) -> Any:
            if name == "images":
                looks.append(sorted(path.name for path in folder.iterdir()) if folder.exists() else [])
            return super().__getattribute__(name)

    return Watched(split.images, split.labels)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("design") / "run"
    looks: list[list[str]] = []

    def load(*args: Any, **options: Any) -> ImageData:
        data = load_data(*args, **options)
        return replace(data, test=watch(data.test, folder, looks))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "load_data", load)
        patch.setattr(choosing, "MEASURED_AT_ONCE", 2)  # exports take most of the time
        return Finished(design(REQUEST, folder), folder, looks)


@pytest.fixture(scope="module")
def images() -> ImageData:
    return load_data("digits", seed=REQUEST.seed, limit=REQUEST.limit)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.iterdir())}


def begun(folder: Path, run: Finished, **changes: Any) -> Path:
    """A run that was cut off after its latencies were measured, those of the finished run."""
    RunFolder.create(folder, asdict(replace(REQUEST, **changes)))
    shutil.copy(run.folder / "latency.parquet", folder)
    return folder


# -- what a run hands back


def test_the_result_has_what_was_promised(run: Finished) -> None:
    result = run.result
    assert {"winner", "networks", "met", "constraints", "evaluations", "seconds", "run", "plan"} <= result.keys()
    winner = result["winner"]
    assert result["networks"] == [winner]
    assert {"arch", "val_acc", "test_acc", "latency_ms", "latency_interval", "params"} <= winner.keys()
    low, high = winner["latency_interval"]
    assert 0 < low <= winner["latency_ms"] <= high
    assert result["evaluations"] == REQUEST.budget
    assert result["run"] == str(run.folder)
    seconds = dict(result["seconds"])
    total = seconds.pop("total")
    assert seconds.keys() == {"plan", "latency", "supernet", "search", "final"}
    assert total == pytest.approx(sum(seconds.values()))
    assert json.loads((run.folder / "result.json").read_text()) == result == json.loads(json.dumps(result))


def test_the_run_folder_holds_the_promised_files_and_no_leftovers(run: Finished) -> None:
    assert set(contents(run.folder)) == {
        *("run.json", "result.json", "latency.parquet", "supernet.safetensors", "study.db", "trials.parquet"),
        *("best.onnx", "best.int8.onnx", "best.safetensors", "best.json", "report.html"),
    }


def test_constraints_tell_of_each_bound_whether_it_is_met(run: Finished) -> None:
    constraints = {c["metric"]: c for c in run.result["constraints"]}
    assert constraints.keys() == REQUEST.at_most.keys()
    for metric, bound in REQUEST.at_most.items():
        constraint = constraints[metric]
        assert (constraint["bound"], constraint["sense"]) == (bound, "at_most")
        assert constraint["value"] == run.result["winner"][metric]
        assert constraint["met"] == (constraint["value"] <= bound)
    assert run.result["met"] == all(c["met"] for c in run.result["constraints"])
    assert run.result["met"]


def test_accuracies_are_those_of_the_exported_file_in_percent(run: Finished, images: ImageData) -> None:
    session = open_onnx(run.folder / "best.onnx")
    for part, name in ((images.validation, "val_acc"), (images.test, "test_acc")):
        (logits,) = session.run(None, {"image": part.images.numpy()})
        right = int((logits.argmax(1) == part.labels.numpy()).sum())
        # one image whose two best logits differ by less than the two runtimes do may fall either way
        assert run.result["winner"][name] == pytest.approx(100 * right / len(part), abs=100.1 / len(part))
        assert run.result["winner"][name] > 1.5, "a share, not percent"


def test_the_onnx_file_is_the_network_of_best_json(run: Finished, images: ImageData) -> None:
    network, facts = load_network(run.folder / "best.json")
    assert check_onnx(network, run.folder / "best.onnx", images.validation.images, tolerance=1e-4) <= 1e-4
    assert run.result["winner"]["onnx_difference"] <= 1e-4
    assert facts["arch"] == run.result["winner"]["arch"]
    assert facts["network"] == run.result["network"]
    assert facts["classes"] == list(images.classes)
    assert facts["normalisation"] == {"mean": list(images.mean), "std": list(images.std)}
    params = sum(p.numel() for p in network.parameters())
    assert params == run.result["winner"]["params"] <= PARAMS


def test_the_winner_is_the_best_trial_and_not_clearly_worse_than_its_inherited_weights(
    run: Finished, space: SearchSpace, images: ImageData
) -> None:
    """Fine-tuned weights are kept unless they are worse by more than two standard errors on the validation part."""
    trials, winner = run.trials(), run.result["winner"]
    trials["score"] = az_nas(trials.assign(loss=-trials["val_loss"]), ["loss", *choosing.JOINED])
    best = trials.sort_values(["score", "val_acc"], ascending=[False, False]).iloc[0]
    assert space.simplify(space.parse(best["arch"])) == space.parse(winner["arch"])
    assert winner["inherited_val_acc"] == best["val_acc"]
    error = 100 * (0.25 / len(images.validation.images)) ** 0.5  # at most
    assert winner["val_acc"] >= winner["inherited_val_acc"] - 2 * error


def test_the_table_of_trials_has_its_columns_in_the_order_evaluated(run: Finished, space: SearchSpace) -> None:
    trials = run.trials()
    metrics = ["val_acc", "val_loss", *choosing.JOINED, "latency_ms", "params", "flops"]
    assert list(trials.columns) == ["trial", "arch", *metrics, "cost_seconds", "state"]
    assert trials["trial"].tolist() == list(range(REQUEST.budget))
    assert set(trials["state"]) == {"complete"}
    always = [metric for metric in metrics if metric not in choosing.JOINED]  # a dead network has no synflow
    assert np.isfinite(trials[always].to_numpy()).all()
    assert trials[list(choosing.JOINED)].notna().any().all()
    assert trials["val_acc"].between(0, 100).all()
    assert (trials["cost_seconds"] > 0).all()
    archs = [space.parse(text) for text in trials["arch"]]
    assert len({space.canonical(arch) for arch in archs}) == REQUEST.budget, "a function was paid for twice"
    assert trials["params"].tolist() == Count(space, "params", run.result["network"]).predict(archs).mean.tolist()


def test_only_architectures_that_are_predicted_to_meet_the_bounds_are_evaluated(run: Finished) -> None:
    trials = run.trials()
    assert (trials["params"] <= PARAMS).all()
    assert (trials["latency_ms"] <= REQUEST.at_most["latency_ms"]).all()


def test_test_images_are_read_once_when_the_search_is_over(run: Finished) -> None:
    before, once = run.looks
    assert not before
    assert "trials.parquet" in once
    assert "best.onnx" not in once, "the network is exported as it was tested"


def test_the_study_is_one_that_optuna_reads(run: Finished) -> None:
    study = optuna.load_study(study_name="archgen", storage=f"sqlite:///{run.folder / 'study.db'}")
    assert [trial.user_attrs["arch"] for trial in study.trials] == run.trials()["arch"].tolist()
    assert [trial.value for trial in study.trials] == run.trials()["val_acc"].tolist()


def test_the_report_needs_nothing_but_itself(run: Finished) -> None:
    text = (run.folder / "report.html").read_text(encoding="utf-8")
    assert run.result["winner"]["arch"] in unescape(re.sub(r"<[^>]*>", "", text))
    assert text.count("<svg") >= 3
    assert text.count("<script") == 2, "the data of the marks, and what makes them answer"
    assert "@import" not in text
    for found in re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", text) + re.findall(r"url\(([^)]*)\)", text):
        assert found.startswith(("#", "data:")), f"the report loads {found}"


def test_latencies_are_measured_on_distinct_architectures_over_the_whole_range(
    run: Finished, space: SearchSpace
) -> None:
    table = pd.read_parquet(run.folder / "latency.parquet")
    assert list(table.columns) == ["arch", "latency_ms", "low_ms", "high_ms", "spread_ms", "runs", "reference_ms"]
    assert len(table) == REQUEST.measured
    archs = [space.parse(text) for text in table["arch"]]
    assert len({space.canonical(arch) for arch in archs}) == REQUEST.measured
    assert all(space.computation(arch).edges for arch in archs), "a cell that computes nothing teaches nothing"
    flops = Count(space, "flops", run.result["network"]).predict(archs).mean
    everything = Count(space, "flops", run.result["network"]).predict(space.sample(2000, np.random.default_rng(0))).mean
    assert (np.diff(flops) >= 0).all()
    assert flops[0] <= np.quantile(everything, 0.05)
    assert flops[-1] >= np.quantile(everything, 0.99)
    facts = run.result["latency_predictor"]
    assert facts["n_train"] + facts["n_test"] == REQUEST.measured


# -- the same folder again


def test_a_finished_run_is_not_overwritten(run: Finished) -> None:
    before = contents(run.folder)
    with pytest.raises(RunConflict, match=r"holds another run; go on with it by --resume"):
        design(replace(REQUEST, seed=2), run.folder)
    assert contents(run.folder) == before


def test_resuming_a_finished_run_hands_back_its_result(run: Finished) -> None:
    before = contents(run.folder)
    assert design(replace(REQUEST, seed=2), run.folder, resume=True) == run.result
    assert contents(run.folder) == before


class Stopping(Progress):
    """Ctrl-C as soon as a bar of the given name has moved so many steps."""

    def __init__(self, what: str, steps: int) -> None:
        self.what, self.steps = what, steps

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Bar]:
        yield _StoppingBar(self.steps) if what == self.what else Bar()


class _StoppingBar(Bar):
    def __init__(self, steps: int) -> None:
        self.left = steps

    def update(self, steps: int = 1, **shown: float) -> None:
        self.left -= steps
        if self.left <= 0:
            raise KeyboardInterrupt


def test_a_run_that_is_killed_twice_ends_as_if_it_had_not_been(
    run: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once while the supernet is trained and once in the middle of a batch of the search."""
    folder = begun(tmp_path / "run", run)
    with pytest.raises(KeyboardInterrupt):
        design(REQUEST, folder, resume=True, progress=Stopping("training the supernet", 2))
    assert not (folder / "study.db").exists()

    real, left = SupernetEvaluator.evaluate, 3

    def evaluate(self: SupernetEvaluator, archs: Sequence[Architecture], *, seed: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return real(self, archs, seed=seed)

    with monkeypatch.context() as patch:
        patch.setattr(SupernetEvaluator, "evaluate", evaluate)
        with pytest.raises(KeyboardInterrupt):
            design(REQUEST, folder, resume=True)
    assert not (folder / "trials.parquet").exists()
    assert not (folder / "result.json").exists()
    spent = RunFolder.open(folder).seconds
    assert spent.keys() == {"plan", "latency", "supernet", "search"}

    fake = [LatencyMeasurement(1.0, 0.9, 1.1, 0.1, 10)]
    monkeypatch.setattr(MeasuredHere, "measure", lambda self, archs: fake * len(archs))  # time is not what is compared
    result = design(REQUEST, folder, resume=True)

    columns = ["trial", "arch", "val_acc", "val_loss", "latency_ms", "params", "flops", "state"]
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "trials.parquet")[columns], run.trials()[columns])
    for name in ("arch", "val_acc", "inherited_val_acc", "test_acc", "params", "flops"):
        assert result["winner"][name] == run.result["winner"][name]
    assert all(result["seconds"][stage] > seconds for stage, seconds in spent.items()), "earlier sessions count"
    assert set(contents(folder)) == set(contents(run.folder))


def test_a_resumed_run_takes_its_request_from_the_folder(run: Finished, tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", run, budget=2, epochs=1)
    with pytest.raises(KeyboardInterrupt):
        design(REQUEST, folder, resume=True, progress=Stopping("searching", 2))
    study = optuna.load_study(study_name="archgen", storage=f"sqlite:///{folder / 'study.db'}")
    assert len(study.trials[0].user_attrs["batch"]) == 2, "the budget of the folder, not the four of a batch"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"colour": "red"}, "was made by another version of archgen"), ({"at_most": {"smell": 1.0}}, "unknown metric")],
)
def test_a_request_that_this_version_can_not_read_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    RunFolder.create(tmp_path, {**asdict(REQUEST), **changes})
    before = contents(tmp_path)
    with pytest.raises(ArchgenError, match=message):
        design(REQUEST, tmp_path, resume=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("part", ["plan", "costs"])
def test_a_plan_of_another_version_is_refused(run: Finished, tmp_path: Path, part: str) -> None:
    folder = begun(tmp_path / "run", run)
    state = json.loads((folder / "run.json").read_text())
    state["facts"] = {"plan": dict(run.result["plan"]), "costs": dict(run.result["costs"])}
    state["facts"][part].popitem()
    (folder / "run.json").write_text(json.dumps(state))
    with pytest.raises(RunConflict, match="was planned by another version of archgen"):
        design(REQUEST, folder, resume=True)


def test_a_truncated_checkpoint_of_the_supernet_is_refused(run: Finished, tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", run)
    path = folder / "supernet.safetensors"
    path.write_bytes((run.folder / "supernet.safetensors").read_bytes()[:5000])
    with pytest.raises(InvalidCheckpoint, match=r"supernet\.safetensors is not a whole safetensors file"):
        design(REQUEST, folder, resume=True)
    assert path.stat().st_size == 5000


@pytest.mark.parametrize("damage", ["truncated", "another version", "another space", "not measured"])
def test_a_damaged_or_foreign_table_of_latencies_is_refused(run: Finished, tmp_path: Path, damage: str) -> None:
    path = begun(tmp_path / "run", run) / "latency.parquet"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    else:
        changed = {
            "another version": lambda table: table.drop(columns="reference_ms"),
            "another space": lambda table: table.assign(arch="0_1_2"),
            "not measured": lambda table: table.assign(latency_ms=np.nan),
        }[damage](pd.read_parquet(path))
        changed.to_parquet(path, index=False)
    before = contents(tmp_path / "run")
    kind, said = (InvalidTable, "can not be read") if damage == "truncated" else (RunConflict, "is of another version")
    with pytest.raises(kind, match=rf"latency\.parquet {said} .*; remove it to measure anew") as caught:
        design(REQUEST, tmp_path / "run", resume=True)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path / "run") == before


# -- bounds that nothing can meet


def untrained(*args: Any, **options: Any) -> None:
    raise AssertionError("the supernet was trained for a bound that nothing can meet")


def test_an_impossible_latency_is_refused_before_training_and_the_smallest_is_named(
    run: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "train_supernet", untrained)
    folder = begun(tmp_path / "run", run, at_most={"latency_ms": 1e-7})
    message = r"no architecture of nasbench201 meets latency_ms at most 1e-07 here: .* about ([0-9.e-]+); raise"
    with pytest.raises(Infeasible, match=message) as caught:
        design(REQUEST, folder, resume=True)
    smallest = float(re.search(message, str(caught.value))[1])  # type: ignore[index]
    measured = pd.read_parquet(folder / "latency.parquet")["latency_ms"]
    # measured at another time than the table: the machine may be faster or slower, but not by two orders
    assert measured.min() / 100 < smallest < 100 * measured.median()
    assert not (folder / "study.db").exists()


def test_an_impossible_number_of_parameters_names_the_smallest_network(
    run: Finished, tmp_path: Path, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "train_supernet", untrained)
    folder = begun(tmp_path / "run", run, at_most={"params": 10.0})
    weightless = space.parse("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    least = space.count(weightless, **run.result["network"])["params"]
    with pytest.raises(Infeasible, match=r"params at most 10 here: .* about ([0-9.e+]+); raise") as caught:
        design(REQUEST, folder, resume=True)
    assert float(str(caught.value).split("about ")[1].split(";")[0]) == pytest.approx(least, rel=1e-3)


def test_a_bound_that_is_met_by_the_smallest_network_is_accepted(
    run: Finished, tmp_path: Path, space: SearchSpace, images: ImageData
) -> None:
    weightless = space.parse("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    least = space.count(weightless, **run.result["network"])["params"]
    request = replace(REQUEST, at_most={"params": least})
    folder = RunFolder(begun(tmp_path / "run", run, at_most=request.at_most), {"facts": {}, "seconds": {}})
    job = Design(folder, request, images)
    check_reachable(job.space, request, job.predictors(job.plan()))


def test_a_percentage_of_a_bound_becomes_a_value_that_the_run_keeps(
    run: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen = begun(tmp_path / "run", run, at_most_percent={"latency_ms": 30.0, "params": 99.9}), []

    def stop(job: Design, plan: Timetable) -> None:
        seen.append(job.request)
        raise KeyboardInterrupt

    monkeypatch.setattr(Design, "supernet", stop)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            design(REQUEST, folder, resume=True)
    state = json.loads((folder / "run.json").read_text())
    assert state["request"]["at_most"] == REQUEST.at_most, "what was asked for stays"
    kept = state["facts"]["percentiles"]
    assert 0 < kept["latency_ms"] < 50
    assert seen[0].at_most == seen[1].at_most == {"latency_ms": kept["latency_ms"], "params": PARAMS}, "the lower one"
    for odd in ("x", {"latency_ms": 1.0}, {"latency_ms": "x", "params": 1.0}):
        state["facts"]["percentiles"] = odd
        (folder / "run.json").write_text(json.dumps(state))
        with pytest.raises(KeyboardInterrupt):
            design(REQUEST, folder, resume=True)
        assert seen[-1] == seen[0], "computed anew where it was damaged"


# -- what surrounds it


def test_measuring_and_the_supernet_leave_the_callers_random_numbers_alone(
    tmp_path: Path, images: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archgen.hardware.OnnxLatency.measure", lambda self, networks, **options: [])
    monkeypatch.setattr(pipeline, "train_supernet", lambda *args, **options: None)
    state = torch.get_rng_state()
    job = Design(RunFolder(tmp_path, {"facts": {}, "seconds": {}}), REQUEST, images)
    job.measure(job.space.sample(2, np.random.default_rng(0)))
    plan = Timetable(1, 1, 1, 12, 1, {"search": 0.0, "final": 0.0})
    first = job.supernet(plan)
    assert torch.equal(torch.get_rng_state(), state)
    again = job.supernet(plan)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
