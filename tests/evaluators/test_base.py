"""What goes wrong with one evaluation is its own; what goes wrong with the machine is everyone's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from archgen.evaluators import Evaluator, Measurement
from archgen.graph import Architecture
from archgen.spaces import SearchSpace


class Raising(Evaluator):
    """Raises what it was given, or measures."""

    def __init__(self, error: BaseException | None, value: float = 1.0) -> None:
        self.error, self.value = error, value

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("acc",)

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        if self.error is not None:
            raise self.error
        return [Measurement({"acc": self.value}, 0.0) for _ in archs]


def streamed(evaluator: Evaluator, space: SearchSpace) -> list[tuple[int, Measurement]]:
    return list(evaluator.stream(space.sample(2, np.random.default_rng(0)), seed=0))


@pytest.mark.parametrize("error", [ValueError("no\nweights"), RuntimeError(), TimeoutError("the device is silent")])
def test_an_exception_is_the_error_of_its_evaluation_in_one_line(space: SearchSpace, error: Exception) -> None:
    for i, (place, measured) in enumerate(streamed(Raising(error), space)):
        assert place == i
        assert measured.values == {}
        assert measured.error is not None
        assert measured.error.startswith(type(error).__name__)
        assert "\n" not in measured.error


@pytest.mark.parametrize("error", [MemoryError(), OSError("no space left"), KeyboardInterrupt()])
def test_what_is_the_machines_fault_is_raised(space: SearchSpace, error: BaseException) -> None:
    with pytest.raises(type(error)):
        streamed(Raising(error), space)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_a_failure(space: SearchSpace, value: float) -> None:
    (_, first), _ = streamed(Raising(None, value), space)
    assert first.values == {}
    assert first.error == f"acc is not finite: {value}"
