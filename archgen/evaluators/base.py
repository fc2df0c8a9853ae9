"""Evaluators: pay for the truth about architectures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from archgen.graph import Architecture


@dataclass(frozen=True)
class Measurement:
    """What one evaluation gave.

    Args:
        values: Finite value of each metric; empty when the evaluation failed.
        cost_seconds: What it cost, in seconds.
        error: Why it failed, in one line; None when it did not.
    """

    values: dict[str, float]
    cost_seconds: float
    error: str | None = None


class Evaluator(ABC):
    """Measures metrics of architectures of one space."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that measurements have; one that is unknown for an architecture is left out."""

    @abstractmethod
    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        """One measurement an architecture, in order; a failure becomes a measurement with an `error`."""

    def can_evaluate(self, arch: Architecture) -> bool:
        """Whether the evaluator has an answer for this architecture; a table may list only some."""
        return True
