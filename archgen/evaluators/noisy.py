"""Wrappers that make measurements uncertain, as training each architecture once makes them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from archgen.errors import InvalidOption, UnknownMetric
from archgen.evaluators.base import Evaluator, Values, Wrapper
from archgen.graph import Architecture


class Noisy(Wrapper):
    r"""Adds Gaussian noise: :math:`y + \sigma \epsilon` with :math:`\epsilon \sim N(0, 1)`.

    The noise depends on nothing but the architecture, the metric and the seed of the evaluation, so it is the same in
    a search that is resumed or spread over processes.

    Args:
        evaluator: Measures.
        std: Standard deviation of each noisy metric, in the metric's own unit.

    Raises:
        UnknownMetric: `evaluator` does not have the metric.
        InvalidOption: A standard deviation that is negative or not finite.
    """

    def __init__(self, evaluator: Evaluator, std: Mapping[str, float]) -> None:
        super().__init__(evaluator)
        for metric, sd in std.items():
            if metric not in evaluator.metrics:
                raise UnknownMetric(metric, evaluator.metrics)
            if not (math.isfinite(sd) and sd >= 0):
                raise InvalidOption(f"the noise of '{metric}' must be a standard deviation of 0 or more, got {sd}")
        self.std = dict(std)

    def change(self, arch: Architecture, values: Values, seed: int) -> Values:
        return {
            metric: value + self.std[metric] * float(_rng(arch, metric, seed).standard_normal())
            if metric in self.std
            else value
            for metric, value in values.items()
        }


class OneOfSeveral(Wrapper):
    """Gives one of several columns as one metric: published tables list each training seed in a column of its own.

    Which one is drawn depends on nothing but the architecture, the metric and the seed of the evaluation.

    Args:
        evaluator: Measures the columns.
        columns: The columns, at least one, of each new metric; they are no metrics themselves any more.

    Raises:
        UnknownMetric: `evaluator` does not have a column.
        InvalidOption: No column for a metric, or a metric that `evaluator` has already.
    """

    def __init__(self, evaluator: Evaluator, columns: Mapping[str, Sequence[str]]) -> None:
        super().__init__(evaluator)
        self.columns = {metric: tuple(names) for metric, names in columns.items()}
        drawn = [name for names in self.columns.values() for name in names]
        self._kept = tuple(m for m in evaluator.metrics if m not in drawn)
        for name in drawn:
            if name not in evaluator.metrics:
                raise UnknownMetric(name, evaluator.metrics)
        for metric, names in self.columns.items():
            if not names:
                raise InvalidOption(f"'{metric}' needs at least one column to be drawn from, got none")
            if metric in self._kept:
                raise InvalidOption(f"'{metric}' is a metric already; give the drawn one another name")

    @property
    def metrics(self) -> tuple[str, ...]:
        return (*self.columns, *self._kept)

    def change(self, arch: Architecture, values: Values, seed: int) -> Values:
        chosen: Values = {}
        for metric, names in self.columns.items():
            there = [name for name in names if name in values]  # a row may lack a seed
            if there:
                chosen[metric] = values[there[int(_rng(arch, metric, seed).integers(len(there)))]]
        return chosen | {metric: values[metric] for metric in self._kept if metric in values}


def _rng(arch: Architecture, metric: str, seed: int) -> np.random.Generator:
    """A generator that an architecture, a metric's name and a seed determine, the same in every process."""
    digest = hashlib.blake2b(f"{arch!r} {metric} {seed}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))
