"""Tables of measurements: what is read from them and which ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from archgen.config import data_dir
from archgen.errors import InvalidTable, UnknownMetric
from archgen.evaluators import TabularEvaluator, read_labels
from archgen.graph import Architecture
from archgen.spaces import CellSpace, load

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 10, "in_channels": 3, "image_size": 8}


@pytest.fixture(scope="module")
def space() -> CellSpace:
    """27 cells of three nodes."""
    return CellSpace("small", 3, ROLES, NETWORK, "", "")


@pytest.fixture
def frame(space: CellSpace) -> pd.DataFrame:
    archs = [space.format(arch) for arch in space.enumerate()]
    return pd.DataFrame(
        {
            "arch": archs[::-1],
            "index": range(27),
            "val_acc": np.linspace(50, 90, 27),
            "params": range(1000, 1027),
            "note": ["text"] * 27,
            "done": [True] * 27,
        }
    )


def written(path: Path, frame: pd.DataFrame) -> Path:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return path


def fails(space: CellSpace, path: Path, *words: str, **kwargs: Any) -> None:
    """The table is refused in one line that has all the words."""
    with pytest.raises(InvalidTable) as caught:
        TabularEvaluator(space, path, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in (str(path), *words) if word not in message] == [], message


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_numeric_columns_are_metrics_and_are_looked_up(
    space: CellSpace, frame: pd.DataFrame, tmp_path: Path, suffix: str
) -> None:
    evaluator = TabularEvaluator(space, written(tmp_path / f"t.{suffix}", frame), needed=["val_acc", "params"])
    assert evaluator.metrics == ("val_acc", "params")
    archs = evaluator.architectures
    assert [space.format(arch) for arch in archs] == frame["arch"].tolist()
    measured = evaluator.evaluate([archs[5], archs[2]], seed=0)
    assert [m.values for m in measured] == [
        {"val_acc": pytest.approx(frame["val_acc"][row]), "params": 1000.0 + row} for row in (5, 2)
    ]
    assert all(m.error is None and 0 <= m.cost_seconds < 10 for m in measured)
    assert all(type(value) is float for m in measured for value in m.values.values())


def test_the_tables_own_cost_is_the_cost_and_no_metric(space: CellSpace, frame: pd.DataFrame, tmp_path: Path) -> None:
    frame["cost_seconds"] = range(100, 127)
    evaluator = TabularEvaluator(space, written(tmp_path / "t.parquet", frame))
    assert "cost_seconds" not in evaluator.metrics
    assert evaluator.evaluate([evaluator.architectures[3]], seed=0)[0].cost_seconds == 103.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_a_cost_that_is_none_is_refused(space: CellSpace, frame: pd.DataFrame, tmp_path: Path, value: float) -> None:
    frame["cost_seconds"] = [1.0] * 20 + [value] * 7
    fails(space, written(tmp_path / "t.parquet", frame), "7 rows", "row 21", "cost_seconds")
    frame["cost_seconds"] = "long"
    fails(space, written(tmp_path / "t.parquet", frame), "cost_seconds", "numbers")


def test_a_metric_that_is_not_finite_in_a_row_is_left_out_of_that_row(
    space: CellSpace, frame: pd.DataFrame, tmp_path: Path
) -> None:
    frame["latency"] = [np.nan, np.inf] + [1.5] * 25
    frame["whole"] = pd.array([None] + [3] * 26, dtype="Int64")
    evaluator = TabularEvaluator(space, written(tmp_path / "t.parquet", frame), needed=["val_acc"])
    first, second, third = evaluator.evaluate(evaluator.architectures[:3], seed=0)
    assert set(first.values) == {"val_acc", "params"}
    assert set(second.values) == {"val_acc", "params", "whole"}
    assert set(third.values) == {"val_acc", "params", "whole", "latency"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_needed_metric_must_be_finite(
    space: CellSpace, frame: pd.DataFrame, tmp_path: Path, value: float, suffix: str
) -> None:
    frame.loc[[4, 9], "val_acc"] = value
    path = written(tmp_path / f"t.{suffix}", frame)
    fails(space, path, "2 rows have", "'val_acc'", "row 5", needed=["params", "val_acc"])
    assert TabularEvaluator(space, path, needed=["params"]).metrics == ("val_acc", "params")


def test_a_needed_metric_must_be_a_metric_column(space: CellSpace, frame: pd.DataFrame, tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", frame)
    for name in ("val_ac", "index", "arch"):
        with pytest.raises(UnknownMetric, match=f"unknown metric '{name}'.*params, val_acc"):
            TabularEvaluator(space, path, needed=[name])
    fails(space, path, "27 rows", "'note'", "row 1", needed=["note"])
    frame["val_acc"] = frame["val_acc"].astype(object)
    frame.loc[6, "val_acc"] = "ninety"
    fails(space, written(path, frame), "1 row has", "'val_acc'", "row 7", needed=["val_acc"])
    frame["val_acc"] = "90.5"
    fails(space, written(tmp_path / "t.parquet", frame), "27 rows", "numeric", needed=["val_acc"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="arch"), ["no column 'arch'", "index, val_acc"]),
        (lambda f: f[:0], ["no rows"]),
        (lambda f: f[["arch", "index", "note", "done"]], ["no numeric column"]),
        (lambda f: f.assign(arch=[None, *f["arch"][1:26], " "]), ["2 rows have no architecture", "row 1"]),
        (lambda f: pd.concat([f, f[3:5]]), ["2 rows have", "listed before", "row 28", "keep one"]),
        (
            lambda f: f.assign(arch=[*f["arch"][:8], "|x~0|", *f["arch"][9:]]),
            ["1 row has", "row 9", "expected 2 groups"],
        ),
        (
            lambda f: f.assign(arch=f["arch"].str.replace("skip_connect", "sep_conv")),
            ["19 rows have", "none of small", "unknown operation", "sep_conv"],
        ),
    ],
)
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_broken_table_is_refused_with_the_count_and_the_first_row(
    space: CellSpace,
    frame: pd.DataFrame,
    tmp_path: Path,
    change: Callable[[pd.DataFrame], pd.DataFrame],
    words: list[str],
    suffix: str,
) -> None:
    fails(space, written(tmp_path / f"t.{suffix}", change(frame)), *words)


def test_one_architecture_in_two_spellings_is_a_duplicate(
    space: CellSpace, frame: pd.DataFrame, tmp_path: Path
) -> None:
    frame.loc[26, "arch"] = f" {frame['arch'][0]} "
    fails(space, written(tmp_path / "t.parquet", frame), "1 row has", "row 27", "listed before", partial=True)


def test_an_incomplete_table_is_searched_only_as_a_partial_one(
    space: CellSpace, frame: pd.DataFrame, tmp_path: Path
) -> None:
    path = written(tmp_path / "t.parquet", frame[2:])
    absent = [space.parse(text) for text in frame["arch"][:2]]
    with pytest.raises(InvalidTable, match=r"25 of the 27 .*--partial") as caught:
        TabularEvaluator(space, path)
    assert any(f"'{space.format(arch)}'" in str(caught.value) for arch in absent)
    evaluator = TabularEvaluator(space, path, partial=True)
    listed = evaluator.architectures
    assert len(listed) == 25
    assert all(evaluator.can_evaluate(arch) for arch in listed)
    assert not any(evaluator.can_evaluate(arch) for arch in absent)
    good, bad = evaluator.evaluate([listed[0], absent[0]], seed=0)
    assert good.error is None
    assert bad.values == {}
    assert bad.error is not None
    assert "does not list" in bad.error


def test_an_architecture_of_another_space_fails_alone(space: CellSpace, frame: pd.DataFrame, tmp_path: Path) -> None:
    evaluator = TabularEvaluator(space, written(tmp_path / "t.parquet", frame))
    foreign = Architecture("elsewhere", ("input", "output"), ((0, 1),))
    bad, good = evaluator.evaluate([foreign, evaluator.architectures[0]], seed=0)
    assert good.error is None
    assert bad.error is not None
    assert "elsewhere" in bad.error


def test_a_large_space_needs_no_complete_table(tmp_path: Path) -> None:
    space = CellSpace("large", 6, ROLES, NETWORK, "", "")
    assert space.size > 1_000_000
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"arch": [space.format(a) for a in space.sample(20, rng)], "val_acc": range(20)})
    assert len(TabularEvaluator(space, written(tmp_path / "t.csv", frame)).architectures) == 20


def test_a_csv_with_its_row_numbers_does_not_make_them_a_metric(
    space: CellSpace, frame: pd.DataFrame, tmp_path: Path
) -> None:
    frame.to_csv(tmp_path / "t.csv")
    assert TabularEvaluator(space, tmp_path / "t.csv").metrics == ("val_acc", "params")


def test_what_is_no_table_is_refused(space: CellSpace, frame: pd.DataFrame, tmp_path: Path) -> None:
    fails(space, tmp_path / "none.csv", "not a file")
    (tmp_path / "folder.parquet").mkdir()
    fails(space, tmp_path / "folder.parquet", "not a file")
    (tmp_path / "t.json").write_text("{}")
    fails(space, tmp_path / "t.json", "neither .parquet nor .csv")
    whole = written(tmp_path / "t.parquet", frame).read_bytes()
    for content in (b"", b"arch,val_acc\n", whole[: len(whole) // 2]):
        (tmp_path / "t.parquet").write_bytes(content)
        fails(space, tmp_path / "t.parquet", "can not be read as a parquet table")
    for content in (b"", b"\xff\xfe\x00", b"arch,val_acc\na,1\nb,2,3,4\n"):
        (tmp_path / "t.csv").write_bytes(content)
        fails(space, tmp_path / "t.csv", "can not be read as a csv table")


def test_the_published_nasbench201_table_is_complete() -> None:
    folder = data_dir()
    if folder is None or not (folder / "nasbench201" / "accuracy.parquet").is_file():
        pytest.skip("the benchmark tables are absent")
    space = load("nasbench201")
    evaluator = TabularEvaluator(space, folder / "nasbench201" / "accuracy.parquet", needed=["cifar10_val_acc"])
    assert "index" not in evaluator.metrics
    assert len(evaluator.architectures) == 15_625
    found = evaluator.evaluate(evaluator.architectures, seed=0)
    assert max(m.values["cifar10_val_acc"] for m in found) == pytest.approx(91.607, abs=1e-3)
    assert max(m.values["cifar10_test_acc"] for m in found) == pytest.approx(94.373, abs=1e-3)


def test_labels_with_gaps_are_the_means_of_what_is_known(space: CellSpace, frame: pd.DataFrame, tmp_path: Path) -> None:
    twice = pd.concat([frame, frame.iloc[:2].assign(val_acc=[60.0, np.nan])])
    twice.iloc[5, twice.columns.get_loc("val_acc")] = np.nan
    twice.to_csv(tmp_path / "t.csv", index=False)
    labels = read_labels(space, tmp_path / "t.csv", ["val_acc"], gaps=True)
    assert labels.averaged == 2
    expected = frame["val_acc"].to_numpy().copy()
    expected[[0, 5]] = (50 + 60) / 2, np.nan
    np.testing.assert_allclose(labels.values["val_acc"], expected)
    with pytest.raises(InvalidTable, match="2 rows have NaN or an infinite value in 'val_acc'"):
        read_labels(space, tmp_path / "t.csv", ["val_acc"])
