"""`archgen prune` on a table of a known law."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest

from archgen import spaces
from archgen.errors import InvalidArchitecture

Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]
SPACE = spaces.load("nasbench201")


@pytest.fixture
def table(workplace: Path) -> Path:
    """Architectures whose accuracy falls by 10 with pooling on the edge from 1 to 2, and is noise besides."""
    archs = list(dict.fromkeys(SPACE.sample(150, np.random.default_rng(0))))
    frame = pd.DataFrame({"arch": [SPACE.format(arch) for arch in archs]})
    bad = np.array([arch.ops[3] == "avg_pool_3x3" for arch in archs])
    frame["accuracy"] = 80 - 10 * bad + np.random.default_rng(1).normal(0, 1, len(archs))
    frame.to_csv("accuracy.csv", index=False)
    return workplace / "accuracy.csv"


def arguments(table: Path, *more: object) -> list[object]:
    return ["prune", "--space", "nasbench201", "--table", table, "--target", "accuracy", "--out", "small.toml", *more]


def test_the_bad_operation_is_pruned_and_the_file_is_a_space(table: Path, succeeds: Run) -> None:
    facts = json.loads(succeeds(*arguments(table, "--json")).stdout)
    assert facts["dropped"] == {"1->2": ["avg_pool_3x3"]}
    assert facts["size"] == 4 * 5**5
    assert facts["size_before"] == 5**6
    assert len(facts["evidence"]) == 30
    small = spaces.load("small.toml")
    assert small.name == "small"
    assert small.size == facts["size"]
    assert "avg_pool_3x3" not in small.variables["1->2"]
    listed = json.loads(succeeds("spaces", "small.toml", "--json").stdout)
    assert listed["size"] == facts["size"]


def test_it_says_what_it_did_and_may_replace_its_own_file(table: Path, succeeds: Run) -> None:
    first = succeeds(*arguments(table, "--seed", 1))
    text = Path("small.toml").read_bytes()
    assert first.stdout.splitlines()[0].startswith("1->2: dropped avg_pool_3x3 (-")
    assert "small.toml: 12,500 of 15,625 architectures" in first.stdout
    assert succeeds(*arguments(table, "--seed", 1)).stdout == first.stdout
    assert Path("small.toml").read_bytes() == text


def test_lower_can_be_better(table: Path, succeeds: Run) -> None:
    facts = json.loads(succeeds(*arguments(table, "--minimize", "--keep", 0.2, "--json")).stdout)
    assert "avg_pool_3x3" in facts["kept"]["1->2"]
    assert facts["dropped"].keys() == {"1->2"}
    assert len(facts["dropped"]["1->2"]) >= 3


def test_noise_leaves_the_space_whole(table: Path, succeeds: Run) -> None:
    frame = pd.read_csv(table)
    frame.assign(accuracy=np.random.default_rng(5).normal(size=len(frame))).to_csv(table, index=False)
    assert "nothing is reliably worse" in succeeds(*arguments(table, "-n", 100)).stdout
    assert spaces.load("small.toml").size == SPACE.size


def test_repeated_architectures_are_averaged_and_said_so(table: Path, succeeds: Run) -> None:
    frame = pd.read_csv(table)
    pd.concat([frame, frame.head(3)]).to_csv(table, index=False)
    outcome = succeeds(*arguments(table))
    assert "3 rows of" in outcome.stderr
    assert "averaged" in outcome.stderr


def test_a_pruned_space_can_be_pruned_again(table: Path, succeeds: Run) -> None:
    succeeds(*arguments(table))
    small = spaces.load("small.toml")
    frame = pd.read_csv(table)
    left = frame[[small_has(small, text) for text in frame["arch"]]]
    zero = np.array(["|none~0|+" in text for text in left["arch"]])
    left.assign(accuracy=zero * -5.0 + np.random.default_rng(2).normal(size=len(left))).to_csv("left.csv", index=False)
    again = ["prune", "--space", "small.toml", "--table", "left.csv", "--target", "accuracy", "--out", "second.toml"]
    facts = json.loads(succeeds(*again, "--json").stdout)
    assert facts["dropped"] == {"0->1": ["none"]}
    assert spaces.load("second.toml").size == 4 * 4 * 5**4


def small_has(space: spaces.SearchSpace, text: str) -> bool:
    try:
        space.parse(text)
    except InvalidArchitecture:
        return False
    return True


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--target", "acuracy"], "did you mean 'accuracy'?"),
        (["--keep", "0"], "above 0 and at most 1, got 0"),
        (["-n", "5"], "at least 20 architectures to prune by, got 5"),
        (["-n", "151"], "151 were asked for; give a smaller -n"),
        (["--out", "small.json"], "expected a name that ends in .toml"),
        (["--out", "nasbench201.toml"], "is the name of a space that comes with archgen"),
        (["--out", "nowhere/deep/small.toml"], "is not a folder with write permission"),
        (["--space", "nasbench21"], "did you mean 'nasbench201'"),
    ],
)
def test_bad_input_is_refused_in_one_line(table: Path, refused: Refused, more: list[str], message: str) -> None:
    assert message in refused(*arguments(table, *more))


@pytest.mark.parametrize("text", ['name = "mine"\n', "no toml at all", ""])
def test_a_file_that_is_not_ours_is_refused(table: Path, refused: Refused, text: str) -> None:
    Path("small.toml").write_text(text, encoding="utf-8")
    assert "was not written by archgen prune" in refused(*arguments(table))


def test_the_space_itself_is_not_overwritten(table: Path, succeeds: Run, refused: Refused) -> None:
    succeeds(*arguments(table))
    again = ["prune", "--space", "small.toml", "--table", table, "--target", "accuracy", "--out", "small.toml"]
    assert "is the space that is pruned" in refused(*again)
