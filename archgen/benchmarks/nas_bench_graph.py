"""NAS-Bench-Graph (arXiv 2206.09166), from the PyPI package `nas-bench-graph`, whose code is not run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from archgen import spaces
from archgen.benchmarks.base import BENCHMARKS, chosen, formatted
from archgen.benchmarks.pickles import read_pickle
from archgen.errors import InvalidTable, MissingExtra, UnknownName

DATASETS = ("cora", "citeseer", "pubmed", "cs", "physics", "photo", "computers", "arxiv", "proteins")

COLUMNS = {"val_acc": "valid_perf", "test_acc": "perf", "latency": "latency", "params": "para"}
"""The names that the published dictionaries give the columns."""


@BENCHMARKS.register("nas-bench-graph")
def read_nas_bench_graph(path: Path | None, dataset: str | None = None) -> pd.DataFrame:
    """The table of one data set.

    Columns, as published: `val_acc` and `test_acc`, `latency`, `params`; and `index`, the published hash.

    Args:
        path: A `.bench` file of the package's folder `light`; by default that of the installed package.
        dataset: One of `DATASETS`; needed without a path.

    Raises:
        InvalidTable: Not such a file, or damaged.
        UnknownName: No such data set, or none named.
        MissingExtra: No path, and the package is not installed.
    """
    if path is None:
        (name,) = chosen(dataset or "", DATASETS)
        path = installed() / f"{name}.bench"
    elif dataset is not None:
        raise UnknownName("data set beside a file", dataset, ())
    bench = read_pickle(path)
    if not isinstance(bench, dict) or not bench:
        raise InvalidTable(f"{path} is not a table of NAS-Bench-Graph: expected results by hash")
    space = spaces.load("nasbench_graph")
    rows = []
    for number, results in bench.items():
        if not isinstance(results, dict) or not set(COLUMNS.values()) <= results.keys():
            raise InvalidTable(f"{path}: architecture {number} lacks one of {', '.join(COLUMNS.values())}")
        values = {name: float(results[published]) for name, published in COLUMNS.items()}
        rows.append({"arch": formatted(space, str(number), path), "index": int(number), **values})
    return pd.DataFrame(rows)


def installed() -> Path:
    """The folder of the installed package's tables; raises `MissingExtra`."""
    spec = find_spec("nas_bench_graph")  # finds the package and imports nothing of it
    if spec is None or spec.origin is None:
        raise MissingExtra("nas-bench-graph is not installed: pip install 'archgen[graph]', or give the .bench file")
    return Path(spec.origin).parent / "light"
