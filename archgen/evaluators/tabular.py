"""A published table of measurements as an evaluator: the truth, looked up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from archgen.errors import ArchgenError, InvalidTable, UnknownMetric, UnknownName
from archgen.evaluators.base import Evaluator, Measurement
from archgen.graph import Architecture
from archgen.spaces import SearchSpace
from archgen.tables import COST, NOT_METRICS, read_table

ENUMERABLE = 1_000_000
"""A table of a space of at most so many points must list them all, unless it is searched as a partial one."""


def read_architectures(space: SearchSpace, path: Path) -> list[Architecture]:
    """The distinct architectures in column `arch` of a table, `.parquet` or `.csv`; other columns do not matter.

    Raises:
        InvalidTable: As `TabularEvaluator` for the column.
    """
    return list(dict.fromkeys(_architectures(space, path, _read(path))))


LARGEST = 1e100
"""Labels are squared, and divided by such squares, on the way."""


class Labels(NamedTuple):
    """What a table says of architectures."""

    archs: list[Architecture]
    """`b` distinct architectures, in the order in which they are first listed."""
    values: dict[str, NDArray[np.float64]]
    """Of each column the values, `b`; an architecture that is listed more than once has the mean."""
    averaged: int
    """How many rows were folded into earlier ones of the same architecture."""


class TabularEvaluator(Evaluator):
    """Looks metrics up in a parquet or CSV table with a column `arch`, the space's published string.

    Every numeric column is a metric, except columns without a name and those of `NOT_METRICS`; of these,
    `cost_seconds` is the cost of a measurement where the table has it. A metric that is NaN or infinite in a row is
    left out there.

    Args:
        space: The space that the table is of.
        path: The table, `.parquet` or `.csv`.
        needed: Metrics that must be there and finite in every row: those of the search's objectives.
        partial: Accept a table that does not list every architecture of a space of at most a million points;
            `can_evaluate` then says which can be searched.

    Raises:
        InvalidTable: No table, no `arch`, no rows, no metric; missing, duplicate or unreadable architectures; NaN or
            infinite values of a needed metric; architectures left out. The message counts the bad rows and names the
            first, row 1 being the first row of data.
        UnknownMetric: A needed metric is not a column.
    """

    def __init__(self, space: SearchSpace, path: Path, *, needed: Sequence[str] = (), partial: bool = False) -> None:
        self.space, self.path = space, path
        frame = _read(path)
        self._rows = _parse(space, path, frame)
        numeric = [
            name
            for name, dtype in zip(map(str, frame.columns), frame.dtypes, strict=True)
            if pd.api.types.is_numeric_dtype(dtype)
            and not pd.api.types.is_bool_dtype(dtype)
            and not pd.api.types.is_complex_dtype(dtype)
        ]
        self._metrics = tuple(n for n in numeric if n not in NOT_METRICS and not n.startswith("Unnamed: "))
        for name in needed:
            self._check_needed(frame, name)
        if not self._metrics:
            raise InvalidTable(f"{path} has no numeric column besides arch, index and {COST}; add one for each metric")
        self._values: NDArray[np.float64] = np.column_stack([_floats(frame[name]) for name in self._metrics])
        self._costs = self._read_costs(frame, COST in numeric) if COST in frame.columns else None
        if not partial and space.size <= ENUMERABLE and len(self._rows) < space.size:
            absent = next(arch for arch in space.enumerate() if arch not in self._rows)
            raise InvalidTable(
                f"{path} lists {len(self._rows):,} of the {space.size:,} architectures of {space.name}, not for one "
                f"'{space.format(absent)}'; give --partial to search only the listed ones"
            )

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metric columns, in the table's order; a row may lack those that are not finite there."""
        return self._metrics

    @property
    def architectures(self) -> list[Architecture]:
        """The listed architectures, in the table's order."""
        return list(self._rows)

    def can_evaluate(self, arch: Architecture) -> bool:
        return arch in self._rows

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        """Look up; `seed` changes nothing, and the cost is the time of the look-up where the table states none."""
        return [self.look_up(arch) for arch in archs]

    def look_up(self, arch: Architecture) -> Measurement:
        """What the table says of one architecture; with an `error` where it does not list it."""
        start = time.perf_counter()
        row = self._rows.get(arch)
        if row is None:
            ops = " ".join(arch.ops)[:120]
            error = f"{self.path} does not list the {arch.space} architecture '{ops}'; evaluate listed ones"
            return Measurement({}, time.perf_counter() - start, error)
        pairs = zip(self._metrics, self._values[row].tolist(), strict=True)
        values = {name: value for name, value in pairs if np.isfinite(value)}
        return Measurement(values, time.perf_counter() - start if self._costs is None else float(self._costs[row]))

    # -- checks of the table ------------------------------------------------------------------------------------

    def _check_needed(self, frame: pd.DataFrame, name: str) -> None:
        if name in frame.columns and name not in (*self._metrics, *NOT_METRICS):
            wrong = pd.to_numeric(frame[name].astype(str), errors="coerce").isna().to_numpy()
            wrong = wrong if wrong.any() else ~wrong  # a column of numbers that are stored as text
            _refuse(
                self.path, wrong, f"no number in '{name}'", "a metric's column must be numeric; mend or remove them"
            )
        if name not in self._metrics:
            raise UnknownMetric(name, self._metrics)
        bad = ~np.isfinite(_floats(frame[name]))
        _refuse(self.path, bad, f"NaN or an infinite value in '{name}'")

    def _read_costs(self, frame: pd.DataFrame, numeric: bool) -> NDArray[np.float64]:
        if not numeric:
            raise InvalidTable(f"{self.path}: column '{COST}' must hold numbers, seconds; mend or rename it")
        costs = _floats(frame[COST])
        bad = ~(np.isfinite(costs) & (costs >= 0))
        _refuse(self.path, bad, f"no finite, non-negative number in '{COST}'", "mend them or rename the column")
        return costs


