"""`archgen supernet`: from images to scores, ranks and a network of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest

from archgen import spaces
from archgen.export import load_network

Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]
SPACE = spaces.load("nasbench201")
ARCHS = [SPACE.format(a) for a in SPACE.sample(12, np.random.default_rng(0))]
SMALL = ["--network", "cells=1", "--network", "channels=4", "--limit", 200, "--epochs", 1]


@pytest.fixture
def trained(workplace: Path, succeeds: Run) -> Path:
    said = succeeds("supernet", "train", "--space", "nasbench201", *SMALL, "--strategy", "fair", "--out", "net")
    assert said.stdout == "net: supernet of nasbench201, 25,654 weights\n"
    return workplace / "net"


def test_a_supernet_scores_ranks_and_gives_networks_away(trained: Path, succeeds: Run) -> None:
    pd.DataFrame({"arch": ARCHS, "acc": np.arange(12.0)}).to_csv("table.csv", index=False)
    succeeds("supernet", "evaluate", "net", "--archs", "table.csv", "--out", "scores.parquet")
    scores = pd.read_parquet("scores.parquet")
    assert scores["arch"].tolist() == ARCHS
    assert scores["val_acc"].between(0, 100).all()

    one = json.loads(succeeds("supernet", "evaluate", "net", "--arch", ARCHS[3], "--json").stdout)
    assert one == scores.iloc[3].to_dict()
    assert f"val_acc {one['val_acc']:.2f} %" in succeeds("supernet", "evaluate", "net", "--arch", ARCHS[3]).stdout

    arguments = ["supernet", "rank", "net", "--table", "table.csv", "--target", "acc", "-n", 12]
    found = json.loads(succeeds(*arguments, "--out", "both.csv", "--json").stdout)
    both = pd.read_csv("both.csv")
    assert both["val_acc"].to_numpy() == pytest.approx(scores["val_acc"].to_numpy())
    assert found["kendall_tau"] == pytest.approx(both["val_acc"].corr(both["acc"], method="kendall"))
    assert found["kendall_tau_top"] is None, "one architecture has no order"
    assert "kendall_tau_top -" in succeeds(*arguments).stdout

    succeeds("supernet", "subnet", "net", "--arch", ARCHS[3], "--out", "mine")
    assert Path("mine.onnx").exists()
    network, facts = load_network(Path("mine.json"))
    assert facts["metrics"]["val_acc"] == pytest.approx(one["val_acc"])
    assert not network.training


def test_a_search_tells_what_it_chose(workplace: Path, succeeds: Run) -> None:
    arguments = ["supernet", "train", "--space", "nasbench201", *SMALL, "--strategy", "proxyless"]
    Path("slow.csv").write_text(
        "edge,operation,latency\n" + "".join(f"{e},{o},{len(o)}\n" for e, ops in SPACE.variables.items() for o in ops)
    )
    said = succeeds(*arguments, "--option", "latency=slow.csv", "--option", "combine=multiply", "--out", "searched")
    last = said.stdout.splitlines()[-1]
    assert last.startswith("proxyless chose |")
    SPACE.parse(last.removeprefix("proxyless chose "))
    again = succeeds("supernet", "train", "--space", "nasbench201", "--resume", "--out", "searched")
    assert again.stdout == said.stdout


def test_what_can_not_be_done_is_one_line(trained: Path, refused: Refused) -> None:
    pd.DataFrame({"arch": ARCHS, "acc": [1.0] * 12}).to_csv("flat.csv", index=False)
    Path("short.csv").write_text("edge,operation,ms\n")
    base = ["supernet", "train", "--space", "nasbench201", *SMALL]
    assert "known are: balanced_mixture, darts, fair, multi_arch" in refused(*base, "--strategy", "x", "--out", "b")
    assert "give --mixture 2 or more" in refused(*base, "--strategy", "balanced_mixture", "--out", "b")
    assert "or splits, got both" in refused(*base, "--mixture", 2, "--splits", 1, "--out", "b")
    assert "holds another run" in refused(*base, "--out", "net")
    assert "expected NAME=NUMBER for --network, got 'cells=a'" in refused(*base, "--network", "cells=a", "--out", "b")
    assert "unknown option of strategy 'fair' 'paths'" in refused(
        *base, "--strategy", "fair", "--option", "paths=2", "--out", "b"
    )
    assert "unknown value of option 'combine' 'sum': known are: add, multiply" in refused(
        *base, "--strategy", "proxyless", "--option", "combine=sum", "--out", "b"
    )
    assert "unknown column of short.csv 'latency'" in refused(
        *base, "--strategy", "proxyless", "--option", "latency=short.csv", "--out", "b"
    )
    assert "holds no run to resume" in refused(*base, "--resume", "--out", "b")
    assert not Path("b").exists()
    assert "either --arch or --archs" in refused("supernet", "evaluate", "net")
    assert "does not exist" in refused("supernet", "evaluate", "nothing", "--arch", ARCHS[0])
    rank = ["supernet", "rank", "net", "--table", "flat.csv", "--target"]
    assert "has the same value, 1, everywhere" in refused(*rank, "acc", "-n", 5)
    assert "has 12 architectures, 100 were asked for" in refused(*rank, "acc")
    assert "unknown metric 'loss'" in refused(*rank, "loss", "-n", 5)
    assert "expected 3 groups" in refused("supernet", "subnet", "net", "--arch", "x", "--out", "mine")
