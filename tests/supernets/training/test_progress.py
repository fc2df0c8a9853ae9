"""The state of a training: what is kept, read again, and rolled back to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from archgen.errors import InvalidCheckpoint
from archgen.supernets.training import Schedule, Updates
from archgen.supernets.training.progress import TrainingProgress


class Counter:
    """A memory of one number."""

    restarted = False

    def __init__(self, length: int = 1) -> None:
        self.value = torch.zeros(length)

    def state(self) -> dict[str, Tensor]:
        return {"value": self.value}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.value = state["value"]


def made(path: Path | None, memory: Counter | None = None) -> TrainingProgress:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Linear(2, 1)
    return TrainingProgress(Updates(net, Schedule(1).optimizer(net)), path, memory)


def step(progress: TrainingProgress) -> None:
    progress.updates.module(torch.ones(1, 2)).square().sum().backward()
    progress.updates.optimizer.step()
    progress.steps += 1


def momenta(progress: TrainingProgress) -> list[Tensor]:
    updates = progress.updates
    return [updates.optimizer.state[p]["momentum_buffer"].clone() for p in updates.module.parameters()]


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    path, memory = tmp_path / "kept.safetensors", Counter()
    first = made(path, memory)
    step(first)
    memory.value += 5
    first.keep()
    again = made(path, other := Counter())
    assert (again.steps, again.scale) == (1, 1.0)
    assert other.value.tolist() == [5]
    assert all(torch.equal(a, b) for a, b in zip(momenta(first), momenta(again), strict=True))
    assert torch.equal(first.updates.module.weight, again.updates.module.weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("kept", [True, False])
def test_a_roll_back_takes_everything_back_once(kept: bool) -> None:
    """To the state that was kept, or to the start, where there was no momentum."""
    memory = Counter()
    progress = made(None, memory)
    if kept:
        step(progress)
        memory.value += 1
        progress.keep()
    weight = progress.updates.module.weight.clone()  # type: ignore[operator, union-attr]
    buffers = momenta(progress) if kept else []
    step(progress)
    memory.value += 1
    assert progress.roll_back()
    assert torch.equal(progress.updates.module.weight, weight)  # type: ignore[arg-type]
    assert (progress.steps, progress.scale, memory.value.item()) == (int(kept), 0.5, float(kept))
    assert [p for p in progress.updates.module.parameters() if p in progress.updates.optimizer.state] == (
        list(progress.updates.module.parameters()) if kept else []
    )
    assert all(torch.equal(a, b) for a, b in zip(buffers, momenta(progress) if kept else [], strict=True))
    step(progress)
    progress.keep()
    assert not progress.roll_back()
    assert progress.steps == int(kept) + 1, "nothing is taken back a second time"


def test_a_file_of_another_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept.safetensors"
    made(path, Counter()).keep()
    with pytest.raises(InvalidCheckpoint, match=r"kept\.safetensors is of another training strategy"):
        made(path, Counter(2))
    made(path).keep()
    with pytest.raises(InvalidCheckpoint, match="of another training strategy"):
        made(path, Counter())
