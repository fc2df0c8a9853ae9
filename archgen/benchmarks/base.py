"""Published benchmarks in their publishers' files, read into tables that archgen reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from archgen.errors import InvalidArchitecture, InvalidTable, UnknownName
from archgen.registry import Registry
from archgen.spaces import SearchSpace

Reader = Callable[[Path | None, str | None], pd.DataFrame]
"""Path of the published file or folder, and name of a data set, to a table with `arch` and a column a metric."""

BENCHMARKS: Registry[Reader] = Registry("benchmark")


def needed(path: Path | None, example: str) -> Path:
    """The path that was given; raises `InvalidTable` naming an example where there is none."""
    if path is None:
        raise InvalidTable(f"expected the path of the published file, such as {example}; give --file")
    return path


def chosen(dataset: str | None, known: Sequence[str]) -> list[str]:
    """The data set that was named, or all; raises `UnknownName`."""
    if dataset is None:
        return list(known)
    if dataset not in known:
        raise UnknownName("data set", dataset, known)
    return [dataset]


def formatted(space: SearchSpace, text: str, path: Path) -> str:
    """A published string in the form of the space; raises `InvalidTable` where it is none of its architectures."""
    try:
        return space.format(space.parse(text))
    except InvalidArchitecture as error:
        raise InvalidTable(f"{path} is not of the space {space.name}: {error}") from None
