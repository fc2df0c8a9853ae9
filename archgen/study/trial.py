"""One evaluated architecture, and the table of many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from archgen.graph import Architecture

COMPLETE, FAILED = "complete", "failed"


@dataclass(frozen=True)
class Trial:
    """One evaluated architecture.

    Args:
        number: Place among the evaluated, from 0, in the order in which they were begun. Where several processes
            share a study it is settled only when all are done: what was begun before may end after.
        arch: The architecture.
        values: Value of each metric; empty when it failed.
        cost_seconds: What the evaluation cost.
        state: `complete` or `failed`.
        error: Why it failed, in one line.
    """

    number: int
    arch: Architecture
    values: dict[str, float]
    cost_seconds: float
    state: str = COMPLETE
    error: str | None = None


def trials_frame(
    trials: Sequence[Trial], write: Callable[[Architecture], str], metrics: Sequence[str] = ()
) -> pd.DataFrame:
    """`trial`, `arch`, a column a metric, `cost_seconds`, `state`, a row a trial; `error` where any failed.

    Args:
        trials: The trials.
        write: Gives the string of an architecture.
        metrics: Columns to show first, in this order, even when no trial has them.
    """
    seen = dict.fromkeys([*metrics, *(m for t in trials for m in t.values)])
    columns: dict[str, Any] = {
        "trial": [t.number for t in trials],
        "arch": [write(t.arch) for t in trials],
        **{m: [t.values.get(m, math.nan) for t in trials] for m in seen},
        "cost_seconds": [t.cost_seconds for t in trials],
        "state": [t.state for t in trials],
    }
    if any(t.error is not None for t in trials):
        columns["error"] = [t.error or "" for t in trials]
    return pd.DataFrame(columns)
