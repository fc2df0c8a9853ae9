"""Run folders: never two runs in one, never half a state, and what each stage cost."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from archgen.errors import RunConflict
from archgen.run_folder import RunFolder

REQUEST = {"data": "digits", "seed": 3}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("exists", [True, False])
def test_a_run_starts_in_a_new_or_an_empty_folder(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "deep" / "run"
    if exists:
        folder.mkdir(parents=True)
    run = RunFolder.create(folder, REQUEST)
    assert run.file("best.onnx") == folder / "best.onnx"
    assert list(contents(folder)) == ["run.json"]
    assert RunFolder.open(folder).state == {"request": REQUEST, "seconds": {}, "facts": {}}


def test_a_folder_with_a_run_is_refused_and_says_how_to_go_on(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, REQUEST)
    before = contents(tmp_path)
    with pytest.raises(RunConflict, match=r"holds another run; go on with it by --resume .*, or give another --out"):
        RunFolder.create(tmp_path, {"data": "other"})
    assert contents(tmp_path) == before


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunConflict, match="is not empty and holds no run; give another --out"):
        RunFolder.create(tmp_path, REQUEST)
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "run"
    file.write_text("text")
    with pytest.raises(RunConflict, match="is a file, expected a folder for the run"):
        RunFolder.create(file, REQUEST)
    assert file.read_text() == "text"


@pytest.mark.parametrize("make", [True, False], ids=["empty folder", "no folder"])
def test_without_a_run_there_is_nothing_to_resume(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "run"
    if make:
        folder.mkdir()
    with pytest.raises(RunConflict, match=r"holds no run to resume \(no run\.json\); start one with --out"):
        RunFolder.open(folder)
    assert folder.exists() == make


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"request": {', "can not be read as JSON"),
        ("[]", "was not written by archgen design"),
        ('{"request": {}}', "was not written by archgen design"),
    ],
)
def test_a_damaged_or_foreign_run_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunConflict, match=message) as caught:
        RunFolder.open(tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run.json").read_text() == text


def test_seconds_of_a_stage_add_up_over_sessions_also_when_it_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 12.5, 100.0, 101.0, 200.0, 200.25])
    monkeypatch.setattr("archgen.run_folder.time.perf_counter", lambda: next(clock))
    run = RunFolder.create(tmp_path, REQUEST)
    with pytest.raises(KeyboardInterrupt), run.stage("search"):
        raise KeyboardInterrupt
    again = RunFolder.open(tmp_path)
    assert again.seconds == {"search": 2.5}
    with again.stage("search"):
        pass
    with again.stage("final"):
        pass
    assert json.loads((tmp_path / "run.json").read_text())["seconds"] == {"search": 3.5, "final": 0.25}


def test_seconds_are_booked_on_the_way_for_who_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("archgen.run_folder.time.perf_counter", lambda: clock[0])
    run = RunFolder.create(tmp_path, REQUEST)
    run.book()  # outside of any stage
    with run.stage("supernet"):
        for now, known in ((4.0, {}), (6.0, {"supernet": 6.0}), (10.0, {"supernet": 6.0}), (11.5, {"supernet": 11.5})):
            clock[0] = now
            run.book()
            assert RunFolder.open(tmp_path).seconds == known
        clock[0] = 12.0
    assert RunFolder.open(tmp_path).seconds == {"supernet": 12.0}


def test_facts_are_kept_and_no_other_file_is_left(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, REQUEST)
    run.state["facts"]["device"] = {"cores": 2}
    run.save()
    assert RunFolder.open(tmp_path).state["facts"] == {"device": {"cores": 2}}
    assert list(contents(tmp_path)) == ["run.json"]


def test_what_a_killed_process_was_writing_is_removed_and_nothing_else(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, REQUEST)
    with tempfile.NamedTemporaryFile(dir=tmp_path, prefix=".run-", suffix=".json", delete=False) as unfinished:
        unfinished.write(b"{")
    kept = [".DS_Store", ".my-notes.json", "run-abcdefgh.json", "best.onnx"]
    for name in kept:
        (tmp_path / name).touch()
    with run.locked():
        assert {path.name for path in tmp_path.iterdir()} == {"run.json", *kept}
