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


@pytest.mark.parametrize("rank", [0, 1])
def test_before_processes_know_of_each_other_the_first_one_speaks(alone: pytest.MonkeyPatch, rank: int) -> None:
    alone.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    alone.setenv("RANK", str(rank))
    assert launch.launched()
    assert (launch.rank(), launch.configured_precision(), launch.first_to_fail()) == (rank, "bf16", rank == 0)
