"""`archgen search` writes its trials, goes on where it stopped, and refuses tables that can not be trusted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pandas as pd
import pytest

from archgen.cli.search_evaluator import searchable
from archgen.data import load_data
from archgen.evaluators import Noisy, Parallel, TabularEvaluator
from archgen.graph import Architecture
from archgen.objectives import Objective, bounds
from archgen.spaces import SearchSpace
from archgen.spaces import load as load_space
from archgen.spaces.listed import ListedSpace
from archgen.strategies import STRATEGIES, Random

RoomFor = Callable[[int], AbstractContextManager[None]]
Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]
ARCH = "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"


def search(*arguments: object, budget: int = 8) -> list[object]:
    base = ["search", "--space", "nasbench201", "--evaluator", "table.parquet", "--maximize", "acc", "--partial"]
    return [*base, "--budget", budget, "--out", "trials.parquet", "--strategy", "random", *arguments]


def without_partial() -> list[object]:
    return [argument for argument in search() if argument != "--partial"]


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
    assert outcome.stderr.splitlines()[-1] == (
        "archgen: interrupted; 6 evaluations are in trials.parquet; go on with the same command and --resume"
    )
    assert len(pd.read_parquet("trials.parquet")) == 6
    succeeds(*search("--study", "s.db", "--resume", budget=12))
    columns = ["trial", "arch", "acc", "lat", "state"]
    whole, resumed = pd.read_parquet("whole.parquet"), pd.read_parquet("trials.parquet")
    pd.testing.assert_frame_equal(whole[columns], resumed[columns])


def test_a_study_is_not_gone_on_with_by_another_evaluator(listed: Path, succeeds: Run, refused: Refused) -> None:
    succeeds(*search("--study", "s.db", budget=3))
    said = refused(*search("--study", "s.db", "--resume", "--noise", "0.5", budget=5))
    assert "was measured by a table, asked for a table, with noise 0.5" in said


@pytest.mark.parametrize("place", [["--study", "sqlite:///s.db"], ["--workers", "2"], ["--timeout", "9"]])
def test_weights_are_transferred_beside_a_file_that_all_processes_see(
    listed: Path, refused: Refused, place: list[str]
) -> None:
    assert "give --study FILE" in refused(*without_partial(), "--evaluator", "train", "--transfer", "0.8", *place)


def test_what_was_paid_for_is_kept_when_a_search_breaks_and_failures_are_said(
    listed: Path, monkeypatch: pytest.MonkeyPatch, run: Run, succeeds: Run
) -> None:
    real, asked = TabularEvaluator.evaluate, 0

    def evaluate(self: TabularEvaluator, archs: list[Architecture], *, seed: int) -> Any:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise ValueError("the weights are not finite")
        if asked == 10:
            raise OSError("the disk is gone")
        return real(self, archs, seed=seed)

    monkeypatch.setattr(TabularEvaluator, "evaluate", evaluate)
    outcome = succeeds(*search(budget=5))
    said = "archgen: 1 of 5 evaluations failed, the first: ValueError: the weights are not finite"
    assert outcome.stderr.splitlines()[-1] == said
    assert pd.read_parquet("trials.parquet")["error"].tolist() == ["", "", said[said.index("Value") :], "", ""]
    Path("trials.parquet").unlink()
    broken = run(*search(budget=8))
    assert (broken.returncode, broken.stdout) == (2, "")
    assert "the disk is gone" in broken.stderr.splitlines()[-1]
    assert len(pd.read_parquet("trials.parquet")) == 4


def test_a_search_that_finds_nothing_more_says_so(listed: Path, table: pd.DataFrame, succeeds: Run) -> None:
    outcome = succeeds(*search("--batch", 60, budget=1000))
    assert outcome.stderr.splitlines()[-1] == (
        f"archgen: the search ended after {len(table)} of 1000 evaluations: nothing new was found to propose"
    )


def test_without_free_labels_a_strategy_is_given_none(
    listed: Path, monkeypatch: pytest.MonkeyPatch, succeeds: Run
) -> None:
    given: list[bool] = []

    class Spy(STRATEGIES["bayes"]):  # type: ignore[misc]
        def __init__(self, *args: Any, free_labels: Any = None, **rest: Any) -> None:
            given.append(free_labels is not None)
            super().__init__(*args, free_labels=free_labels, **rest)

    monkeypatch.setitem(STRATEGIES._members, "bayes", Spy)
    succeeds(*search("--strategy", "bayes", budget=2))
    succeeds(*search("--strategy", "bayes", "--no-free-labels", budget=2))
    assert given == [True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "generative", "--option", "pool=0"], "expected initial, pool and steps of at least 1"),
        (["--strategy", "generative", "--option", "acquisition=qlognehvi"], "takes several of the directions"),
        (["--strategy", "generative", "--generator", "mine"], "unknown generator 'mine'"),
        (["--strategy", "bayes", "--generator", "discrete_flow"], "Bayes draws from no generator"),
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
    assert "lists 60 of the 15,625 architectures" in refused(*without_partial())


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
    assert len(pd.read_parquet("trials.parquet")) >= 4  # this small file had room
    answer = json.loads(succeeds(*search("--study", "s.db", "--resume", "--json", budget=4)).stdout)
    assert answer["evaluations"] >= 4


def test_truncated_and_foreign_checkpoints_are_refused(damaged: Path, listed: Path, refused: Refused) -> None:
    assert "nasbench201" in refused(*search("--strategy", "generative", "--study", "s.db"))


# -- options of strategies, wrappers, several directions -------------------------------------------------------------


@pytest.fixture
def two_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strategy that takes any number of directions."""

    class TwoWays(Random):
        def __init__(self, space: SearchSpace, objectives: list[Objective], **options: Any) -> None:
            super().__init__(space, [*objectives[:1], *bounds(objectives)], **options)

    monkeypatch.setitem(STRATEGIES._members, "two_ways", TwoWays)