def read_labels(
    space: SearchSpace, path: Path, columns: Sequence[str], *, gaps: bool = False, device: str | None = None
) -> Labels:
    """Columns of a table with a column `arch`, `.parquet` or `.csv`, as what predictors are fitted to.

    Args:
        space: The space.
        path: The table.
        columns: Names of its columns.
        gaps: Whether values may be missing; they are NaN. Of an architecture that is listed more than once the known
            ones are averaged.
        device: Id of the device whose rows are read, of a file of `archgen latency measure`; of one device by default.

    Raises:
        InvalidTable: As `TabularEvaluator`, but an architecture may be listed more than once; or latencies of several
            devices.
        UnknownMetric: A column is not there.
        UnknownName: The file has no such device.
    """
    frame = _of_device(path, _read(path), columns, device)
    archs = _architectures(space, path, frame)
    rows: dict[Architecture, list[int]] = {}
    for i, arch in enumerate(archs):
        rows.setdefault(arch, []).append(i)
    values = {}
    for name in columns:
        if name not in frame.columns or name == "arch":
            raise UnknownMetric(name, [str(column) for column in frame.columns if column != "arch"])
        if not pd.api.types.is_numeric_dtype(frame[name].dtype):
            raise InvalidTable(f"{path}: column '{name}' does not hold numbers; mend it or name another")
        column = _floats(frame[name])
        absent = np.isnan(column)
        if gaps:
            _refuse(path, np.isinf(column), f"an infinite value in '{name}'")
        else:
            _refuse(path, ~np.isfinite(column), f"NaN or an infinite value in '{name}'")
        size = np.abs(column)
        beyond = (size > LARGEST) | ((size > 0) & (size < 1 / LARGEST))
        _refuse(
            path, beyond, f"a value of '{name}' beyond {LARGEST:g} or nearer to 0 than its inverse", "give another unit"
        )
        known = [[i for i in places if not absent[i]] for places in rows.values()]
        values[name] = np.array([column[places].mean() if places else np.nan for places in known])
    return Labels(list(rows), values, len(archs) - len(rows))


