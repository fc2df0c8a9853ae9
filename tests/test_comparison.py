"""Tables of a comparison by hand: rows a run, rows a strategy, curves and Markdown."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from archgen.comparison import markdown, mean_curves, per_run, summarise
from archgen.errors import ArchgenError, InvalidObjective, UnknownMetric, UnknownName
from archgen.gaps import Gaps, find_gaps
from archgen.objectives import at_least, maximize, minimize
from archgen.runs import Runs
from archgen.statistics import holm, signed_rank

WISH = [maximize("acc")]


def runs(strategies: dict[str, Sequence[Sequence[float]]], **extra: float) -> Runs:
    """Validation accuracies, a row a seed; test accuracy is 100 less the number of the trial."""
    rows = [
        {"strategy": name, "seed": seed, "trial": i, "acc": value, "test": 100.0 - i, **extra}
        for name, values in strategies.items()
        for seed, run in enumerate(values)
        for i, value in enumerate(run)
    ]
    return Runs(pd.DataFrame(rows))


def test_a_row_a_run_says_when_the_best_was_found_and_the_gap_at_each_budget() -> None:
    found = runs({"a": [[1.0, 5.0, 2.0, 5.0], [4.0, 3.0, 2.0, 1.0]]}, overhead_seconds=0.25)
    table = per_run(found, WISH, find_gaps(found, WISH), at=(1, 2, 9))
    assert table.to_dict("list") == {
        "strategy": ["a", "a"],
        "seed": [0, 1],
        "best_at": [2.0, np.inf],
        "regret@1": [4.0, 1.0],
        "regret@2": [0.0, 1.0],
        "overhead_seconds": [0.25, 0.25],
    }
    assert per_run(found, WISH, find_gaps(found, WISH), at=(1,), tolerance=1.0)["best_at"].tolist() == [2.0, 1.0]


def test_the_whole_budget_stands_in_for_budgets_beyond_it() -> None:
    found = runs({"a": [[1.0, 5.0]]})
    assert list(per_run(found, WISH, find_gaps(found, WISH), at=(64,)).columns[3:]) == ["regret@2"]
    with pytest.raises(ArchgenError, match="at least 1"):
        per_run(found, WISH, find_gaps(found, WISH), at=(0,))


def test_another_metric_is_that_of_the_first_best_so_far_and_stands_beside_its_relative_improvement() -> None:
    found = runs({"a": [[1.0, 5.0, 5.0, 6.0], [2.0, 1.0, 3.0, 0.0]]})
    table = per_run(found, WISH, find_gaps(found, WISH), at=(1, 3, 4), shown="test", random_mean=80.0)
    assert table[["test@1", "test@3", "test@4"]].to_numpy().tolist() == [[100.0, 99.0, 97.0], [100.0, 98.0, 98.0]]
    assert table["relative_improvement@3"].tolist() == pytest.approx([100 * 19 / 80, 100 * 18 / 80])


def test_of_a_minimised_metric_the_incumbent_is_the_smallest() -> None:
    found = runs({"a": [[3.0, 1.0, 2.0]]})
    wishes = [minimize("acc")]
    assert per_run(found, wishes, find_gaps(found, wishes), at=(3,), shown="test")["test@3"].tolist() == [99.0]


def test_before_anything_meets_the_bounds_there_is_no_incumbent_and_no_mean() -> None:
    found = runs({"a": [[1.0, 5.0], [1.0, 1.0]], "b": [[5.0, 5.0], [5.0, 5.0]]})
    wishes = [maximize("acc"), at_least("acc", 3.0)]
    table = per_run(found, wishes, find_gaps(found, wishes), at=(1, 2), shown="test")
    np.testing.assert_array_equal(table["test@2"], [99.0, np.nan, 100.0, 100.0])
    np.testing.assert_array_equal(table["regret@2"], [0.0, np.inf, 0.0, 0.0])
    summary = summarise(table, reference="b", tested="regret@2").set_index("strategy")
    assert np.isnan(summary.loc["a", ["test@2", "test@2_low", "test@2_high"]].astype(float)).all()
    assert summary.loc["a", "regret@2"] == np.inf


def test_only_one_direction_has_an_incumbent_and_its_metric_must_be_there() -> None:
    found = runs({"a": [[1.0, 5.0]]})
    both = [maximize("acc"), maximize("test")]
    with pytest.raises(InvalidObjective, match="'test' of the best trial needs one direction, got 2"):
        per_run(found, both, find_gaps(found, both), shown="test")
    with pytest.raises(UnknownMetric, match="did you mean 'test'"):
        per_run(found, WISH, find_gaps(found, WISH), shown="tests")


def table(**regrets: Sequence[float]) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"strategy": name, "seed": range(len(r)), "best_at": r, "regret@64": r})
        for name, r in regrets.items()
    ]
    return pd.concat(parts, ignore_index=True)


def test_a_row_a_strategy_counts_failures_as_infinite_and_tests_against_the_reference() -> None:
    rng = np.random.default_rng(0)
    values = {"mine": rng.uniform(0, 1, 12), "near": rng.uniform(0, 1, 12), "far": rng.uniform(2, 3, 12)}
    frame = table(**values)
    frame["best_at"] = [10.0] * 11 + [np.inf] + [20.0] * 6 + [np.inf] * 6 + [30.0] * 12
    summary = summarise(frame, reference="mine", tested="regret@64").set_index("strategy")
    assert summary["runs"].tolist() == [12, 12, 12]
    assert summary["found"].tolist() == [11, 6, 12]
    assert summary["best_at"].tolist() == [10.0, np.inf, 30.0]
    assert summary["regret@64"].tolist() == pytest.approx([v.mean() for v in values.values()])
    assert (summary["regret@64_low"] < summary["regret@64"]).all()
    assert (summary["regret@64"] < summary["regret@64_high"]).all()
    tests = [signed_rank(values[name], values["mine"]) for name in ("near", "far")]
    assert summary["p"].tolist()[1:] == pytest.approx(holm([test.p for test in tests]))
    assert summary["effect"].tolist()[1:] == pytest.approx([test.effect for test in tests])
    assert summary.loc["far", "effect"] == 1.0
    assert np.isnan(summary.loc["mine", "p"])


def test_rows_pair_by_seed_however_they_are_sorted_and_a_csv_says_the_same() -> None:
    frame = table(a=[1.0, 2.0, 3.0, np.inf], b=[2.0, 3.0, 4.0, 5.0])
    expected = summarise(frame, reference="a", tested="regret@64")
    shuffled = pd.concat([frame.iloc[:4], frame.iloc[4:].sample(frac=1, random_state=1)])
    written = pd.read_csv(io.StringIO(shuffled.to_csv(index=False)))
    pd.testing.assert_frame_equal(summarise(written, reference="a", tested="regret@64"), expected)


def test_a_seed_that_is_missing_is_an_error() -> None:
    with pytest.raises(ArchgenError, match="'b' and 'a' have other seeds"):
        summarise(table(a=[1.0, 2.0], b=[1.0]), reference="a", tested="regret@64")


def test_unknown_references_and_columns_get_a_hint() -> None:
    with pytest.raises(UnknownName, match="did you mean 'abc'"):
        summarise(table(abc=[1.0]), reference="abd", tested="regret@64")
    with pytest.raises(UnknownName, match="did you mean 'regret@64'"):
        summarise(table(abc=[1.0]), reference="abc", tested="regret@65")


def test_curves_are_means_over_seeds_inside_their_bands_and_end_at_the_budget() -> None:
    curves = np.random.default_rng(0).uniform(1, 2, (10, 200))
    series, bands = mean_curves(Gaps("regret", {"a": curves}, 0.0))
    x, mean = series["a"]
    assert (x[0], x[-1], len(set(x.tolist()))) == (1.0, 200.0, len(x))
    np.testing.assert_allclose(mean, curves.mean(0)[x.astype(int) - 1])
    low, high = bands["a"]
    assert ((low < mean) & (mean < high)).all()


def test_markdown_is_a_table_with_intervals_in_brackets() -> None:
    frame = pd.DataFrame(
        {
            "strategy": ["generative", "random"],
            "runs": [30, 30],
            "best_at": [32.5, np.inf],
            "best_at_low": [30.0, np.inf],
            "best_at_high": [40.0, np.inf],
            "p": [np.nan, 0.00012345],
        }
    )
    assert markdown(frame).splitlines() == [
        "| strategy   | runs | best_at       | p        |",
        "| ---------- | ---- | ------------- | -------- |",
        "| generative | 30   | 32.5 [30, 40] | –        |",
        "| random     | 30   | ∞             | 0.000123 |",
    ]
