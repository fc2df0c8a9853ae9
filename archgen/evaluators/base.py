"""Evaluators: pay for the truth about architectures."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

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


Values = dict[str, float]
Change = Callable[[int, Values], Values]
Results = Generator[tuple[int, Measurement], None, None]
"""Positions and measurements; closing it gives up what is not there yet."""


class Evaluator(ABC):
    """Measures metrics of architectures of one space."""

    workers: int = 1
    """Architectures that are measured at the same time; a search gives so many at a time to `stream`."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that measurements have; one that is unknown for an architecture is left out."""

    @abstractmethod
    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        """One measurement an architecture, in order; a failure becomes a measurement with an `error`."""

    def stream(self, archs: Sequence[Architecture], *, seed: int) -> Results:
        """Each position in `archs` with its measurement, as soon as it is there and in any order.

        An exception of one evaluation becomes its `error`; those of the machine (`MemoryError`, `OSError`) are raised.
        """
        for i, arch in enumerate(archs):
            yield i, attempt(self, arch, seed)

    def can_evaluate(self, arch: Architecture) -> bool:
        """Whether the evaluator has an answer for this architecture; a table may list only some."""
        return True

    def close(self) -> None:  # noqa: B027  most hold nothing
        """Free what it holds: workers, connections. It may be used again."""


class Wrapper(Evaluator):
    """An evaluator around another one: the same measurements, each of them changed.

    Subclasses override `change`, or `stream` and `evaluate` where they come by measurements in another way.

    Args:
        evaluator: Measures.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.workers = evaluator.workers

    @property
    def metrics(self) -> tuple[str, ...]:
        return self.evaluator.metrics

    def can_evaluate(self, arch: Architecture) -> bool:
        return self.evaluator.can_evaluate(arch)

    def close(self) -> None:
        self.evaluator.close()

    def change(self, archs: Sequence[Architecture], seed: int) -> Change:
        """What is made of a successful measurement of `archs[i]`: a function of `i` and the measurement's values."""
        return lambda i, values: values

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        change = self.change(archs, seed)
        return [_changed(m, i, change) for i, m in enumerate(self.evaluator.evaluate(archs, seed=seed))]

    def stream(self, archs: Sequence[Architecture], *, seed: int) -> Results:
        change = self.change(archs, seed)
        for i, measured in self.evaluator.stream(archs, seed=seed):
            yield i, _changed(measured, i, change)


def _changed(measured: Measurement, i: int, change: Change) -> Measurement:
    return measured if measured.error is not None else replace(measured, values=change(i, measured.values))


def in_order(pairs: Iterable[tuple[int, Measurement]]) -> list[Measurement]:
    """What a `stream` gave, in the order asked."""
    return [measured for _, measured in sorted(pairs, key=itemgetter(0))]


def attempt(evaluator: Evaluator, arch: Architecture, seed: int) -> Measurement:
    """Evaluate one architecture; what goes wrong with it becomes the `error` of its measurement.

    Raises:
        MemoryError, OSError: The machine's fault, not the architecture's: another one would fare no better. A time-out,
            an `OSError` for Python, is that of one evaluation.
    """
    start = time.perf_counter()
    try:
        (measured,) = evaluator.evaluate([arch], seed=seed)
    except (MemoryError, OSError) as error:
        if not isinstance(error, TimeoutError):
            raise
        return failure(error, time.perf_counter() - start)
    except Exception as error:  # a search goes on whatever one architecture does
        return failure(error, time.perf_counter() - start)
    return checked(measured)


def checked(measured: Measurement) -> Measurement:
    """The measurement, or a failed one in its place when one of its values is not finite."""
    broken = [(metric, value) for metric, value in measured.values.items() if not math.isfinite(value)]
    if measured.error is not None or not broken:
        return measured
    return Measurement({}, measured.cost_seconds, "{} is not finite: {}".format(*broken[0]))


def failure(error: BaseException, seconds: float) -> Measurement:
    """The measurement of an evaluation that raised."""
    return Measurement({}, seconds, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