def read_proxies(space: SearchSpace, path: Path, columns: Sequence[str] | None = None) -> Labels:
    """Columns of a table of zero-cost proxies; NaN, a network that has none, is kept, and the first of equal rows.

    Args:
        space: The space.
        path: `.parquet` or `.csv`, with a column `arch`.
        columns: Names of proxies; every column of numbers by default.

    Raises:
        InvalidTable: As `TabularEvaluator`, or no column holds numbers.
        UnknownMetric: A column is not there.
    """
    frame = _read(path)
    archs = _architectures(space, path, frame)
    first = list({arch: i for i, arch in reversed(list(enumerate(archs)))}.values())[::-1]
    numbers = [str(c) for c in frame.columns if c != "arch" and pd.api.types.is_numeric_dtype(frame[c].dtype)]
    for name in columns or ():
        if name not in numbers:
            raise UnknownMetric(name, numbers)
    if not numbers:
        raise InvalidTable(f"{path} has no column of numbers beside 'arch'; make one by `archgen proxies`")
    values = {name: _floats(frame[name])[first] for name in columns or numbers}
    return Labels([archs[i] for i in first], values, len(archs) - len(first))


def _of_device(path: Path, frame: pd.DataFrame, columns: Sequence[str], device: str | None) -> pd.DataFrame:
    """The rows of one device: of the one that is asked for, or of the only one where latencies are read."""
    ids = frame["device"].astype(str) if "device" in frame.columns else pd.Series(dtype=str)
    known = sorted(set(ids))
    if device is not None:
        if device not in known:
            raise UnknownName("device", device, known)
        return frame[ids == device].reset_index(drop=True)
    if len(known) > 1 and {"latency_ms", "low_ms", "high_ms", "spread_ms"} & set(columns):
        raise InvalidTable(
            f"{path} holds latencies of {len(known)} devices ({', '.join(known)[:120]}), which are not of one law; "
            "`archgen latency devices` says what they are: fit one by --device, or give a table of one"
        )
    return frame


def _parse(space: SearchSpace, path: Path, frame: pd.DataFrame) -> dict[Architecture, int]:
    """The row of each architecture, from 0."""
    archs = _architectures(space, path, frame)
    rows: dict[Architecture, int] = {}
    twice = np.array([rows.setdefault(arch, i) != i for i, arch in enumerate(archs)])
    first = frame["arch"].iloc[int(twice.argmax())]
    _refuse(path, twice, "an architecture that is listed before", f"'{first}'; keep one row of each")
    return rows


def _architectures(space: SearchSpace, path: Path, frame: pd.DataFrame) -> list[Architecture]:
    """The architecture of each row."""
    if "arch" not in frame.columns:
        known = ", ".join(map(str, frame.columns))[:200]
        raise InvalidTable(f"{path} has no column 'arch' (it has {known}); add one with the architectures' strings")
    if frame.empty:
        raise InvalidTable(f"{path} has no rows: expected one an architecture")
    texts = frame["arch"].tolist()
    empty = np.array([not isinstance(text, str) or not text.strip() for text in texts])
    _refuse(path, empty, "no architecture string in 'arch'", "fill or remove them")
    archs: list[Architecture | None] = []
    reasons: list[str] = []
    for text in texts:
        try:
            archs.append(space.parse(text))
        except ArchgenError as error:
            archs.append(None)
            reasons.append(str(error))
    broken = np.array([arch is None for arch in archs])
    _refuse(path, broken, f"an architecture that is none of {space.name}", *reasons[:1])
    return [arch for arch in archs if arch is not None]


def _refuse(path: Path, bad: NDArray[np.bool_], what: str, advice: str = "mend or remove them") -> None:
    """Raise `InvalidTable` with the number of bad rows and the first of them, if there are any."""
    if bad.any():
        count = int(bad.sum())
        rows = "1 row has" if count == 1 else f"{count:,} rows have"
        raise InvalidTable(f"{path}: {rows} {what} (the first is row {int(bad.argmax()) + 1}): {advice}")


def _floats(column: pd.Series[Any]) -> NDArray[np.float64]:
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _read(path: Path) -> pd.DataFrame:
    return read_table(path, expected="a table with a column 'arch'")
