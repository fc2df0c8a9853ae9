"""`archgen compare` tells strategies apart by what `archgen search` wrote, and refuses runs that are not whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest

Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]


def write(name: str, accuracies: list[float]) -> None:
    n = len(accuracies)
    frame = pd.DataFrame({"trial": range(n), "arch": [str(i) for i in range(n)], "acc": accuracies})
    frame = frame.assign(lat=[1.0 + a / 10 for a in accuracies], cost_seconds=0.0, state="complete")
    frame.to_csv(name, index=False) if name.endswith(".csv") else frame.to_parquet(name, index=False)


@pytest.fixture
def written(workplace: Path) -> list[str]:
    """Of `good` the best, 9, at evaluation 2, of `random` never; 6 seeds."""
    names = []
    for seed in range(6):
        write(f"good-{seed}.parquet", [5.0, 9.0, 1.0 + seed, 2.0])
        write(f"random-{seed}.csv", [4.0, 3.0 + seed / 10, 5.0, 6.0])
        names += [f"good-{seed}.parquet", f"random-{seed}.csv"]
    return names


def test_searches_are_compared_from_their_files(written: list[str], succeeds: Run) -> None:
    options = ["--maximize", "acc", "--at", 1, "--at", 3, "--show", "lat", "--out", "compared"]
    outcome = succeeds("compare", *written, *options)
    assert outcome.stderr == ""
    assert outcome.stdout == Path("compared/comparison.md").read_text(encoding="utf-8")
    first, _, *lines = outcome.stdout.splitlines()
    assert first.startswith("6 seeds, 4 evaluations; maximize('acc'): regret against 9. ")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    good, random = (dict(zip(cells[0], row, strict=True)) for row in cells[2:])
    assert (good["strategy"], good["runs"], good["found"], good["best_at"]) == ("good", "6", "6", "2")
    assert (good["regret@3"], random["regret@3"]) == ("0", "4")
    assert (random["found"], random["best_at"], random["effect"], random["p"]) == ("0", "∞", "1", "0.0312")
    assert good["lat@3"] == "1.9"
    mean = float(np.mean([1 + a / 10 for seed in range(6) for a in (4.0, 3.0 + seed / 10, 5.0, 6.0)]))
    assert float(good["relative_improvement@3"]) == pytest.approx(100 * (1.9 - mean) / mean, rel=1e-3)
    table = pd.read_csv("compared/comparison.csv")
    assert table["seed"].tolist() == [*range(6), *range(6)]
    assert Path("compared/comparison.png").read_bytes().startswith(b"\x89PNG")


def test_the_order_of_files_does_not_matter_but_the_reference_does(written: list[str], succeeds: Run) -> None:
    options = ["--maximize", "acc", "--at", 3, "--out", "c", "--json"]
    answer = json.loads(succeeds("compare", *reversed(written), *options).stdout)
    assert (answer["reference"], answer["tested"], answer["best"]) == ("random", "regret@3", 9.0)
    rows = {row["strategy"]: row for row in answer["strategies"]}
    assert (rows["random"]["p"], rows["random"]["best_at"]) == (None, None)
    assert rows["good"]["effect"] == -1.0
    again = json.loads(succeeds("compare", *written, *options, "--reference", "random").stdout)
    assert {row["strategy"]: row for row in again["strategies"]} == rows


def test_several_directions_are_compared_by_hypervolume(written: list[str], succeeds: Run) -> None:
    outcome = succeeds("compare", *written, "--maximize", "acc", "--minimize", "lat", "--out", "c")
    assert "maximize('acc'), minimize('lat'): missed_hypervolume against " in outcome.stdout
    assert "missed_hypervolume@4" in outcome.stdout


def test_bounds_an_optimum_and_a_part_of_the_budget_count(written: list[str], succeeds: Run) -> None:
    options = ["--maximize", "acc", "--at-most", "lat=1.6", "--optimum", 6.0, "--budget", 3, "--out", "c", "--json"]
    answer = json.loads(succeeds("compare", *written, *options).stdout)
    rows = {row["strategy"]: row for row in answer["strategies"]}
    assert rows["good"]["regret@3"] == pytest.approx(np.mean([1.0, 1, 1, 1, 1, 0]))  # 6.0 of seed 5 meets the bound
    assert rows["good"]["found"] == 1
    near = json.loads(succeeds("compare", *written, *options, "--tolerance", 1.0).stdout)
    assert {row["strategy"]: row["found"] for row in near["strategies"]} == {"good": 6, "random": 6}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["good-0.parquet", "none.csv", "--maximize", "acc"], "none.csv is not a file"),
        (["good-0.parquet", "random-1.csv", "--maximize", "acc"], "'good' has no run of seed 1"),
        (["good-0.parquet", "short-0.csv", "--maximize", "acc"], "'short' with seed 0 has 2 trials where 4"),
        (["good-0.parquet", "good_0.csv", "--maximize", "acc"], "both hold seed 0 of 'good'"),
        (["good-0.parquet", "--maximize", "accu"], "unknown metric 'accu': did you mean 'acc'?"),
        (["good-0.parquet"], "needs something to maximize or minimize"),
        (["good-0.parquet", "--maximize", "acc", "--optimum", "8"], "optimum is said to be 8, but a run is beyond it"),
        (["good-0.parquet", "--maximize", "acc", "--reference", "god"], "unknown strategy 'god': did you mean 'good'?"),
        (["good-0.parquet", "--maximize", "acc", "--at-most", "lat=0.1"], "no trial of any run succeeded and meets"),
        (["good-0.parquet", "--maximize", "acc", "--show", "laty"], "unknown metric 'laty': did you mean 'lat'?"),
        (["good-0.parquet", "--maximize", "acc", "--out", "good-0.parquet"], "can not be written"),
        (["good-0.parquet", "--maximize", "acc", "--out", "no/such/place"], "can not be written"),
        (["good-0.parquet", "--maximize", "acc", "--at", "0"], "--at"),
        (["--maximize", "acc"], "trials"),
    ],
)
def test_what_can_not_be_compared_is_refused_in_one_line(
    written: list[str], arguments: list[str], message: str, refused: Refused
) -> None:
    write("short-0.csv", [1.0, 2.0])
    write("good_0.csv", [1.0, 2.0, 3.0, 4.0])
    out = [] if "--out" in arguments else ["--out", "c"]
    assert message in refused("compare", *arguments, *out)
