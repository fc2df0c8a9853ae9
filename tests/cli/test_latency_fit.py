"""`archgen latency fit`, `evaluate` and `suggest` on tables of a known law."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest

from archgen import spaces
from archgen.predictors import LatencyPredictor, load_predictor

Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]
SPACE = spaces.load("nasbench201")
DEVICES = ("phone", "tablet")


@pytest.fixture
def table(workplace: Path) -> Path:
    archs = SPACE.sample(120, np.random.default_rng(0))
    flops = np.array([SPACE.count(arch)["flops"] for arch in archs])
    noise = np.exp(0.02 * np.random.default_rng(1).standard_normal((2, 120)))
    frame = pd.DataFrame({"arch": [SPACE.format(arch) for arch in archs]})
    frame["phone"], frame["tablet"] = (0.5 + flops / 1e8) * noise[0], (0.4 + flops / 1.2e8) * noise[1]
    frame.to_parquet("devices.parquet")
    return workplace / "devices.parquet"


def test_evaluate_prints_the_figures_of_the_unseen_rows(table: Path, succeeds: Run) -> None:
    arguments = ["latency", "evaluate", "--space", "nasbench201", "--table", table, "--target", "phone", "-n", 20]
    alone = json.loads(succeeds(*arguments, "--json").stdout)
    helped = json.loads(succeeds(*arguments, "--sources", "tablet", "--json").stdout)
    assert {"spearman_rho", "median_relative_error", "coverage_90"} <= alone.keys()
    assert alone["unseen"] == helped["unseen"] == 100
    assert helped["spearman_rho"] > 0.97
    assert helped["median_relative_error"] < alone["median_relative_error"] + 0.5
    assert "spearman_rho 0.9" in succeeds(*arguments, "--sources", "tablet").stdout


def test_fit_writes_a_checkpoint_that_predicts(table: Path, succeeds: Run) -> None:
    outcome = succeeds(
        "latency", "fit", "--space", "nasbench201", "--table", table, "--target", "phone", "--out", "mine"
    )
    assert outcome.stdout.startswith("mine: latency_ms@phone from 120 measurements, left-out error ")
    predictor = load_predictor(Path("mine"), SPACE)
    assert isinstance(predictor, LatencyPredictor)
    frame = pd.read_parquet(table)
    mean = predictor.predict([SPACE.parse(text) for text in frame["arch"]]).mean
    assert np.median(np.abs(mean / frame["phone"] - 1)) < 0.05


def test_a_column_that_is_called_latency_keeps_its_name(table: Path, succeeds: Run) -> None:
    pd.read_parquet(table).rename(columns={"phone": "latency_ms"}).to_parquet(table)
    arguments = ["latency", "fit", "--space", "nasbench201", "--table", table, "--target", "latency_ms"]
    assert succeeds(*arguments, "--out", "a").stdout.startswith("a: latency_ms from 120 measurements")
    assert succeeds(*arguments, "--out", "b", "--metric", "latency_ms@desk").stdout.startswith("b: latency_ms@desk ")


def test_suggestions_go_into_a_table(succeeds: Run) -> None:
    first = succeeds("latency", "suggest", "--space", "nasbench201", "-n", 5, "--out", "next.csv")
    texts = pd.read_csv("next.csv")["arch"].tolist()
    assert first.stdout.splitlines() == texts
    again = succeeds("latency", "suggest", "--space", "nasbench201", "-n", 5, "--measured", "next.csv")
    assert not set(again.stdout.splitlines()) & set(texts)


def test_repeated_rows_are_averaged_and_that_is_said(table: Path, succeeds: Run) -> None:
    frame = pd.read_parquet(table)
    pd.concat([frame, frame[:3]]).to_parquet(table)
    outcome = succeeds("latency", "evaluate", "--space", "nasbench201", "--table", table, "--target", "phone", "-n", 20)
    assert "3 rows of" in outcome.stderr
    assert "averaged" in outcome.stderr


@pytest.mark.parametrize(
    ("spoil", "more", "message"),
    [
        (lambda f: f.assign(phone=2.0), [], "'phone' is 2 in every row; there is nothing to learn"),
        (lambda f: f.assign(tablet=2.0), ["--sources", "tablet"], "'tablet' is 2 in every row"),
        (
            lambda f: f.assign(phone=f["phone"] * 1e305),
            [],
            "a value of 'phone' beyond 1e+100 or nearer to 0 than its inverse (the first is row 1): give another unit",
        ),
        (lambda f: f[:15], [], "the table has 15 architectures; give n from 2 to 13"),
        (lambda f: f[:3], ["-n", 5], "the table has 3 architectures; add some"),
        (lambda f: f.assign(phone=f["phone"].where(f.index != 4)), [], "1 row has NaN or an infinite value in 'phone'"),
        (lambda f: f.assign(phone=-f["phone"]), [], "120 latencies that are not above 0 ms"),
        (lambda f: f.assign(phone="slow"), [], "column 'phone' does not hold numbers"),
        (lambda f: f, ["--sources", "tablte"], "unknown metric 'tablte': did you mean 'tablet'?"),
        (lambda f: f, ["--sources", "phone"], "phone is the target, so it can not be a source too"),
        (lambda f: f, ["--target", "pone"], "did you mean 'phone'?"),
        (lambda f: f.assign(arch="resnet"), [], "120 rows have an architecture that is none of nasbench201"),
    ],
)
def test_bad_tables_are_refused_in_one_line(
    table: Path,
    refused: Refused,
    spoil: Callable[[pd.DataFrame], pd.DataFrame],
    more: list[str],
    message: str,
) -> None:
    spoil(pd.read_parquet(table)).to_parquet(table)
    arguments = ["latency", "evaluate", "--space", "nasbench201", "--table", table, "--target", "phone", "-n", 20]
    assert message in refused(*arguments, *more)


def test_devices_of_one_file_are_kept_apart(table: Path, succeeds: Run, refused: Refused) -> None:
    one, other = (pd.read_parquet(table)[["arch", name]].set_axis(["arch", "latency_ms"], axis=1) for name in DEVICES)
    pd.concat([one.assign(device="a1"), other.assign(device="b2")]).to_parquet(table)
    fit = ["latency", "fit", "--space", "nasbench201", "--table", table, "--target", "latency_ms"]
    assert "holds latencies of 2 devices (a1, b2)" in refused(*fit, "--out", "mine")
    assert "unknown device 'b1': did you mean" in refused(*fit, "--out", "mine", "--device", "b1")
    assert "from 120 measurements" in succeeds(*fit, "--out", "mine", "--device", "b2").stdout
    predicted = load_predictor(Path("mine"), SPACE).predict([SPACE.parse(text) for text in other["arch"]]).mean
    assert np.abs(predicted / other["latency_ms"] - 1).median() < 0.02
    suggest = ["latency", "suggest", "--space", "nasbench201", "-n", 3, "--measured", table]
    assert not set(succeeds(*suggest).stdout.split()) & set(one["arch"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--metric", "a/b"], "a metric's name becomes a folder's"),
        (["--metric", ""], "a metric's name becomes a folder's"),
        (["--out", "devices.parquet/mine"], "devices.parquet is not a folder with write permission"),
    ],
)
def test_a_fit_that_could_not_be_kept_is_refused_first(
    table: Path, refused: Refused, more: list[str], message: str
) -> None:
    fit = ["latency", "fit", "--space", "nasbench201", "--table", table, "--target", "phone", "--out", "mine"]
    assert message in refused(*fit, *more)


def test_a_name_that_is_no_text_is_written_down_all_the_same(table: Path, succeeds: Run) -> None:
    named = table.with_name(os.fsdecode(b"t\xff.csv"))
    pd.read_parquet(table).to_csv(named, index=False)
    succeeds("latency", "fit", "--space", "nasbench201", "--table", named, "--target", "phone", "--out", "mine")
    assert "of t\\udcff.csv" in Path("mine/README.md").read_text()


def test_suggestions_are_a_table_that_can_be_read(refused: Refused) -> None:
    assert "end in .parquet or .csv, got a.txt" in refused(
        "latency", "suggest", "--space", "nasbench201", "-n", 2, "--out", "a.txt"
    )


def test_a_folder_of_something_else_is_left_alone(table: Path, refused: Refused) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    arguments = ["latency", "fit", "--space", "nasbench201", "--table", table, "--target", "phone", "--out", "mine"]
    assert "holds something that is not a predictor's checkpoint" in refused(*arguments)
    assert "unknown way to suggest 'size'" in refused("latency", "suggest", "--space", "nasbench201", "--by", "size")
