"""Several networks are fine-tuned at the same time as each would be alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from archgen.design import Design, tuners
from archgen.design.finetuning import Tuning, finetune, forget
from archgen.design.tuners import finetune_all
from archgen.errors import ArchgenError
from archgen.evaluators.base import Measurement
from archgen.objectives import maximize
from archgen.progress import Bar, Progress
from archgen.run_folder import RunFolder
from archgen.spaces import SearchSpace
from archgen.study import Study, Trial
from archgen.supernets import Supernet
from archgen.threads import torch_threads

ALWAYS = float("inf")


class Shown(Progress):
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bars: dict[str, list[int]] = {}

    def note(self, line: str) -> None:
        self.lines.append(line)

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Bar]:
        bar = self.bars[what] = [total, 0]

        class Counted(Bar):
            def update(self, steps: int = 1, **shown: float) -> None:
                bar[1] += steps

        yield Counted()


@pytest.fixture
def two(bare: Any) -> Any:
    """A design with two processes that keeps what it shows."""
    return replace(bare, progress=Shown(), processes=2)


@pytest.fixture(scope="module")
def trials(space: SearchSpace) -> list[Trial]:
    study = Study(space, [maximize("val_acc")])
    archs = [a for a in space.sample(20, np.random.default_rng(0)) if space.computation(a).edges][:3]
    study.record(archs, [Measurement({"val_acc": 10.0, "val_loss": 2.3}, 0.1)] * 3)
    return study.trials


def test_processes_give_what_one_after_another_gives(
    two: Any, supernet: Supernet, trials: list[Trial], tmp_path: Path
) -> None:
    asked: list[int] = []

    def allowed(rounds: int) -> float:
        asked.append(rounds)
        return ALWAYS

    with torch_threads(2):
        together = finetune_all(cast(Design, two), supernet, trials, 3, allowed)
        assert torch.get_num_threads() == 2
    assert asked == [2, 2, 1]
    assert two.progress.bars == {"fine-tuning 3 networks, percent of each": [300, 300]}
    assert not two.progress.lines
    two = replace(two, folder=RunFolder(tmp_path / "alone", {}))
    for trial, (network, val_acc) in zip(trials[:2], together[:2], strict=True):  # the third has both threads
        alone, expected = finetune(cast(Design, two), supernet, trial, 3)
        assert val_acc == expected
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in alone.state_dict().items())
    assert together[2][1] == pytest.approx(finetune(cast(Design, two), supernet, trials[2], 3)[1], abs=5)


def test_what_the_time_allows_is_said(two: Any, supernet: Supernet, trials: list[Trial]) -> None:
    with torch_threads(2):
        finetune_all(cast(Design, two), supernet, trials[:2], 10_000, lambda rounds: 0.0)
    assert two.progress.lines == ["the time limit allowed 1, 1 epochs of fine-tuning"]
    assert two.progress.bars == {"fine-tuning 2 networks, percent of each": [200, 200]}


def test_networks_that_are_fine_tuned_are_kept_until_the_run_is_finished(
    two: Any, supernet: Supernet, trials: list[Trial]
) -> None:
    """A resume with no time left has the epochs that were begun, and trains none of them again."""
    with torch_threads(2):
        first = finetune_all(cast(Design, two), supernet, trials[:2], 3, lambda rounds: ALWAYS)
        again = finetune_all(cast(Design, two), supernet, trials[:2], 10, lambda rounds: 0.0)
    assert two.progress.bars == {"fine-tuning 2 networks, percent of each": [200, 0]}
    assert [percent for _, percent in again] == [percent for _, percent in first]
    for (network, _), (other, _) in zip(first, again, strict=True):
        assert all(torch.equal(v, other.state_dict()[name]) for name, v in network.state_dict().items())
    (two.folder.path / ".finetuning-0-3-ab12cd_e.safetensors").touch()
    forget(two.folder)
    assert not [*two.folder.path.iterdir()]


class Deadly(nn.Module):
    """Kills the process that it comes to."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


class Diverging(nn.Module):
    """Its logits are not numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((10,), float("nan")))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight.expand(len(x), 10)


@pytest.mark.parametrize(
    ("network", "message"), [(Deadly(), "a process that fine-tunes died"), (Diverging(), "not finite|became")]
)
def test_what_goes_wrong_in_a_process_is_said(
    two: Any,
    supernet: Supernet,
    trials: list[Trial],
    monkeypatch: pytest.MonkeyPatch,
    network: nn.Module,
    message: str,
) -> None:
    monkeypatch.setattr(tuners, "prepare", lambda *given: Tuning(network, None, 10.0, 0))
    with torch_threads(2), pytest.raises(ArchgenError, match=message):
        finetune_all(cast(Design, two), supernet, trials, 3, lambda rounds: ALWAYS)
