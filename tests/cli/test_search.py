"""`archgen search` writes its trials, goes on where it stopped, and refuses tables that can not be trusted."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pandas as pd
import pytest

from archgen.evaluators import TabularEvaluator
from archgen.graph import Architecture

RoomFor = Callable[[int], AbstractContextManager[None]]
Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]
ARCH = "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"


def search(*arguments: object, budget: int = 8) -> list[object]:
    base = ["search", "--space", "nasbench201", "--evaluator", "table.parquet", "--maximize", "acc", "--partial"]
    return [*base, "--budget", budget, "--out", "trials.parquet", "--strategy", "random", *arguments]


@pytest.mark.parametrize("strategy", ["random", "evolution", "generative"])
def test_search_writes_its_trials_in_the_order_evaluated(
    listed: Path, table: pd.DataFrame, strategy: str, succeeds: Run
) -> None:
    outcome = succeeds(*search("--strategy", strategy, budget=13))
    trials = pd.read_parquet("trials.parquet")
    assert list(trials.columns) == ["trial", "arch", "acc", "lat", "cost_seconds", "state"]
    assert trials["trial"].tolist() == list(range(13))
    assert set(trials["state"]) == {"complete"}
    assert trials["arch"].is_unique
    expected = table.set_index("arch").loc[trials["arch"]]
    assert trials["acc"].tolist() == expected["acc"].tolist()
    assert trials["lat"].tolist() == expected["lat"].tolist()
    best = trials.loc[trials["acc"].idxmax()]
    assert outcome.stdout == (
        f"best of 13 (trial {best['trial']}): {best['arch']}  acc {best['acc']:.6g}; trials in trials.parquet\n"
    )
    assert outcome.stderr == f"archgen: {strategy} search (13) ...\n"


def test_search_answers_in_json_and_writes_csv(listed: Path, table: pd.DataFrame, succeeds: Run) -> None:
    table.to_csv("table.csv", index=False)
    outcome = succeeds(*search("--evaluator", "table.csv", "--at-most", "lat=3", "--out", "t.csv", "--json"))
    answer = json.loads(outcome.stdout)
    trials = pd.read_csv("t.csv")
    within = trials[trials["lat"] <= 3]
    best = within.loc[within["acc"].idxmax()]
    assert answer["best"] == {key: pytest.approx(best[key]) for key in ("trial", "acc", "lat")} | {"arch": best["arch"]}
    assert (answer["evaluations"], answer["met"], answer["out"]) == (8, True, "t.csv")


def test_search_says_so_when_nothing_meets_the_bounds(listed: Path, succeeds: Run) -> None:
    outcome = succeeds(*search("--at-most", "lat=0.5"))
    assert outcome.stdout == "8 evaluations in trials.parquet; none meets the bounds\n"
    assert json.loads(succeeds(*search("--at-most", "lat=0.5", "--json")).stdout)["best"] is None


def test_a_search_ends_when_the_table_is_used_up(listed: Path, table: pd.DataFrame, succeeds: Run) -> None:
    assert json.loads(succeeds(*search("--json", "--batch", 60, budget=1000)).stdout)["evaluations"] == len(table)
    assert set(pd.read_parquet("trials.parquet")["arch"]) == set(table["arch"])


def test_a_search_is_resumed_from_its_study(listed: Path, succeeds: Run) -> None:
    columns = ["trial", "arch", "acc", "lat", "state"]
    succeeds(*search("--out", "whole.parquet", budget=12))
    succeeds(*search("--study", "s.db", budget=4))
    succeeds(*search("--study", "s.db", "--resume", budget=12))
    whole, resumed = pd.read_parquet("whole.parquet"), pd.read_parquet("trials.parquet")
    pd.testing.assert_frame_equal(whole[columns], resumed[columns])


def test_a_search_that_is_interrupted_goes_on_with_the_batch_it_was_in(
    listed: Path, monkeypatch: pytest.MonkeyPatch, run: Run, succeeds: Run
) -> None:
    succeeds(*search("--out", "whole.parquet", budget=12))
    real, left = TabularEvaluator.evaluate, 6

    def evaluate(self: TabularEvaluator, archs: list[Architecture], *, seed: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return real(self, archs, seed=seed)

    with monkeypatch.context() as patch:
        patch.setattr(TabularEvaluator, "evaluate", evaluate)
        outcome = run(*search("--study", "s.db", budget=12))
    assert outcome.returncode == 130
    assert outcome.stderr.splitlines()[-1] == "archgen: interrupted; go on with the same command and --resume"
    assert not Path("trials.parquet").exists()
    succeeds(*search("--study", "s.db", "--resume", budget=12))
    columns = ["trial", "arch", "acc", "lat", "state"]
    whole, resumed = pd.read_parquet("whole.parquet"), pd.read_parquet("trials.parquet")
    pd.testing.assert_frame_equal(whole[columns], resumed[columns])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--space", "nasbench"], "unknown search space 'nasbench': did you mean 'nasbench201'?"),
        (["--strategy", "evolve"], "unknown search strategy 'evolve': did you mean 'evolution'?"),
        (["--maximize", "accu", "--minimize", "x"], "unknown metric 'accu': did you mean 'acc'?"),
        (["--at-most", "latency=1"], "unknown metric 'latency': did you mean 'lat'?"),
        (["--at-most", "lat"], "expected METRIC=VALUE for --at-most, got 'lat'"),
        (["--at-least", "lat=fast"], "the bound of 'lat' must be a number, got 'fast'"),
        (["--at-most", "lat=1", "--at-least", "lat=2"], "can not be at least 2 and at most 1"),
        (
            ["--strategy", "evolution", "--minimize", "lat", "--study", "new.db"],
            "expected one metric to maximize or minimize",
        ),
        (["--budget", "0"], "--budget"),
        (["--budget", "many"], "--budget"),
        (["--seed", "-1"], "--seed"),
        (["--seed", "99999999999999999999"], "--seed"),
        (["--resume"], "--resume needs --study"),
        (["--out", "."], "is a folder, expected the name of a file to write"),
        (["--out", "no/such/folder/t.parquet"], "can not be written"),
        (["--study", "no/folder/s.db"], "can not be used as a study database"),
        (["--study", "table.parquet"], "table.parquet can not be used as a study database"),
        (["--evaluator", "none.parquet"], "none.parquet is not a file"),
    ],
)
def test_search_refuses_bad_arguments_in_one_line(
    listed: Path, arguments: list[str], message: str, refused: Refused
) -> None:
    Path("trials.parquet").write_text("earlier work")
    metric = [] if "--maximize" not in arguments else ["acc"]
    base = [a for a in search() if not (metric and a in ("--maximize", "acc"))]
    assert message in refused(*base, *arguments)


def test_a_search_for_nothing_is_refused(listed: Path, refused: Refused) -> None:
    base = [argument for argument in search() if argument not in ("--maximize", "acc")]
    assert "expected at least one metric to maximize or minimize, got []" in refused(*base)


def test_a_study_of_something_else_is_left_alone(listed: Path, succeeds: Run, refused: Refused) -> None:
    succeeds(*search("--study", "s.db"))
    assert "s.db holds a study 'archgen' already; resume it" in refused(*search("--study", "s.db"))
    other = [argument if argument != "acc" else "lat" for argument in search("--study", "s.db", "--resume")]
    assert "asked for" in refused(*other)


def _without_arch(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(columns={"arch": "cell"})


def _duplicate(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame.iloc[[3]]], ignore_index=True)


def _with(column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        values = frame[column].tolist()
        values[4] = value
        return frame.assign(**{column: values})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_arch, "has no column 'arch'"),
        (lambda frame: frame[:0], "has no rows"),
        (_duplicate, "1 row has an architecture that is listed before (the first is row 61)"),
        (_with("acc", np.nan), "1 row has NaN or an infinite value in 'acc' (the first is row 5)"),
        (_with("acc", np.inf), "1 row has NaN or an infinite value in 'acc' (the first is row 5)"),
        (_with("arch", None), "1 row has no architecture string in 'arch' (the first is row 5)"),
        (_with("arch", ARCH.replace("avg", "max")), "1 row has an architecture that is none of nasbench201"),
        (lambda frame: frame.assign(acc="high"), "no number in 'acc'"),
    ],
)
def test_tables_that_can_not_be_trusted_are_refused(
    table: pd.DataFrame, change: Callable[[pd.DataFrame], pd.DataFrame], message: str, refused: Refused
) -> None:
    change(table).to_parquet("table.parquet", index=False)
    line = refused(*search())
    assert message in line
    assert "table.parquet" in line


def test_a_table_with_missing_rows_must_be_called_partial(listed: Path, refused: Refused) -> None:
    base = [argument for argument in search() if argument != "--partial"]
    assert "lists 60 of the 15,625 architectures" in refused(*base)


def test_a_truncated_table_is_refused(listed: Path, refused: Refused) -> None:
    listed.write_bytes(listed.read_bytes()[:200])
    assert "can not be read as a parquet table" in refused(*search())


def test_a_disk_that_fills_up_during_a_search_leaves_the_trials_before(
    listed: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    succeeds: Run,
    room_for: RoomFor,
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the storage waits before it tries again
    succeeds(*search("--study", "s.db", budget=4))
    Path("trials.parquet").unlink()
    with room_for(Path("s.db").stat().st_size):
        outcome = run(*search("--study", "s.db", "--resume", budget=40))
    assert outcome.returncode == 2
    assert "Traceback" not in outcome.stderr
    assert len([line for line in outcome.stderr.splitlines() if "search (40)" not in line]) == 1
    assert not Path("trials.parquet").exists()
    answer = json.loads(succeeds(*search("--study", "s.db", "--resume", "--json", budget=4)).stdout)
    assert answer["evaluations"] >= 4


def test_truncated_and_foreign_checkpoints_are_refused(damaged: Path, listed: Path, refused: Refused) -> None:
    assert "nasbench201" in refused(*search("--strategy", "generative", "--study", "s.db"))
