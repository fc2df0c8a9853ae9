"""NAS-Bench-Graph: a file of the published layout, and the installed package's own where it is there."""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from archgen import spaces
from archgen.benchmarks import nas_bench_graph, read_nas_bench_graph
from archgen.benchmarks.nas_bench_graph import NETWORKS
from archgen.benchmarks.pickles import read_pickle
from archgen.errors import InvalidTable, MissingExtra, UnknownName
from archgen.spaces import TreeSpace

RESULTS = {"valid_perf": 0.75, "perf": 0.7, "latency": 0.01, "para": 0.1}


@pytest.fixture(scope="module")
def trees() -> TreeSpace:
    space = spaces.load("nasbench_graph")
    assert isinstance(space, TreeSpace)
    return space


def test_results_come_by_hash(tmp_path: Path, trees: TreeSpace) -> None:
    texts = ["Arch([0, 1, 1, 2], ['gcn', 'cheb', 'gin', 'fc'])", "Arch([0, 0, 0, 0], ['gat', 'gcn', 'gin', 'fc'])"]
    archs = [trees.parse(text) for text in texts]
    bench = {trees.hash(arch): {**RESULTS, "perf": 0.5 + i, "dur": [1, 2]} for i, arch in enumerate(archs)}
    (tmp_path / "cora.bench").write_bytes(pickle.dumps(bench))
    frame = read_nas_bench_graph(tmp_path / "cora.bench")
    assert [trees.parse(text) for text in frame["arch"]] == archs
    assert frame["index"].tolist() == list(bench)
    assert frame.loc[0, ["latency_ms", "params"]].tolist() == [10, 100_000]
    assert frame["test_acc"].tolist() == [50, 150]
    assert frame["val_acc"].tolist() == [75, 75]


def test_other_files_and_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(value: Any, match: str) -> None:
        (tmp_path / "f").write_bytes(pickle.dumps(value))
        with pytest.raises(InvalidTable, match=match):
            read_nas_bench_graph(tmp_path / "f")

    refuse({}, "not a table of NAS-Bench-Graph")
    refuse([RESULTS], "not a table of NAS-Bench-Graph")
    refuse({1111: {"perf": 1.0}}, "architecture 1111 lacks one of latency, para, perf, valid_perf")
    refuse({"gcn": RESULTS}, "is not of the space nasbench_graph")
    refuse({98888: RESULTS}, "is not of the space nasbench_graph")
    refuse({1111: {**RESULTS, "perf": None}}, "architecture 1111 has what is no number")
    with pytest.raises(UnknownName, match="known are: arxiv, citeseer"):
        read_nas_bench_graph(None)
    with pytest.raises(UnknownName, match="beside a file"):
        read_nas_bench_graph(tmp_path / "f", "cora")
    monkeypatch.setattr(nas_bench_graph, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"archgen\[graph\]"):
        read_nas_bench_graph(None, "cora")


def test_the_packages_tables_list_every_architecture_once(trees: TreeSpace) -> None:
    if find_spec("nas_bench_graph") is None:
        pytest.skip("nas-bench-graph is not installed: pip install 'archgen[graph]'")
    bench = read_pickle(nas_bench_graph.installed() / "arxiv.bench")
    assert bench.keys() == {trees.hash(arch) for arch in trees.enumerate()}
    assert len(bench) == trees.size == 26_206
    frame = read_nas_bench_graph(None, "proteins")
    assert len(frame) == len(set(frame["arch"])) == 2021
    assert frame["test_acc"].between(50, 100).all()


@pytest.mark.parametrize("dataset", ["cora", "pubmed", "cs", "computers"])  # with and without layers before and after
def test_networks_have_the_published_number_of_parameters(trees: TreeSpace, dataset: str) -> None:
    if find_spec("nas_bench_graph") is None:
        pytest.skip("nas-bench-graph is not installed: pip install 'archgen[graph]'")
    bench = read_pickle(nas_bench_graph.installed() / f"{dataset}.bench")
    for number in sorted(bench)[::500]:
        arch = trees.parse(str(number))
        assert trees.hash(arch) == number
        assert trees.count(arch, **NETWORKS[dataset])["params"] == pytest.approx(1e6 * bench[number]["para"], abs=0.5)