def test_several_directions_give_a_pareto_front(
    two_ways: None, listed: Path, table: pd.DataFrame, succeeds: Run
) -> None:
    asked = search("--strategy", "two_ways", "--minimize", "lat", "--at-least", "acc=61", budget=25)
    answer = json.loads(succeeds(*asked, "--json").stdout)
    trials = pd.read_parquet("trials.parquet")
    good = trials[trials["acc"] >= 61]
    expected = [
        row["trial"]
        for _, row in good.iterrows()
        if not ((good["acc"] >= row["acc"]) & (good["lat"] <= row["lat"]) & (good["trial"] != row["trial"])).any()
    ]
    assert sorted(member["trial"] for member in answer["front"]) == expected
    assert len(expected) > 1
    assert [m["acc"] for m in answer["front"]] == sorted((m["acc"] for m in answer["front"]), reverse=True)
    assert {"best"}.isdisjoint(answer)
    assert (answer["evaluations"], answer["met"]) == (25, True)
    lines = succeeds(*asked).stdout.splitlines()
    assert lines[0] == f"Pareto front of 25: {len(expected)} trials; all in trials.parquet"
    first = answer["front"][0]
    assert lines[1] == f"trial {first['trial']}: {first['arch']}  acc {first['acc']:.6g}, lat {first['lat']:.6g}"
    assert len(lines) == 1 + len(expected)


def test_no_front_where_nothing_meets_the_bounds(two_ways: None, listed: Path, succeeds: Run) -> None:
    asked = search("--strategy", "two_ways", "--minimize", "lat", "--at-most", "lat=0.5")
    answer = json.loads(succeeds(*asked, "--json").stdout)
    assert (answer["front"], answer["met"]) == ([], False)
    assert succeeds(*asked).stdout == "8 evaluations in trials.parquet; none meets the bounds\n"


