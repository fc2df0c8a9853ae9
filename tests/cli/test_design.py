"""`archgen design` says what it found and how to go on, and refuses data that can not be learnt."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from archgen import design as design_module
from archgen.design import DesignRequest
from archgen.evaluators import Annotated
from archgen.graph import Architecture
from archgen.run_folder import RunFolder
from archgen.spaces import SearchSpace

Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]


def test_design_says_what_it_found_and_where(finished: tuple[CompletedProcess[str], Path]) -> None:
    outcome, folder = finished
    result = json.loads((folder / "result.json").read_text())
    lines = dict(line.split(maxsplit=1) for line in outcome.stdout.splitlines())
    assert list(lines) == ["winner", "accuracy", "latency", "int8", "size", "bound", "cost", "files"]
    assert lines["winner"] == result["winner"]["arch"]
    assert f"{result['winner']['test_acc']:.2f} % on the test part" in lines["accuracy"]
    assert f"{result['winner']['latency_ms']:.4f} ms" in lines["latency"]
    assert lines["bound"] == "latency_ms at most 0.2: met"
    assert lines["cost"].startswith("3 evaluations, ")
    for name in ("best.onnx", "best.safetensors", "best.json", "trials.parquet", "report.html"):
        assert name in lines["files"]
        assert (folder / name).exists()
    notes = outcome.stderr.splitlines()
    assert all(line.startswith("archgen: ") for line in notes)
    for stage in (
        "digits: 200 images",
        "latency predictor: held-out rho",
        "training the supernet (2)",
        "searching (3)",
    ):
        assert any(stage in line for line in notes), stage


def test_a_run_file_tells_enough_to_repeat_the_run(
    finished: tuple[CompletedProcess[str], Path], small: list[object]
) -> None:
    _, folder = finished
    state = json.loads((folder / "run.json").read_text())
    assert shlex.split(state["command"]) == ["archgen", *map(str, small), "--out", str(folder)]
    assert {"python", "archgen", "torch", "onnxruntime", "optuna"} <= state["versions"].keys()
    assert state["versions"]["torch"] == torch.__version__
    assert {"seed", "data", "space", "network"} <= state["request"].keys()
    assert state["facts"]["device"]
    assert state["digests"].keys() == {"data"}


def test_a_finished_design_is_printed_again_as_json(
    finished: tuple[CompletedProcess[str], Path], succeeds: Run, contents: Callable[[Path], dict[str, bytes | None]]
) -> None:
    _, folder = finished
    before = contents(folder)
    answer = json.loads(succeeds("design", "--resume", folder, "--json").stdout)
    assert answer == json.loads((folder / "result.json").read_text())
    assert {"winner", "met", "constraints", "evaluations", "seconds", "run"} <= answer.keys()
    assert contents(folder) == before


def test_resume_of_a_finished_design_shows_it_again(
    finished: tuple[CompletedProcess[str], Path], succeeds: Run
) -> None:
    outcome, folder = finished
    assert succeeds("resume", folder).stdout == outcome.stdout
    assert json.loads(succeeds("resume", folder, "--json").stdout) == json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *((place, None) for place in ("", "winner", "winner.int8.test_acc", "networks", "seconds.total")),
        *((place, "x") for place in ("winner", "winner.test_acc", "winner.params", "constraints", "winner.int8")),
        *((place, {}) for place in ("", "winner", "networks", "seconds", "winner.latency_interval")),
        ("winner.latency_interval", []),
    ],
)
def test_a_damaged_result_is_one_line(
    finished: tuple[CompletedProcess[str], Path], place: str, value: object, workplace: Path, refused: Refused
) -> None:
    shutil.copytree(finished[1], "run")
    changed(Path("run/result.json"), place, value)
    assert "result.json is damaged or of another version" in refused("resume", "run")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *(("request.data", -1), ("request.at_most", []), ("request.at_most", {"params": "x"}), ("request.seed", "x")),
        *(("request.seed", -1), ("request.network", "x"), ("request.network", {"cells": 1.5}), ("request", [])),
        *(("request.runtime", {}), ("request.threads", True), ("request.minimize", "params"), ("request.limit", "x")),
        *(("seconds", None), ("seconds", {"plan": "x"}), ("seconds", {"plan": -1}), ("facts", []), ("digests", [1])),
        *(("facts.plan.seconds", None), ("facts.plan.seconds", {}), ("facts.plan.epochs", "x"), ("facts.plan", [])),
        *(("facts.costs.export", None), ("facts.costs", None), ("facts.device", float("inf"))),
    ],
)
def test_a_damaged_run_file_is_one_line(
    finished: tuple[CompletedProcess[str], Path], place: str, value: object, workplace: Path, run: Run
) -> None:
    shutil.copytree(finished[1], "run")
    Path("run/result.json").unlink()
    changed(Path("run/run.json"), place, value)
    outcome = run("resume", "run")
    assert outcome.returncode == 2
    assert "run" in outcome.stderr.splitlines()[-1]
    assert "Traceback" not in outcome.stderr


def changed(file: Path, place: str, value: object) -> None:
    """Put a value into a JSON file."""
    content = whole = {"": json.loads(file.read_text())}
    *path, last = ["", *place.split(".")] if place else [""]
    for name in path:
        content = content[name]
    content[last] = value
    file.write_text(json.dumps(whole[""]))


def test_the_report_is_written_again(
    finished: tuple[CompletedProcess[str], Path], succeeds: Run, refused: Refused
) -> None:
    _, folder = finished
    before = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    assert succeeds("report", folder).stdout == f"{folder / 'report.html'}\n"
    assert (folder / "report.html").read_text() == before
    result = folder / "result.json"
    text = result.read_text()
    result.write_text('{"winner": {}}')
    assert "damaged or of another version" in refused("report", folder)
    result.unlink()
    assert "the run is not finished; go on by archgen resume" in refused("report", folder)
    result.write_text(text)


def test_the_dashboard_is_of_the_runs_study(
    finished: tuple[CompletedProcess[str], Path], succeeds: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = finished
    asked: list[Any] = []
    module = ModuleType("optuna_dashboard")
    module.run_server = lambda storage, **options: asked.append((storage, options))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "optuna_dashboard", module)
    succeeds("dashboard", folder, "--port", 9000)
    ((storage, options),) = asked
    assert options == {"host": "127.0.0.1", "port": 9000}
    (study,) = storage.get_all_studies()
    assert len(storage.get_all_trials(study._study_id)) == 3
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert "the dashboard is not installed: pip install 'archgen[dashboard]'" in refused("dashboard", folder)
    assert "holds no run to resume" in refused("dashboard", folder.parent)


def test_the_dashboard_takes_a_folder_of_any_name_and_refuses_a_damaged_study(
    finished: tuple[CompletedProcess[str], Path],
    succeeds: Run,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    folder, whole = tmp_path / "q?x=#1 %41", (finished[1] / "study.db").read_bytes()
    folder.mkdir()
    shutil.copy(finished[1] / "run.json", folder)
    served: list[int] = []

    def run_server(storage: Any, **_: Any) -> None:
        served.append(sum(len(storage.get_all_trials(study._study_id)) for study in storage.get_all_studies()))

    module = ModuleType("optuna_dashboard")
    module.run_server = run_server  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "optuna_dashboard", module)
    assert "has no study.db yet" in refused("dashboard", folder)
    (folder / "study.db").write_bytes(whole)
    succeeds("dashboard", folder)
    assert served == [3]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    for length in (100, len(whole) // 2, len(whole) - 5000):
        (folder / "study.db").write_bytes(whole[:length])
        assert "study.db can not be used as a study database: " in refused("dashboard", folder)
    (folder / "study.db").write_bytes(b"")
    assert "has no study.db yet" in refused("dashboard", folder)
    assert served == [3]


def test_a_folder_with_a_run_is_not_used_for_another(
    finished: tuple[CompletedProcess[str], Path],
    small: list[object],
    refused: Refused,
    contents: Callable[[Path], dict[str, bytes | None]],
) -> None:
    _, folder = finished
    before = contents(folder)
    assert f"holds another run; go on with it by --resume {folder}" in refused(*small, "--out", folder)
    assert contents(folder) == before


def test_the_strictest_of_several_bounds_counts(
    finished: tuple[CompletedProcess[str], Path], small: list[object], monkeypatch: pytest.MonkeyPatch, succeeds: Run
) -> None:
    _, folder = finished
    answer = json.loads((folder / "result.json").read_text())
    seen: list[DesignRequest] = []

    def design(request: DesignRequest, out: Path, **options: Any) -> dict[str, Any]:
        seen.append(request)
        return answer

    monkeypatch.setattr(design_module, "design", design)
    succeeds(*small, "--at-most", "latency_ms=3", "--at-most", "params=0", "--out", "new")
    assert seen[0].at_most == {"latency_ms": 0.2, "params": 0.0}
    succeeds(*small, "--at-most", "flops=40%", "--at-most", "flops=12.5%", "--out", "new")
    assert seen[1].at_most == {"latency_ms": 0.2}
    assert seen[1].at_most_percent == {"flops": 12.5}


def empty_data() -> str:
    part = {"x_train": np.zeros((0, 8, 8)), "x_test": np.zeros((0, 8, 8))}
    np.savez("empty.npz", **part, y_train=np.zeros(0, int), y_test=np.zeros(0, int))
    return "empty.npz"


def one_class() -> str:
    part = {"x_train": np.zeros((20, 8, 8)), "x_test": np.zeros((5, 8, 8))}
    np.savez("one.npz", **part, y_train=np.zeros(20, int), y_test=np.zeros(5, int))
    return "one.npz"


def several_sizes() -> str:
    for name, size in (("cats", 8), ("dogs", 9)):
        Path("pets", name).mkdir(parents=True)
        for i in range(6):
            Image.new("L", (size, size), 10 * i).save(Path("pets", name, f"{i}.png"))
    return "pets"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (empty_data, "empty holds no images: expected at least two classes"),
        (one_class, "one has one class only ('0'): expected at least two"),
        (several_sizes, "images of several sizes: pets/cats/0.png has 8x8 pixels and pets/dogs/0.png 9x9"),
        (lambda: "nowhere", "'nowhere' does not exist: expected the word digits"),
    ],
)
def test_design_refuses_data_that_can_not_be_learnt(
    small: list[object], make: Callable[[], str], message: str, refused: Refused
) -> None:
    assert message in refused(*small, "--data", make(), "--out", "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "run", "--space", "nasbench2"], "unknown search space 'nasbench2'"),
        (["--out", "run", "--strategy", "best"], "unknown search strategy 'best'"),
        (["--out", "run", "--at-most", "val_acc=1"], "the accuracy is what a design maximizes"),
        (["--out", "run", "--at-most", "latency=1"], "unknown metric 'latency': did you mean 'latency_ms'?"),
        (["--out", "run", "--minimize", "size"], "unknown metric 'size': known are"),
        (["--out", "run", "--at-most", "latency_ms@pixel3=9"], "design those (cells=5, channels=16, in_channels=3, "),
        (["--out", "run", "--effort", "heroic"], "unknown effort 'heroic': known are: quick, standard, thorough"),
        (
            ["--out", "run", "--time-limit", "soon"],
            "expected a time such as 90s, 10m or 2h for --time-limit, got 'soon'",
        ),
        (["--out", "run", "--network", "cells=many"], "expected NAME=NUMBER for --network, got 'cells=many'"),
        (["--out", "run", "--network", "cell=2"], "unknown argument of the network 'cell'"),
        (
            ["--out", "run", "--network", "cells=3000000"],
            "cells of the network must be at most 200, got",
        ),
        (
            ["--out", "run", "--network", f"channels={10**30}"],
            "channels of the network must be at most 1000000",
        ),
        (
            ["--out", "run", "--network", "channels=200000"],
            "expected at most 1e+09: lower --network",
        ),
        (["--out", "run", "--latency", "mine.csv"], "mine.csv is not a file"),
        (["--out", "run", "--runtime", "tvm"], "unknown runtime 'tvm'"),
        (["--out", "run", "--device", "tpu"], "unknown processor 'tpu'"),
        (["--out", "run", "--at-most", "latency_ms"], "expected METRIC=VALUE"),
        (["--out", "run", "--at-most", "latency_ms=-1"], "bound of 'latency_ms' must be at least 0, got -1"),
        (["--out", "run", "--at-most", "latency_ms=100%"], "must be above 0 % and below 100 %, got 100 %"),
        (["--out", "run", "--at-most", "latency_ms=%"], "the bound of 'latency_ms' must be a number, got ''"),
        (["--out", "run", "--at-most", "latency=40%"], "unknown metric 'latency': did you mean 'latency_ms'?"),
        (["--out", "run", "--budget", "0"], "expected whole numbers of at least 1, got {'budget': 0}"),
        (["--out", "run", "--finalists", "0"], "expected whole numbers of at least 1, got {'finalists': 0}"),
        (["--out", "run", "--measured", "11"], "expected at least 12 measured architectures"),
        (["--out", "run", "--limit", "5"], "--limit 5 is too small"),
        ([], "expected either --out FOLDER (a new run) or --resume FOLDER"),
        (["--out", "a", "--resume", "b"], "expected either --out FOLDER (a new run) or --resume FOLDER"),
        (["--resume", "nowhere"], "keeps what it was begun with: leave out --at-most, --budget, --epochs, "),
        (["--out", "full"], "full is not empty and holds no run; give another --out"),
        (["--out", "full/paper.txt"], "full/paper.txt is a file, expected a folder"),
    ],
)
def test_design_refuses_bad_arguments_in_one_line(
    small: list[object], arguments: list[str], message: str, refused: Refused
) -> None:
    Path("full").mkdir()
    Path("full/paper.txt").write_text("years of work")
    assert message in refused(*small, *arguments)


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("/proc/run", "nothing was overwritten"),
        ("/proc/self/run", "nothing was overwritten"),
        ("c" * 300, "File name too long"),
        ("/".join(["d" * 100] * 20), "SQLite takes 480; use a shorter folder"),
    ],
)
def test_a_folder_that_nobody_can_write_is_refused_before_any_work(
    small: list[object], folder: str, message: str, refused: Refused
) -> None:
    assert message in refused(*small, "--out", folder)


def test_a_bound_that_nothing_can_meet_names_the_smallest_that_can(
    small: list[object], monkeypatch: pytest.MonkeyPatch, space: SearchSpace, run: Run, pretended_latency: None
) -> None:
    outcome = run(*small, "--at-most", "latency_ms=0.000001", "--out", "run")
    assert outcome.returncode == 2
    assert outcome.stdout == ""
    last = outcome.stderr.splitlines()[-1]
    assert "no architecture of nasbench201 meets latency_ms at most 1e-06 here: the smallest that can be met is" in last
    assert "Traceback" not in outcome.stderr
    assert "training the supernet" not in outcome.stderr
    network = {"cells": 1, "channels": 4, "classes": 10, "in_channels": 1, "image_size": 8}
    everything = [
        space.count(space.simplify(arch), **network)["flops"] for arch in space.sample(500, np.random.default_rng(0))
    ]
    assert float(last.split("about ")[1].split(";")[0]) == pytest.approx(min(everything) * 1e-6, rel=0.2)


def test_ctrl_c_ends_a_design_with_status_130_and_says_how_to_go_on(
    finished: tuple[CompletedProcess[str], Path],
    small: list[object],
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    pretended_latency: None,
) -> None:
    def interrupted(self: Annotated, archs: list[Architecture], *, seed: int) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Annotated, "stream", interrupted)
        outcome = run(*small, "--out", "run")
    assert outcome.returncode == 130
    assert outcome.stdout == ""
    assert outcome.stderr.splitlines()[-1] == "archgen: interrupted; go on with: archgen design --resume run"
    assert "Traceback" not in outcome.stderr
    assert RunFolder.open(Path("run")).seconds.keys() == {"plan", "latency", "supernet", "search"}


def test_a_resume_refuses_what_it_would_ignore_and_says_where_it_evaluates(
    finished: tuple[CompletedProcess[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    refused: Refused,
) -> None:
    seen: list[Any] = []

    def design(request: None, out: Path, *, cluster: Any, **options: Any) -> dict[str, Any]:
        seen.append(cluster)
        raise KeyboardInterrupt

    monkeypatch.setattr(design_module, "design", design)
    options = ["--ray", "local", "--resource", "CPU=2"]
    for command in (["design", "--resume", "run"], ["resume", "run"]):
        last = run(*command, *options, "--json").stderr.splitlines()[-1]
        assert last == "archgen: interrupted; go on with: archgen design --resume run --ray local --resource CPU=2"
        assert seen.pop().address == "local"
    last = run("design", "--resume", "run", "--trust-code").stderr.splitlines()[-1]
    assert last == "archgen: interrupted; go on with: archgen design --resume run --trust-code"
    assert seen.pop() is None
    for option, value in (
        ("--time-limit", "10m"),
        ("--seed", "0"),
        ("--space", "nasbench201"),
        ("--at-most", "params=1"),
    ):
        assert f"begun with: leave out {option}" in refused("design", "--resume", "run", option, value)
    assert not seen


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_no_memory_is_one_line(
    small: list[object], monkeypatch: pytest.MonkeyPatch, refused: Refused, error: Exception
) -> None:
    def design(*given: Any, **options: Any) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(design_module, "design", design)
    assert "out of memory; ask for smaller networks" in refused(*small, "--out", "run")


def test_a_full_disk_at_the_start_of_a_design_is_one_line(
    small: list[object], monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    def full(self: Path, *args: Any, **options: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    Path("run").mkdir()
    monkeypatch.setattr(Path, "write_text", full)
    assert "No space left on device" in refused(*small, "--out", "run")


def test_a_real_ctrl_c_ends_a_real_design(
    finished: tuple[CompletedProcess[str], Path], workplace: Path, process: Callable[..., subprocess.Popen[str]]
) -> None:
    _, folder = finished
    request = DesignRequest(**json.loads((folder / "run.json").read_text())["request"])
    RunFolder.create(workplace / "run", asdict(replace(request, epochs=100_000)))
    shutil.copy(folder / "latency.parquet", workplace / "run")
    running = process("-m", "archgen", "design", "--resume", str(workplace / "run"))
    assert running.stderr is not None
    for line in running.stderr:
        if "training the supernet" in line:
            break
    running.send_signal(signal.SIGINT)
    out, err = running.communicate()
    assert running.returncode == 130, err
    assert out == ""
    assert err.splitlines() == [f"archgen: interrupted; go on with: archgen design --resume {workplace / 'run'}"]
    assert RunFolder.open(workplace / "run").seconds["supernet"] > 0


def test_truncated_and_foreign_checkpoints_are_refused(damaged: Path, small: list[object], refused: Refused) -> None:
    assert "nasbench201" in refused(*small, "--out", "run")
