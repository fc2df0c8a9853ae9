"""`archgen proxies` and `archgen train free-labels`: from untrained networks to a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest

from archgen import spaces
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