def test_options_reach_the_strategy(listed: Path, succeeds: Run) -> None:
    def archs(*options: object) -> list[str]:
        succeeds(*search("--strategy", "evolution", *options, budget=12))
        return pd.read_parquet("trials.parquet")["arch"].tolist()

    plain, small = archs(), archs("--option", "population=4", "--option", "sample=2")
    assert plain[:4] == small[:4]
    assert plain != small
    assert archs("--option", "population=9", "--option", "population=4", "--option", "sample=2") == small, "the last"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["populatoin=4"], "unknown option of strategy 'evolution' 'populatoin': did you mean 'population'?"),
        (["seed=4"], "unknown option of strategy 'evolution' 'seed'"),
        (["population=many"], "option 'population' must be a whole number, got 'many'"),
        (["population=4.5"], "option 'population' must be a whole number, got '4.5'"),
        (["population"], "expected NAME=VALUE for --option, got 'population'"),
        (["=4"], "expected NAME=VALUE for --option, got '=4'"),
    ],
)
def test_options_that_the_strategy_has_not_are_refused(
    listed: Path, options: list[str], message: str, refused: Refused
) -> None:
    given = [part for option in options for part in ("--option", option)]
    assert message in refused(*search("--strategy", "evolution", *given))


def test_noise_changes_what_is_measured_and_nothing_else(listed: Path, table: pd.DataFrame, succeeds: Run) -> None:
    def values(*options: object) -> pd.DataFrame:
        succeeds(*search(*options))
        return pd.read_parquet("trials.parquet")

    true, both = values(), values("--noise", "0.5")
    assert true["arch"].tolist() == both["arch"].tolist(), "random search does not look at values"
    assert (true["acc"] != both["acc"]).all()
    assert (true["lat"] == both["lat"]).all(), "not a direction"
    other = values("--noise", "lat=0.5")
    assert (true["acc"] == other["acc"]).all()
    assert (true["lat"] != other["lat"]).all()
    again = values("--noise", "0.5")
    assert (again["acc"] == both["acc"]).all()


def test_a_cache_is_filled_used_and_a_table_itself(
    listed: Path, monkeypatch: pytest.MonkeyPatch, succeeds: Run
) -> None:
    succeeds(*search("--cache", "c.parquet"))
    first = pd.read_parquet("trials.parquet")
    assert set(pd.read_parquet("c.parquet")["arch"]) == set(first["arch"])

    def paid(*_: object, **__: object) -> None:
        raise AssertionError("paid for twice")

    with monkeypatch.context() as patch:
        patch.setattr(TabularEvaluator, "evaluate", paid)
        succeeds(*search("--cache", "c.parquet"))
    pd.testing.assert_frame_equal(pd.read_parquet("trials.parquet"), first)
    succeeds(*search("--evaluator", "c.parquet"))
    assert set(pd.read_parquet("trials.parquet")["arch"]) == set(first["arch"])


def test_a_cache_of_another_table_is_refused_and_that_of_a_table_that_grew_is_not(
    listed: Path, succeeds: Run, refused: Callable[..., str]
) -> None:
    table = pd.read_parquet(listed)
    succeeds(*search("--cache", "c.parquet"))
    kept = pd.read_parquet("c.parquet")
    table.assign(lat=table["lat"] + 1).to_parquet("other.parquet", index=False)
    line = refused(*search("--cache", "c.parquet", "--evaluator", "other.parquet"))
    assert re.search(r"'.*' in c\.parquet has lat = [\d.]+, other\.parquet says [\d.]+: give the table", line)
    pd.testing.assert_frame_equal(pd.read_parquet("c.parquet"), kept)
    table[::-1].drop(index=table.index[-1]).to_parquet("other.parquet", index=False)
    succeeds(*search("--cache", "c.parquet", "--evaluator", "other.parquet"))


