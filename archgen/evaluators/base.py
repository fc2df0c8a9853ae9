"""Evaluators: pay for the truth about architectures."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TypeVar

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


T = TypeVar("T")
Values = dict[str, float]
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

    def stream(self, archs: Iterable[Architecture], *, seed: int) -> Results:
        """Each position in `archs` with its measurement, as soon as it is there and in any order.

        The next architecture is taken when there is a worker for it, and not before what was measured till then was
        given. An exception of one evaluation becomes its `error`; those of the machine (`MemoryError`, `OSError`) are
        raised.
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

    def change(self, arch: Architecture, values: Values, seed: int) -> Values:
        """What is made of the values of a successful measurement."""
        return values

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        measured = self.evaluator.evaluate(archs, seed=seed)
        return [self._changed(arch, m, seed) for arch, m in zip(archs, measured, strict=True)]

    def stream(self, archs: Iterable[Architecture], *, seed: int) -> Results:
        taken: list[Architecture] = []
        for i, measured in self.evaluator.stream(noted(archs, taken), seed=seed):
            yield i, self._changed(taken[i], measured, seed)

    def _changed(self, arch: Architecture, measured: Measurement, seed: int) -> Measurement:
        if measured.error is not None:
            return measured
        return replace(measured, values=self.change(arch, measured.values, seed))


def noted(things: Iterable[T], taken: list[T]) -> Iterator[T]:
    """The same things, each appended to a list as it is taken."""
    for thing in things:
        taken.append(thing)
        yield thing


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
