"""What each operation of each edge costs: read from a file, or counted; and the expectation of it."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from archgen.errors import InvalidOption, UnknownName
from archgen.tables import read_table

Latencies = dict[str, list[float]]
"""Of the operations of each edge, in the order of the supernet's edges; any unit, not negative."""
COLUMNS = ("edge", "operation", "latency")


def read_latencies(path: Path, edges: Mapping[str, tuple[str, ...]]) -> Latencies:
    """Read latencies from a file.

    Args:
        path: `.json` or `.toml`, a table of operations for each edge, `{"0->1": {"skip_connect": 0.1}}`; or
            `.parquet` or `.csv` with the columns `edge`, `operation` and `latency`.
        edges: Operations of each edge; each needs a latency.

    Raises:
        InvalidOption: No such file, one that says something else, or a latency that is missing or is no number from 0.
        UnknownName: An edge or operation that the supernet has not, or a column that is missing.
        InvalidTable: A table that can not be read.
    """
    found = _nested(path) if path.suffix in (".json", ".toml") else _table(path)
    for edge, operations in found.items():
        if edge not in edges:
            raise UnknownName(f"edge in {path}", edge, edges)
        for operation in operations:
            if operation not in edges[edge]:
                raise UnknownName(f"operation of {edge} in {path}", operation, edges[edge])
    return {
        edge: [_value(path, found.get(edge, {}).get(op), f"'{op}' on '{edge}'") for op in operations]
        for edge, operations in edges.items()
    }


def _nested(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        raise InvalidOption(f"latency={path} is not a file: expected latencies of operations; check the path")
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise InvalidOption(f"{path} can not be read ({' '.join(str(error).split())[:120]}); write it anew") from None
    if not isinstance(found, dict) or not all(isinstance(value, dict) for value in found.values()):
        raise InvalidOption(f"{path} is no table of operations for each edge, such as {{'0->1': {{'conv': 2.5}}}}")
    return found


def _table(path: Path) -> dict[str, dict[str, Any]]:
    frame = read_table(path, expected="latencies of operations, or .json or .toml")
    for column in COLUMNS:
        if column not in frame.columns:
            raise UnknownName(f"column of {path}", column, map(str, frame.columns))
    found: dict[str, dict[str, Any]] = {}
    for edge, operation, latency in frame[list(COLUMNS)].itertuples(index=False):
        if operation in found.setdefault(str(edge), {}):
            raise InvalidOption(f"{path} has two latencies of '{operation}' on '{edge}'; leave one")
        found[str(edge)][str(operation)] = latency
    return found


def _value(path: Path, value: Any, what: str) -> float:
    if value is None:
        raise InvalidOption(f"{path} has no latency of {what}; add it")
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise InvalidOption(f"{path}: the latency of {what} must be a number from 0, got {value!r}")
    return number


def expected_latency(
    probabilities: Mapping[str, Float[Tensor, " k"]], latencies: Mapping[str, Float[Tensor, " k"]]
) -> Float[Tensor, ""]:
    r"""The sum over all edges of :math:`E = \sum_j p_j F(o_j)` (ProxylessNAS, arXiv 1812.00332, section 3.3.1).

    Args:
        probabilities: Of `k` operations of each edge.
        latencies: Of the same operations.
    """
    return torch.stack([probabilities[edge] @ latencies[edge] for edge in probabilities]).sum()
