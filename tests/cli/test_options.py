"""Options that several commands share are read strictly, and files are refused before any work is done."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from archgen.cli.options import assignments, cluster, wishes, writable, write_frame
from archgen.errors import InvalidObjective, InvalidOption, RunConflict
from archgen.evaluators import Cluster
from archgen.objectives import at_least, at_most, maximize, minimize


def test_wishes_are_the_objectives_of_the_four_options() -> None:
    assert wishes(["acc"], ["params"], ["lat=4", "flops=1e8"], ["acc=0.5"]) == [
        maximize("acc"),
        minimize("params"),
        at_most("lat", 4.0),
        at_most("flops", 1e8),
        at_least("acc", 0.5),
    ]
    assert wishes(None, None, None, None) == []


def test_wishes_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InvalidObjective, match="can not be at least 2 and at most 1"):
        wishes(None, None, ["lat=1"], ["lat=2"])


def test_assignments_are_numbers_by_metric() -> None:
    assert assignments(["acc=93.5", "latency_ms@pixel3=1e1", "params=-0"], "--condition") == {
        "acc": 93.5,
        "latency_ms@pixel3": 10.0,
        "params": 0.0,
    }
    assert assignments(None, "--condition") == {}


@pytest.mark.parametrize("text", ["acc", "acc=", "=1", "acc=high", "acc=nan", "acc=inf", "acc=1=2", ""])
def test_what_is_no_assignment_is_refused_naming_the_option(text: str) -> None:
    with pytest.raises(InvalidObjective) as refused:
        assignments(["lat=1", text], "--condition")
    assert str(refused.value) == f"expected METRIC=VALUE with a number for --condition, got '{text}'"


def test_a_path_that_can_be_written_is_accepted(workplace: Path) -> None:
    Path("old.csv").write_text("old")
    for path in (None, Path("new.csv"), Path("old.csv"), Path("folder/new.csv")):
        writable(path)
    assert [path.name for path in workplace.iterdir()] == ["old.csv"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (".", "is a folder"),
        ("/dev/null", "is a device or a pipe"),
        ("a/b/c.csv", "a/b is not a folder with write permission"),
        ("old.csv/new.csv", "old.csv is not a folder with write permission"),
    ],
)
def test_a_path_that_can_not_be_written_is_refused(path: str, message: str) -> None:
    Path("old.csv").write_text("old")
    with pytest.raises(RunConflict, match=message):
        writable(Path(path))


def test_what_is_read_is_not_written_over(workplace: Path) -> None:
    Path("table.csv").write_text("arch")
    writable(Path("new.csv"), Path("table.csv"), None)
    with pytest.raises(RunConflict, match="is what the command reads; name another file to write"):
        writable(workplace / "table.csv", None, Path("table.csv"))


def test_a_table_is_written_by_the_ending_of_its_name() -> None:
    frame = pd.DataFrame({"arch": ["a", "b"], "acc": [1.5, 2.5]})
    write_frame(frame, Path("t.csv"))
    write_frame(frame, Path("t.parquet"))
    pd.testing.assert_frame_equal(pd.read_csv("t.csv"), frame)
    pd.testing.assert_frame_equal(pd.read_parquet("t.parquet"), frame)


def test_a_cluster_is_an_address_and_what_an_evaluation_needs() -> None:
    assert cluster(None, None) is None
    assert cluster("auto", None) == Cluster("auto", {})
    assert cluster("head:6379", ["GPU=0.5", "memory=2e9"]) == Cluster("head:6379", {"GPU": 0.5, "memory": 2e9})


@pytest.mark.parametrize(
    ("ray", "resource", "message"),
    [
        (None, ["CPU=1"], "--resource is for --ray"),
        ("auto", ["CPU=-1"], "expected numbers of at least 0 for --resource"),
        ("auto", ["CPU"], "expected METRIC=VALUE with a number for --resource, got 'CPU'"),
    ],
)
def test_what_is_no_share_of_a_cluster_is_refused(ray: str | None, resource: list[str], message: str) -> None:
    with pytest.raises((InvalidObjective, InvalidOption), match=message):
        cluster(ray, resource)
