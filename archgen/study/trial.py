"""One evaluated architecture."""

from __future__ import annotations

from dataclasses import dataclass

from archgen.graph import Architecture

COMPLETE, FAILED = "complete", "failed"


@dataclass(frozen=True)
class Trial:
    """One evaluated architecture.

    Args:
        number: Place among the evaluated, from 0, in the order in which they were begun.
        arch: The architecture.
        values: Value of each metric; empty when it failed.
        cost_seconds: What the evaluation cost.
        state: `complete` or `failed`.
    """

    number: int
    arch: Architecture
    values: dict[str, float]
    cost_seconds: float
    state: str = COMPLETE
