"""What can happen to a whole design: nothing is lost, nothing half-written, and one line says what to do.

Faults of one part are tested beside it: an evaluator that raises, hangs or eats memory in tests/evaluators, dead
processes and full databases in tests/study, losses that are not finite in tests/supernets, damaged tables, checkpoints
and images in tests/cli, bombs in tests/test_data.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from archgen import artifacts, spaces
from archgen.design import DesignRequest, design
from archgen.errors import ArchgenError, InvalidData, RunConflict
from archgen.run_folder import RunFolder

Process = Callable[..., subprocess.Popen[str]]
RoomFor = Callable[[int], AbstractContextManager[None]]
NETWORK = {"cells": 1, "channels": 4}
SAME = ("arch", "val_acc", "inherited_val_acc", "test_acc", "params", "latency_ms")
"""Of a winner, whatever happened on the way."""


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latencies of a device elsewhere: nothing is measured here, so the same request has the same result."""
    space = spaces.load("nasbench201")
    archs = [space.simplify(a) for a in space.sample(40, np.random.default_rng(0)) if space.computation(a).edges]
    rows = {space.format(a): space.count(a, **NETWORK, image_size=8, in_channels=1, classes=10)["flops"] for a in archs}
    path = tmp_path_factory.mktemp("phone") / "phone.csv"
    pd.DataFrame({"arch": list(rows), "latency_ms": [flops / 1e6 for flops in rows.values()]}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def request_of(phone: Path) -> Callable[..., DesignRequest]:
    def request_of(**changes: Any) -> DesignRequest:
        plain = DesignRequest(
            "digits",
            "nasbench201",
            {"latency_ms": 0.5},
            budget=6,
            epochs=3,
            finetune_epochs=2,
            finalists=2,
            limit=300,
            network=NETWORK,
            latency=str(phone),
            strategy="evolution",  # takes no time; the others go on exactly in tests/study/test_loop.py
        )
        return replace(plain, **changes)

    return request_of


@pytest.fixture(scope="module")
def whole(request_of: Callable[..., DesignRequest], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of a run that nothing happened to, and the names of its files."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return {**design(request_of(), folder), "files": sorted(path.name for path in folder.iterdir())}


def cut_off_before(where: str, request: DesignRequest, folder: Path, start: Path | None = None) -> Path:
    """A run that goes from `start`, or from nothing, to a function."""
    if start is not None:
        shutil.copytree(start, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, stop)
        with pytest.raises(KeyboardInterrupt):
            design(request, folder, resume=start is not None)
    return folder


def stop(*_: Any) -> Any:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def trained(request_of: Callable[..., DesignRequest], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was cut off before its search."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return cut_off_before("archgen.design.run.Design.search", request_of(), folder)


@pytest.fixture(scope="module")
def began(request_of: Callable[..., DesignRequest], trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was cut off after its search."""
    folder = tmp_path_factory.mktemp("began") / "run"
    cut_off_before("archgen.design.pipeline.deliver", request_of(), folder, trained)
    with closing(sqlite3.connect(folder / "study.db")) as database:
        assert database.execute("SELECT COUNT(*) FROM trials").fetchone() == (6,)
    return folder


@pytest.fixture(scope="module")
def tuned(request_of: Callable[..., DesignRequest], began: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was cut off after its fine-tuning."""
    folder = tmp_path_factory.mktemp("tuned") / "run"
    return cut_off_before("archgen.design.delivery._finish", request_of(), folder, began)


def same(result: dict[str, Any], whole: dict[str, Any], folder: Path) -> None:
    """The run ended as the one did that nothing happened to."""
    assert {name: result["winner"][name] for name in SAME} == {name: whole["winner"][name] for name in SAME}
    assert result["evaluations"] == whole["evaluations"]
    assert sorted(path.name for path in folder.iterdir()) == whole["files"], "nothing half-written is left"


# -- kill -9, Ctrl-C


def test_a_run_that_is_killed_in_each_stage_ends_as_if_it_had_not_been(
    request_of: Callable[..., DesignRequest], process: Process, whole: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    RunFolder.create(folder, json.loads(json.dumps(vars(request_of()))))
    for line in ("this will take about", "latency predictor", "training the supernet", "searching", "fine-tuning"):
        assert not (folder / "trials.parquet").exists()
        with process("-m", "archgen", "design", "--resume", str(folder)) as running:
            assert running.stderr is not None
            assert any(line in text for text in running.stderr)
            running.kill()
        assert running.returncode == -signal.SIGKILL
        assert not (folder / "result.json").exists()
    before = pd.read_parquet(folder / "trials.parquet")
    same(design(None, folder, resume=True), whole, folder)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "trials.parquet"), before)


def test_ctrl_c_twice_ends_a_run_that_can_be_resumed(
    trained: Path, process: Process, whole: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    running = process("-m", "archgen", "design", "--resume", str(folder))
    with running:
        assert running.stderr is not None
        assert any("searching" in text for text in running.stderr)
        for _ in range(2):
            running.send_signal(signal.SIGINT)
            time.sleep(0.02)
        rest = running.stderr.read()
    assert running.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in rest
    same(design(None, folder, resume=True), whole, folder)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_processes_that_fine_tune_end_with_the_run(
    how: signal.Signals, began: Path, process: Process, tmp_path: Path
) -> None:
    folder, two = tmp_path / "run", {**os.environ, "OMP_NUM_THREADS": "2"}
    shutil.copytree(began, folder)
    state = artifacts.read_json(folder / "run.json")
    state["request"]["finetune_epochs"] = state["facts"]["plan"]["finetune_epochs"] = 10**6
    artifacts.write_json(folder / "run.json", state)
    with process("-m", "archgen", "design", "--resume", str(folder), env=two) as running:
        assert running.stderr is not None
        assert any("fine-tuning 2 networks" in text for text in running.stderr)
        started = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        while len(workers := [child for child in started.read_text().split() if _works(child)]) < 2:
            time.sleep(0.05)
        running.send_signal(how)
        rest = running.stderr.read()
    assert running.returncode == (130 if how == signal.SIGINT else -how)
    assert "Traceback" not in rest
    while any(_works(child) for child in workers):  # for ever where one stays
        time.sleep(0.05)
    assert not (folder / "result.json").exists()
    assert (folder / "trials.parquet").exists()


def _works(pid: str) -> bool:
    """Whether it is a process that works for another and has got its work, and no zombie."""
    try:
        process = Path(f"/proc/{pid}")
        return "spawn_main" in (process / "cmdline").read_text() and "libtorch" in (process / "maps").read_text()
    except OSError:
        return False


# -- disks and folders


FULL = {
    "nothing": [(300, "run.json"), (2_000, "supernet.safetensors")],
    "trained": [(20_000, "trials.parquet")],
    "began": [(60_000, "finetuning-*")],
    "tuned": [(60_000, "best.safetensors"), (100_000, "report.html")],
}
"""From how far a run came to sizes of files that the disk has room for, and what can not be written then."""


@pytest.mark.parametrize("start", list(FULL))
def test_a_disk_that_fills_up_is_one_error_and_the_run_goes_on_when_there_is_room(
    start: str,
    request: pytest.FixtureRequest,
    request_of: Callable[..., DesignRequest],
    room_for: RoomFor,
    whole: dict[str, Any],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    if start != "nothing":
        shutil.copytree(request.getfixturevalue(start), folder)
    for size, name in FULL[start]:
        with room_for(size), pytest.raises((OSError, ArchgenError)) as error:
            design(request_of(), folder, resume=(folder / "run.json").exists())
        assert "\n" not in str(error.value)
        assert not list(folder.glob(name)), name
        assert not (folder / "result.json").exists()
    same(design(None, folder, resume=True), whole, folder)


def test_names_that_are_long_and_not_ascii_do(
    request_of: Callable[..., DesignRequest], whole: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "réseaux 設計 🧠" / ("a" * 200) / ("b" * 60) / ("c" * 60)
    same(design(request_of(), folder), whole, folder)


def test_of_two_runs_in_one_folder_the_second_is_refused(
    request_of: Callable[..., DesignRequest], process: Process, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    RunFolder.create(folder, json.loads(json.dumps(vars(request_of(epochs=100_000)))))
    with process("-m", "archgen", "design", "--resume", str(folder)) as running:
        assert running.stderr is not None
        assert any("training the supernet" in text for text in running.stderr)
        with pytest.raises(RunConflict, match="another process works on the run in"):
            design(None, folder, resume=True)
        with pytest.raises(RunConflict, match=r"holds another run|another process works"):
            design(request_of(), folder)
        running.kill()
    with RunFolder.open(folder).locked():
        pass  # who was killed holds it no more


# -- damage


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbled(path: Path) -> None:
    path.write_bytes(bytes(byte ^ 0x5A for byte in path.read_bytes()))


@pytest.mark.parametrize("damage", [cut_off, garbled])
@pytest.mark.parametrize("name", ["run.json", "supernet.safetensors", "study.db"])
def test_a_damaged_file_of_a_run_is_named(
    name: str, damage: Callable[[Path], None], request_of: Callable[..., DesignRequest], tmp_path: Path, began: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(began, folder)
    damage(folder / name)
    with pytest.raises(ArchgenError) as error:
        design(None, folder, resume=True)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_what_the_images_became_is_seen_when_a_run_goes_on(
    request_of: Callable[..., DesignRequest], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (120, 8, 8), dtype=np.uint8), np.arange(120) % 10
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    folder = tmp_path / "run"
    request = request_of(data=str(tmp_path / "mine.npz"), limit=None)
    RunFolder.create(folder, json.loads(json.dumps(vars(request))))
    (tmp_path / "mine.npz").write_bytes((tmp_path / "mine.npz").read_bytes()[:500])
    with pytest.raises(InvalidData, match=r"mine\.npz"):
        design(None, folder, resume=True)


def swapped(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
    images[[0, -1]] = images[[-1, 0]]  # of two classes, so that labels are wrong


def relabelled(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
    labels[[0, 1]] = labels[[1, 0]]


def nudged(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
    images[3, 4, 4] ^= 1


@pytest.mark.parametrize("change", [swapped, relabelled, nudged])
def test_a_run_does_not_go_on_with_other_images(
    change: Callable[..., None], request_of: Callable[..., DesignRequest], tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 255, (120, 8, 8), dtype=np.uint8)
    labels, file, folder = np.arange(120) % 10, tmp_path / "mine.npz", tmp_path / "run"

    def write() -> None:
        train, test = {"x_train": images[:100], "y_train": labels[:100]}, {"x_test": images[100:]}
        np.savez(file, **train, **test, y_test=labels[100:])

    write()
    before = file.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archgen.design.run.Design.run", stop)
        with pytest.raises(KeyboardInterrupt):
            design(request_of(data=str(file), limit=None), folder)
        change(images, labels)
        write()
        with pytest.raises(RunConflict, match="the images, or their labels or parts, are not those that the run in"):
            design(None, folder, resume=True)
        file.write_bytes(before)
        with pytest.raises(KeyboardInterrupt):
            design(None, folder, resume=True)


def test_a_run_does_not_go_on_with_another_table_of_latencies(
    request_of: Callable[..., DesignRequest], phone: Path, tmp_path: Path, began: Path
) -> None:
    folder, table = tmp_path / "run", tmp_path / "phone.csv"
    shutil.copytree(began, folder)
    shutil.copy(phone, table)
    state = artifacts.read_json(folder / "run.json")
    state["request"]["latency"] = str(table)
    artifacts.write_json(folder / "run.json", state)
    frame = pd.read_csv(table)
    frame.assign(latency_ms=frame["latency_ms"] * 2).to_csv(table, index=False)
    with pytest.raises(RunConflict, match="the table of --latency is not the one that the run in"):
        design(None, folder, resume=True)
    del state["digests"]  # of an earlier version
    artifacts.write_json(folder / "run.json", state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archgen.design.run.Design.run", stop)
        with pytest.raises(KeyboardInterrupt):
            design(None, folder, resume=True)


# -- clocks


def test_a_clock_that_jumps_changes_nothing(
    request_of: Callable[..., DesignRequest], whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day changes back and forth by years at each look; only the clock that never runs backwards counts."""
    real, looks = time.time, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real() + (-1) ** next(looks) * 1e8)
    folder = tmp_path / "run"
    result = design(request_of(time_limit=3600.0), folder)
    same(result, whole, folder)
    assert all(0 <= seconds < 600 for seconds in result["seconds"].values())


def test_a_machine_without_memory_ends_the_run_and_blames_no_architecture(
    request_of: Callable[..., DesignRequest], whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: Any, **__: Any) -> Any:
        raise MemoryError

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("archgen.evaluators.supernet.accuracy", none_left)
        with pytest.raises(MemoryError):
            design(request_of(), folder)
    same(design(None, folder, resume=True), whole, folder)