def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are threads: they start at once."""
    usual = Parallel.__init__.__kwdefaults__
    monkeypatch.setattr(Parallel.__init__, "__kwdefaults__", {**usual, "executor": ThreadPoolExecutor})


def test_workers_change_nothing_but_the_time(listed: Path, succeeds: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    in_threads(monkeypatch)
    columns = ["trial", "arch", "acc", "lat", "state"]
    succeeds(*search("--strategy", "evolution"))
    alone = pd.read_parquet("trials.parquet")[columns]
    succeeds(*search("--strategy", "evolution", "--workers", 3, "--timeout", 100))
    pd.testing.assert_frame_equal(pd.read_parquet("trials.parquet")[columns], alone)


def test_an_asynchronous_search_pays_for_as_many(listed: Path, succeeds: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    in_threads(monkeypatch)
    succeeds(*search("--workers", 3, "--asynchronous", budget=20))
    trials = pd.read_parquet("trials.parquet")
    assert len(trials) == 20
    assert trials["arch"].is_unique


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_search_on_ray_is_the_one_that_runs_here(
    listed: Path, succeeds: Run, refused: Refused, request: pytest.FixtureRequest
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: archgen[distributed]")
    request.addfinalizer(ray.shutdown)
    succeeds(*search("--strategy", "evolution", "--batch", 4))
    columns = ["trial", "arch", "acc", "lat", "state"]
    here = pd.read_parquet("trials.parquet")[columns]
    succeeds(*search("--strategy", "evolution", "--batch", 4, "--ray", "local", "--workers", 2))
    pd.testing.assert_frame_equal(pd.read_parquet("trials.parquet")[columns], here)
    line = refused(*search("--ray", "local", "--resource", "GPU=64"))
    assert "an evaluation asks for CPU=1, GPU=64, more than any node has (CPU=" in line


def test_a_search_by_training(workplace: Path, succeeds: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    few = load_data("digits", limit=100)
    monkeypatch.setattr("archgen.data.load_data", lambda what, *, seed: few)
    base = ["search", "--space", "nasbench201", "--evaluator", "train", "--epochs", 1, "--maximize", "val_acc"]
    asked = [*base, "--strategy", "random", "--budget", 2, "--out", "t.parquet", "--study", "s.db", "--transfer", 0.5]
    answer = json.loads(succeeds(*asked, "--json").stdout)
    trials = pd.read_parquet("t.parquet")
    assert trials["state"].tolist() == ["complete"] * 2
    assert answer["best"]["val_acc"] == trials["val_acc"].max()
    assert len(list(Path("s.db-weights").glob("*.safetensors"))) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--noise", "much"], "expected SD or METRIC=SD, a number of at least 0, for --noise, got 'much'"),
        (["--noise", "-1"], "got '-1'"),
        (["--noise", "=1"], "got '=1'"),
        (["--noise", "latt=1"], "unknown metric 'latt': did you mean 'lat'?"),
        (["--cache", "c.csv"], "c.csv does not end in .parquet"),
        (["--cache", "table.parquet"], "it belongs to another evaluator; name another file"),
        (["--cache", "no/such/folder/c.parquet"], "can not be written"),
        (["--workers", "0"], "--workers"),
        (["--resource", "CPU=2"], "--resource is for --ray"),
        (["--timeout", "0"], "a time-out must be above 0 and at most 1e+08 seconds, got 0"),
        (["--transfer", "0.8"], "--transfer needs --evaluator train"),
        (["--epochs", "20"], "--epochs needs --evaluator train"),
        (["--study", "nodb://host/study"], "nodb://host/study can not be used as a study database"),
        (["--evaluator", "train"], "--partial is for tables"),
    ],
)
def test_search_refuses_bad_wrappers_in_one_line(
    listed: Path, arguments: list[str], message: str, refused: Refused
) -> None:
    assert message in refused(*search(*arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "table.parquet"], "table.parquet is what the command reads"),
        (["--study", "s.db", "--resume", "--out", "s.db"], "s.db is what the command reads"),
        (["--study", "sqlite:///s.db", "--resume", "--out", "s.db"], "s.db is what the command reads"),
        (["--cache", "c.parquet", "--out", "c.parquet"], "c.parquet is what the command reads"),
        (["--out", "trials.db"], "end in .parquet or .csv, got trials.db"),
    ],
)
def test_a_search_does_not_write_over_what_it_reads(
    listed: Path, contents: Callable[..., object], succeeds: Run, refused: Refused, arguments: list[str], message: str
) -> None:
    succeeds(*search("--study", "s.db", "--cache", "c.parquet"))
    before = contents(Path())
    assert message in refused(*search(*arguments))
    assert contents(Path()) == before


def test_a_study_goes_on_with_its_own_table(listed: Path, table: pd.DataFrame, succeeds: Run, refused: Refused) -> None:
    succeeds(*search("--study", "s.db"))
    table.assign(acc=-table["acc"]).to_parquet("table.parquet")
    assert "go on with the table that it began with" in refused(*search("--study", "s.db", "--resume", budget=9))
    table.assign(extra=1.0).to_parquet("table.parquet")
    succeeds(*search("--study", "s.db", "--resume", budget=9))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "bananas", "--option", "candidates=1000000000000"], "must be at most 1,000,000"),
        (["--strategy", "generative", "--option", f"steps={10**40}"], "must be at most 1,000,000"),
        (["--budget", 10**20], "--budget"),
        (["--batch", 10**20], "--batch"),
        (["--timeout", "1e10"], "at most 1e+08 seconds"),
    ],
)
def test_numbers_beyond_all_use_are_refused(
    listed: Path, refused: Refused, arguments: list[object], message: str
) -> None:
    assert message in refused(*search(*arguments))


def test_a_search_by_training_knows_its_metrics(workplace: Path, refused: Refused) -> None:
    base = ["search", "--space", "nasbench201", "--evaluator", "train", "--budget", 2, "--out", "t.parquet"]
    assert "unknown metric 'acc': did you mean 'val_acc'?" in refused(*base, "--maximize", "acc")
    assert "must be in (0, 1], got 2.0" in refused(*base, "--maximize", "val_acc", "--transfer", 2)


# -- a part of a space that is too large to list


@pytest.mark.parametrize("strategy", ["random", "evolution", "local", "nsga2"])
def test_a_table_of_a_few_of_a_huge_space_is_searched_to_its_last_row(strategy: str, succeeds: Run) -> None:
    space = load_space("mobilenetv3@32")
    archs = list(dict.fromkeys(space.sample(40, np.random.default_rng(0))))
    texts = [space.format(arch) for arch in archs]
    pd.DataFrame({"arch": texts, "acc": np.arange(40.0)}).to_parquet("few.parquet", index=False)
    few = ("search", "--space", "mobilenetv3@32", "--evaluator", "few.parquet", "--maximize", "acc", "--partial")
    outcome = succeeds(*few, "--strategy", strategy, "--budget", 40, "--out", "t.parquet")
    assert set(pd.read_parquet("t.parquet")["arch"]) == set(texts)
    assert outcome.stdout.startswith("best of 40")


def test_only_what_a_table_lists_of_a_huge_space_is_proposed_from() -> None:
    small, huge = load_space("nasbench201"), load_space("darts")
    for space, kind in ((small, type(small)), (huge, ListedSpace)):
        archs = space.sample(5, np.random.default_rng(0))
        rows = pd.DataFrame({"arch": [space.format(arch) for arch in dict.fromkeys(archs)], "acc": 1.0})
        rows.to_parquet("few.parquet", index=False)
        table = TabularEvaluator(space, Path("few.parquet"), partial=True)
        assert type(searchable(space, Noisy(table, {"acc": 0.1}))) is kind
