"""Parts about several architectures: the networks' table, and the data behind marks that can be chosen."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from archgen.graph import Architecture
from archgen.report import chosen
from archgen.report.chosen import finalists, networks, picking
from archgen.report.facts import Facts
from archgen.report.pieces import shown
from archgen.spaces import load


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    space, rng = load("nasbench201"), np.random.default_rng(0)
    archs = space.sample(30, rng)
    table = pd.DataFrame({"arch": [space.format(arch) for arch in archs], "latency_ms": rng.uniform(1, 2, 30)})
    table["val_acc"] = 80 + rng.normal(0, 1, 30)
    table.loc[[3, 8], "val_acc"] = [np.nan, 10.0]  # a failure, and one far below the axis
    return table


@pytest.fixture(scope="module")
def graphs(trials: pd.DataFrame) -> dict[str, Architecture]:
    space = load("nasbench201")
    return {text: space.computation(space.parse(text)) for text in trials["arch"]}


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="marks">(.*?)</script>', html)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_every_mark_knows_its_row_and_the_best_have_graphs(
    trials: pd.DataFrame, graphs: dict[str, Architecture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen, "DRAWN", 5)
    html = picking(trials, "latency_ms", 1.5, graphs)
    data = data_of(html)
    rows = [row for group in data["groups"].values() for row in group]
    assert sorted(rows) == [i for i in range(30) if i != 3]
    assert data["groups"]["points-below"] == [8]
    assert all(trials["latency_ms"][i] > 1.5 for i in data["groups"]["points-beyond"])
    assert [trial["arch"] for trial in data["trials"]] == trials["arch"].tolist()
    assert ["latency", f"{trials['latency_ms'][0]:.3g} ms"] in data["trials"][0]["values"]
    best = trials["val_acc"].sort_values(ascending=False).index[:5]
    assert all(data["trials"][i]["graph"] is not None for i in best)
    numbers = {trial["graph"] for trial in data["trials"]} - {None}
    assert numbers == set(range(5))
    assert html.count("<template id=") == 5


def test_a_text_can_not_end_the_data(trials: pd.DataFrame) -> None:
    evil = "</script><script>alert(1)</script>"
    html = picking(trials.assign(arch=evil), "latency_ms", None, {})
    assert evil not in html
    assert data_of(html)["trials"][0]["arch"] == evil


def test_a_single_network_has_no_table_and_a_set_has_one(trials: pd.DataFrame) -> None:
    one = {"arch": "a", "files": "best", "test_acc": 90.0, "val_acc": 91.0, "latency_ms": 1.0, "int8": None}
    assert networks(Facts({"networks": [one]}, trials)) == ""
    assert networks(Facts({}, trials)) == ""
    other = {**one, "files": "network2", "latency_ms": 0.5, "memory_mb": 2.5, "inherited_val_acc": 80.0, "flops": 1e6}
    html = networks(Facts({"networks": [one, other], "minimized": ["latency_ms"]}, trials))
    assert "best.onnx" in html
    assert "network2.onnx" in html
    assert "0.5 ms" in html
    for head, value in {"Inherited accuracy": "80.0 %", "Memory": "2.5 MB", "FLOPs": "1,000,000"}.items():
        assert f"{head}</th>" in html
        assert value in html
    assert "In 8 bits" not in html


def test_finalists_are_listed_where_there_were_several_and_the_winner_is_marked(trials: pd.DataFrame) -> None:
    rows = [
        {"arch": f"<{name}>", "inherited_val_acc": 80.0 + i, "val_acc": 90.0 - i, "latency_ms": 1.0 + i}
        for i, name in enumerate("abc")
    ]
    facts = Facts({"finalists": rows, "winner": rows[1]}, trials)
    html = finalists(facts)
    assert "&lt;a&gt;" in html.replace("<wbr>", "")
    assert "<a>" not in html
    for row in rows:
        assert str(shown(row["val_acc"], "val_acc")) in html
    (bold,) = re.findall(r'<tr class="winner headed">(.*?)</tr>', html)
    assert str(shown(89.0, "val_acc")) in bold
    of_a_set = finalists(Facts({"finalists": rows, "winner": rows[1], "networks": rows[:2]}, trials))
    assert len(re.findall(r'<tr class="winner headed">', of_a_set)) == 2
    assert finalists(Facts({"finalists": rows[:1], "winner": rows[0]}, trials)) == ""
    assert finalists(Facts({"winner": rows[0]}, trials)) == ""


def test_eight_bits_stand_beside_the_floats(trials: pd.DataFrame) -> None:
    int8 = {"test_acc": 89.5, "latency_ms": 0.8, "float_latency_ms": 1.1, "bytes": 20_000, "float_bytes": 70_000}
    network = {"arch": "a", "files": "best", "test_acc": 90.0, "latency_ms": 1.0, "int8": int8}
    html = networks(Facts({"networks": [network]}, trials))
    for words in ("best.int8.onnx", "89.5 %", "90.0 %", "0.8 ms", "1.1 ms", "20 kB", "70 kB"):
        assert words in html
