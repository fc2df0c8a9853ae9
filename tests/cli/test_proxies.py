"""`archgen proxies` and `archgen train free-labels`: from untrained networks to a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest

from archgen import spaces
from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.predictors import load_free_labels

Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]
SPACE = spaces.load("nasbench201")


@pytest.fixture
def table(workplace: Path) -> Path:
    """Proxies of a known law: FLOPs of the live part, a missing value, and noise."""
    archs = list(dict.fromkeys(SPACE.sample(150, np.random.default_rng(0))))
    frame = pd.DataFrame({"arch": [SPACE.format(arch) for arch in archs]})
    frame["flops"] = [SPACE.count(SPACE.simplify(arch))["flops"] for arch in archs]
    frame["noise"] = np.random.default_rng(1).normal(size=len(archs))
    frame.loc[frame["flops"].idxmin(), "flops"] = np.nan
    frame["note"] = "text"
    frame.to_parquet("proxies.parquet")
    return workplace / "proxies.parquet"


def test_proxies_become_a_table(succeeds: Run) -> None:
    arguments = ["proxies", "--space", "nasbench201", "-n", 3, "--names", "params,l2_norm"]
    assert succeeds(*arguments, "--out", "a.csv").stdout == "a.csv: 3 architectures, 2 proxies\n"
    frame = pd.read_csv("a.csv")
    assert list(frame.columns) == ["arch", "params", "l2_norm"]
    for text, params in zip(frame["arch"], frame["params"], strict=True):
        assert SPACE.count(SPACE.parse(text))["params"] == params
    succeeds("proxies", "--space", "nasbench201", "--archs", "a.csv", "--names", "params", "--out", "b.parquet")
    assert pd.read_parquet("b.parquet")["params"].tolist() == frame["params"].tolist()


def test_what_is_known_when_it_is_stopped_is_kept_and_gone_on_with(
    succeeds: Run, run: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["proxies", "--space", "nasbench201", "-n", 6, "--names", " l2_norm, plain,l2_norm"]
    succeeds(*arguments, "--out", "whole.csv")
    whole = pd.read_csv("whole.csv")
    build, built = type(SPACE).build, []

    def interrupted(self: object, arch: Architecture, **network: int) -> object:
        built.append(arch)
        if len(built) == 3:
            raise KeyboardInterrupt
        return build(self, arch, **network)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(type(SPACE), "build", interrupted)
        outcome = run(*arguments, "--out", "a.csv")
    assert outcome.returncode == 130
    assert "a.csv holds 2 of 6 architectures; go on with the same command and --resume" in outcome.stderr
    pd.testing.assert_frame_equal(pd.read_csv("a.csv"), whole[:2])
    with monkeypatch.context() as patch:
        built.clear()
        patch.setattr(type(SPACE), "build", lambda *a, **n: built.append(a[1]) or build(*a, **n))
        succeeds(*arguments, "--out", "a.csv", "--resume")
    assert len(built) == 4
    pd.testing.assert_frame_equal(pd.read_csv("a.csv"), whole)
    assert "other columns than arch, nwot" in refused(
        "proxies", "--space", "nasbench201", "--names", "nwot", "--out", "a.csv", "--resume"
    )


def test_a_network_that_can_not_be_built_is_left_out(succeeds: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    build, built = type(SPACE).build, []

    def refusing(self: object, arch: Architecture, **network: int) -> object:
        built.append(arch)
        if len(built) == 2:
            raise ArchgenError("no such kernel")
        return build(self, arch, **network)  # type: ignore[arg-type]

    monkeypatch.setattr(type(SPACE), "build", refusing)
    outcome = succeeds("proxies", "--space", "nasbench201", "-n", 3, "--names", "l2_norm", "--out", "a.csv")
    assert "left out: |" in outcome.stderr
    assert "no such kernel" in outcome.stderr
    assert pd.read_csv("a.csv")["arch"].tolist() == [SPACE.format(built[0]), SPACE.format(built[2])]


def test_images_of_the_users_own_data_are_shown(succeeds: Run) -> None:
    arguments = ["proxies", "--space", "nasbench201", "-n", 1, "--names", "l2_norm,nwot", "--batch", 4]
    values = []
    for more in ([], ["--data", "digits"], ["--data", "digits"]):
        succeeds(*arguments, *more, "--out", "a.csv")
        values.append(pd.read_csv("a.csv")["nwot"][0])
    assert values[0] != values[1] == values[2]


def test_free_labels_are_learnt_from_the_table(table: Path, succeeds: Run) -> None:
    arguments = ["train", "free-labels", "--space", "nasbench201", "--table", table, "--out", "free"]
    assert "flops 0.9" in succeeds(*arguments).stdout
    labels = load_free_labels(Path("free"), SPACE)
    assert labels.names == ("flops",)
    card = Path("free/README.md").read_text()
    assert "archgen train free-labels --space nasbench201 --table proxies.parquet --seed 0" in card
    assert "Left out for less than 0.8: noise" in card
    assert str(table.parent) not in card


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["proxies", "-n", 2, "--archs", "t.csv", "--out", "a.csv"], "either -n (random architectures) or --archs"),
        (["proxies", "-n", 2, "--names", "synflo", "--out", "a.csv"], "did you mean 'synflow'?"),
        (["proxies", "-n", 10**11, "--out", "a.csv"], "-n"),
        (["proxies", "-n", 2, "--out", "a.txt"], "end in .parquet or .csv, got a.txt"),
        (["proxies", "-n", 2, "--names", "nwot", "--data", "nowhere", "--out", "a.csv"], "nowhere"),
        (
            ["train", "free-labels", "--table", "proxies.parquet", "--names", "flop", "--out", "f"],
            "did you mean 'flops'?",
        ),
        (["train", "free-labels", "--table", "proxies.parquet", "--names", "noise", "--out", "f"], "no proxy can be"),
        (["train", "free-labels", "--table", "missing.parquet", "--out", "f"], "missing.parquet"),
        (["train", "free-labels", "--table", "texts.csv", "--out", "f"], "no column of numbers beside 'arch'"),
        (["train", "free-labels", "--table", "proxies.parquet", "--out", "."], "not a free_labels's checkpoint"),
    ],
)
def test_bad_input_is_one_line(table: Path, refused: Refused, arguments: list[object], message: str) -> None:
    pd.read_parquet(table)[["arch", "note"]].to_csv("texts.csv", index=False)
    assert message in refused(*arguments, "--space", "nasbench201")
    assert not Path("a.csv").exists()
    assert not Path("f").exists()
