"""What tests of studies share: wishes, a space of three points, measurements, and how others see a database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from sqlalchemy.pool import NullPool

from archgen.evaluators import Measurement
from archgen.objectives import Objective, at_most, maximize
from archgen.spaces import CellSpace


@pytest.fixture(scope="session")
def wishes() -> list[Objective]:
    """One direction and one bound."""
    return [maximize("acc"), at_most("latency_ms", 5.0)]


@pytest.fixture(scope="session")
def tiny() -> CellSpace:
    """A space of three architectures."""
    return CellSpace("tiny", 2, {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}, {})


@pytest.fixture(scope="session")
def measured() -> Callable[..., Measurement]:
    """A measurement with these values, at half a second."""

    def measured(**values: float) -> Measurement:
        return Measurement(values, 0.5)

    return measured


@pytest.fixture(scope="session")
def opened() -> Callable[[Path], optuna.Study]:
    """What Optuna itself reads in a file."""

    def opened(path: Path) -> optuna.Study:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"poolclass": NullPool})
        return optuna.load_study(study_name="archgen", storage=storage)

    return opened


@pytest.fixture(scope="session")
def one_line() -> Callable[[pytest.ExceptionInfo[BaseException]], str]:
    """The message of an error, which must be one short line."""

    def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
        text = str(error.value)
        assert text
        assert "\n" not in text
        assert len(text) < 600
        return text

    return one_line
