"""Runs are whole or refused, and are named by their columns or their files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from archgen.errors import InvalidTable, UnknownMetric
from archgen.objectives import at_most, maximize
from archgen.runs import Runs, read_trials


def trials(strategies: str = "ab", seeds: int = 2, n: int = 3) -> pd.DataFrame:
    rows = [
        {"strategy": name, "seed": seed, "trial": i, "acc": 10.0 * seed + i, "lat": float(i), "state": "complete"}
        for name in strategies
        for seed in range(seeds)
        for i in range(n)
    ]
    return pd.DataFrame(rows)


def test_values_are_a_row_a_seed_in_the_order_evaluated_however_the_rows_come() -> None:
    shuffled = trials().sample(frac=1, random_state=0)
    runs = Runs(shuffled)
    assert set(runs.strategies) == {"a", "b"}
    assert (runs.seeds, runs.budget, runs.metrics) == ((0, 1), 3, ("acc", "lat"))
    assert runs.values("acc")["b"].tolist() == [[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]]


def test_trials_that_failed_or_break_a_bound_have_no_value() -> None:
    frame = trials("a", 1)
    frame.loc[0, "state"] = "failed"
    values = Runs(frame).values("acc", [maximize("acc"), at_most("lat", 1.0)])["a"]
    np.testing.assert_array_equal(values, [[np.nan, 1.0, np.nan]])


def test_a_file_that_does_not_say_has_complete_trials_and_needs_the_metric() -> None:
    silent = trials("b").drop(columns="state")
    runs = Runs(pd.concat([trials("a"), silent], ignore_index=True))
    np.testing.assert_array_equal(runs.values("acc")["b"], runs.values("acc")["a"])
    runs = Runs(pd.concat([trials("a"), trials("b").drop(columns="acc")], ignore_index=True))
    with pytest.raises(InvalidTable, match="'b' with seed 0 has no value of 'acc'"):
        runs.values("acc")


def test_a_metric_that_trials_have_not_is_refused() -> None:
    with pytest.raises(UnknownMetric, match="did you mean 'acc'"):
        Runs(trials()).values("acd")
    with pytest.raises(UnknownMetric, match="unknown metric 'latency'"):
        Runs(trials()).values("acc", [at_most("latency", 1.0)])


def test_a_seed_that_one_strategy_lacks_is_an_error() -> None:
    frame = trials()
    with pytest.raises(InvalidTable, match="'b' has no run of seed 1"):
        Runs(frame[~((frame["strategy"] == "b") & (frame["seed"] == 1))])
    with pytest.raises(InvalidTable, match="'a' has no run of seed 2, 3"):
        Runs(frame, seeds=range(4))


def test_a_run_that_was_cut_off_is_an_error_unless_fewer_trials_of_all_are_compared() -> None:
    frame = trials().iloc[:-1]
    with pytest.raises(InvalidTable, match="'b' with seed 1 has 2 trials where 3 were expected"):
        Runs(frame)
    assert Runs(frame, budget=2).values("acc")["b"].tolist() == [[0.0, 1.0], [10.0, 11.0]]


def test_trials_missing_in_the_middle_or_there_twice_are_an_error() -> None:
    for lost in (trials(n=4).query("trial != 1"), trials().assign(trial=[0, 1, 1] * 4)):
        with pytest.raises(InvalidTable, match="has trials missing or twice"):
            Runs(lost)


def test_tables_of_something_else_are_refused() -> None:
    with pytest.raises(InvalidTable, match="with a column 'seed'"):
        Runs(trials().drop(columns="seed"))
    with pytest.raises(InvalidTable, match="at least one trial"):
        Runs(trials().iloc[:0])


def test_overhead_is_a_mean_over_trials_and_unknown_where_any_is() -> None:
    frame = trials("a").assign(overhead_seconds=[0.0, 0.5, 1.0, 0.0, 0.0, 3.0])
    overhead = Runs(frame).overhead_seconds()
    assert overhead is not None
    assert overhead["a"].tolist() == [0.5, 1.0]
    assert Runs(frame.replace(3.0, np.nan)).overhead_seconds() is None
    assert Runs(trials()).overhead_seconds() is None


@pytest.mark.parametrize(
    ("name", "strategy", "seed"),
    [
        ("bayes-3.parquet", "bayes", 3),
        ("bayes_seed3.csv", "bayes", 3),
        ("bayes.07.csv", "bayes", 7),
        ("bayes seed 12.csv", "bayes", 12),
        ("bayes/seed_003.parquet", "bayes", 3),
        ("bayes/3.csv", "bayes", 3),
        ("nsga2.parquet", "nsga2", 0),
        ("nsga2-1.parquet", "nsga2", 1),
        ("trials.csv", "trials", 0),
    ],
)
def test_a_file_without_columns_for_it_names_its_strategy_and_seed(
    tmp_path: Path, name: str, strategy: str, seed: int
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    frame = pd.DataFrame({"trial": [0, 1], "arch": ["01", "02"], "acc": [1.0, 2.0]})
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path, index=False)
    read = read_trials([path])
    assert set(read["strategy"]) == {strategy}
    assert set(read["seed"]) == {seed}
    assert read["arch"].tolist() == ["01", "02"]


def test_columns_of_a_file_go_before_its_name(tmp_path: Path) -> None:
    trials().to_parquet(tmp_path / "all-5.parquet")
    trials("c").to_csv(tmp_path / "c.csv", index=False)
    runs = Runs(read_trials([tmp_path / "all-5.parquet", tmp_path / "c.csv"]))
    assert (runs.strategies, runs.seeds) == (("a", "b", "c"), (0, 1))


def test_a_run_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        trials("x", 1).to_csv(tmp_path / name, index=False)
    with pytest.raises(InvalidTable, match=r"b\.csv and .*a\.csv both hold seed 0 of 'x'"):
        read_trials([tmp_path / "a.csv", tmp_path / "b.csv"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", "", "neither .parquet nor .csv"),
        ("none.csv", None, "is not a file"),
        ("t.csv", "", "can not be read as a csv table"),
        ("t.csv", "arch,acc\nx,1\n", "no column 'trial'"),
        ("t.csv", "trial,acc\n", "no rows"),
        ("t.csv", "trial,seed\n0,1.5\n", "'seed' must hold whole numbers"),
        ("t.csv", "trial,strategy\n0,a\n1,\n", "'strategy' names, without gaps"),
        ("t.parquet", "not parquet", "can not be read as a parquet table"),
    ],
)
def test_files_of_something_else_are_refused_by_name(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InvalidTable, match=message) as refused:
        read_trials([tmp_path / name])
    assert name in str(refused.value)
