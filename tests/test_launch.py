"""Which process this one is, from what `accelerate launch` puts into the environment."""

from __future__ import annotations

import pytest

from archgen import launch


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("ACCELERATE_MIXED_PRECISION", "RANK"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_process_that_was_started_alone_is_the_first(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("RANK", "3")  # of whatever else uses this name
    assert not launch.launched()
    assert (launch.rank(), launch.configured_precision(), launch.first_to_fail()) == (0, "no", True)


def test_what_was_launched_with_others_knows_its_number(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert (launch.launched(), launch.rank(), launch.configured_precision()) == (True, 0, "bf16")
    alone.setenv("RANK", "2")
    assert launch.rank() == 2


@pytest.mark.parametrize(("rank", "waits"), [(0, []), (1, [launch.GRACE])])
def test_before_processes_know_of_each_other_the_first_one_gets_time_to_speak(
    alone: pytest.MonkeyPatch, rank: int, waits: list[float]
) -> None:
    """Its launcher ends the second one meanwhile; if not, the first one has not failed, and the second one speaks."""
    slept: list[float] = []
    alone.setattr(launch.time, "sleep", slept.append)
    alone.setenv("ACCELERATE_MIXED_PRECISION", "no")
    alone.setenv("RANK", str(rank))
    assert launch.first_to_fail()
    assert slept == waits
