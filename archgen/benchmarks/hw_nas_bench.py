"""HW-NAS-Bench (ICLR 2021, openreview _0kaDkv3dVf), from `HW-NAS-Bench-v1_0.pickle`: the part of NAS-Bench-201.

Its other part, FBNet's, are look-up tables of operations and no table of architectures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from archgen import spaces
from archgen.benchmarks.base import BENCHMARKS, chosen, formatted, needed
from archgen.benchmarks.pickles import read_pickle
from archgen.errors import InvalidTable

DATASETS = {"cifar10": "cifar10", "cifar100": "cifar100", "imagenet16_120": "ImageNet16-120"}


@BENCHMARKS.register("hw-nas-bench")
def read_hw_nas_bench(path: Path | None, dataset: str | None = None) -> pd.DataFrame:
    """The table of the official file.

    Columns: `<dataset>_<device>_latency` in ms, `<dataset>_<device>_energy` in mJ and what else was measured, NaN where
    a device can not run the network; and `index`, the official one.

    Args:
        path: `HW-NAS-Bench-v1_0.pickle`.
        dataset: `cifar10`, `cifar100` or `imagenet16_120`; all by default.

    Raises:
        InvalidTable: Not that file, damaged, or columns of different lengths.
        UnknownName: No such data set.
    """
    datasets = chosen(dataset, tuple(DATASETS))
    path = needed(path, "HW-NAS-Bench-v1_0.pickle")
    whole = read_pickle(path)
    if not isinstance(whole, Mapping) or not isinstance(whole.get("nasbench201"), Mapping):
        raise InvalidTable(f"{path} is not HW-NAS-Bench: it has no part nasbench201; check the path")
    tables = {name: _table(path, whole["nasbench201"], DATASETS[name]) for name in datasets}
    archs = {tuple(table.pop("arch")) for table in tables.values()}
    if len(archs) > 1:
        raise InvalidTable(f"{path} lists other architectures for one data set than for another; download it again")
    space = spaces.load("nasbench201")
    (texts,) = archs
    columns: dict[str, Any] = {"arch": [formatted(space, text, path) for text in texts], "index": range(len(texts))}
    for name, table in tables.items():
        columns |= {f"{name}_{metric}": values for metric, values in table.items()}
    return pd.DataFrame(columns)


def _table(path: Path, part: Mapping[Any, Any], dataset: str) -> dict[str, Any]:
    """`arch` and the metrics of one data set, by the order of the official index."""
    found = part.get(dataset)
    if not isinstance(found, Mapping) or "config" not in found:
        raise InvalidTable(f"{path} has no {dataset} with a config for nasbench201; download it again")
    try:
        table: dict[str, Any] = {"arch": [config["arch_str"] for config in _by_index(found["config"])]}
        table |= {str(k): np.asarray(_by_index(v), dtype=float) for k, v in found.items() if k != "config"}
    except (TypeError, KeyError, ValueError) as error:
        raise InvalidTable(f"{path}: {dataset} is not as published ({str(error)[:100]}); download it again") from None
    for metric, values in table.items():
        if np.shape(values) != (len(table["arch"]),):
            raise InvalidTable(
                f"{path}: {dataset} {metric} has {np.shape(values)} values for {len(table['arch'])} architectures"
            )
    return table


def _by_index(values: Any) -> Any:
    """Values in the order of the official index, by which the published code asks whatever holds them."""
    return [values[i] for i in range(len(values))] if isinstance(values, Mapping) else values
