"""NAS-Bench-Graph (arXiv 2206.09166), from the PyPI package `nas-bench-graph`, whose code is not run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from archgen import spaces
from archgen.benchmarks.base import BENCHMARKS, chosen, formatted
from archgen.benchmarks.pickles import read_pickle
from archgen.errors import InvalidTable, MissingExtra, UnknownName

_SIZES = ("features", "classes", "channels", "pre", "post")
NETWORKS = {
    "cora": dict(zip(_SIZES, (1433, 7, 256, 0, 1), strict=True)),
    "citeseer": dict(zip(_SIZES, (3703, 6, 256, 0, 1), strict=True)),
    "pubmed": dict(zip(_SIZES, (500, 3, 128, 0, 0), strict=True)),
    "cs": dict(zip(_SIZES, (6805, 15, 128, 1, 0), strict=True)),
    "physics": dict(zip(_SIZES, (8415, 5, 256, 1, 0), strict=True)),
    "photo": dict(zip(_SIZES, (745, 8, 128, 0, 0), strict=True)),
    "computers": dict(zip(_SIZES, (767, 10, 64, 1, 1), strict=True)),
    "arxiv": dict(zip(_SIZES, (128, 40, 128, 0, 1), strict=True)),
    "proteins": dict(zip(_SIZES, (8, 112, 256, 1, 1), strict=True)),
}
"""Arguments of `build` that give the published number of parameters on each data set.

Those that the paper leaves open are the only ones of the widths in its code (64, 128, 256, up to two layers before and
after) with which every architecture has as many parameters as the table says; on `physics` 6 % of the table's rows are
means over runs that differ, and the others agree.
"""

COLUMNS = {
    "val_acc": ("valid_perf", 100.0),
    "test_acc": ("perf", 100.0),
    "latency_ms": ("latency", 1000.0),
    "params": ("para", 1e6),
}
"""Of each column the name in the published dictionaries and the factor to archgen's unit."""


@BENCHMARKS.register("nas-bench-graph")
def read_nas_bench_graph(path: Path | None, dataset: str | None = None) -> pd.DataFrame:
    """The table of one data set.

    Columns, means over three seeds: `val_acc` and `test_acc` in % (of `proteins`: area under the ROC curve),
    `latency_ms` on their GPU, `params`; and `index`, the published hash. `proteins` has 2,021 of the architectures, the
    other data sets have all.

    Args:
        path: A `.bench` file of the package's folder `light`; by default that of the installed package.
        dataset: One of `NETWORKS`; needed without a path.

    Raises:
        InvalidTable: Not such a file, or damaged.
        UnknownName: No such data set, or none named.
        MissingExtra: No path, and the package is not installed.
    """
    if path is None:
        (name,) = chosen(dataset or "", tuple(NETWORKS))
        path = installed() / f"{name}.bench"
    elif dataset is not None:
        raise UnknownName("data set beside a file", dataset, ())
    bench = read_pickle(path)
    if not isinstance(bench, dict) or not bench:
        raise InvalidTable(f"{path} is not a table of NAS-Bench-Graph: expected results by hash")
    space = spaces.load("nasbench_graph")
    published = {key for key, _ in COLUMNS.values()}
    rows = []
    for number, results in bench.items():
        if not isinstance(results, dict) or not published <= results.keys():
            raise InvalidTable(f"{path}: architecture {number} lacks one of {', '.join(sorted(published))}")
        arch = formatted(space, str(number), path)
        try:
            values = {name: factor * float(results[key]) for name, (key, factor) in COLUMNS.items()}
            index = int(number)
        except (TypeError, ValueError):
            raise InvalidTable(f"{path}: architecture {number} has what is no number; download it again") from None
        rows.append({"arch": arch, "index": index, **values})
    return pd.DataFrame(rows)


def installed() -> Path:
    """The folder of the installed package's tables; raises `MissingExtra`."""
    spec = find_spec("nas_bench_graph")  # finds the package and imports nothing of it
    if spec is None or spec.origin is None:
        raise MissingExtra("nas-bench-graph is not installed: pip install 'archgen[graph]', or give the .bench file")
    return Path(spec.origin).parent / "light"
