"""Files that processes make are those that would be made here, and what they can not make is made here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archgen.errors import ArchgenError
from archgen.export import to_onnx
from archgen.hardware import OnnxLatency, onnx_latency
from archgen.hardware.exports import Exports
from archgen.spaces import load

EXAMPLE = torch.zeros(1, 6)


class Deadly(nn.Module):
    """Kills the process that it comes to."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


class Branching(nn.Module):
    """A network that ONNX can not express."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def network(width: int) -> nn.Module:
    torch.manual_seed(width)
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))


def test_files_are_the_same_to_the_byte_and_what_fails_is_none(tmp_path: Path) -> None:
    unsendable = network(4)
    unsendable.hook = lambda: None  # type: ignore[assignment]
    networks = [network(5), Branching(), unsendable, network(6)]
    with Exports(networks, EXAMPLE, 2) as exports:
        taken = [exports.take(each) for each in networks]
        assert exports.take(network(5)) is None, "nobody announced it"
    assert taken[1] is taken[2] is None
    for i in (0, 3):
        to_onnx(networks[i], EXAMPLE, tmp_path / "here.onnx")
        assert taken[i] == (tmp_path / "here.onnx").read_bytes()


def test_networks_of_a_space_with_code_of_ones_own() -> None:
    space = load(Path(__file__).parents[1] / "spaces" / "fixtures" / "my_net.toml")
    with_ghosts = [space.build(arch) for arch in space.sample(20, np.random.default_rng(0))]
    (chosen,) = [n for n in with_ghosts if any(type(m).__name__ == "Ghost" for m in n.modules())][:1]
    with Exports([chosen], space.example_input(1), 1) as exports:
        assert exports.take(chosen) is not None


def test_after_a_process_has_died_all_is_left_to_the_caller() -> None:
    networks = [Deadly(), *(network(width) for width in range(3, 9))]
    with Exports(networks, EXAMPLE, 1) as exports:
        assert [exports.take(each) for each in networks] == [None] * 7


def test_a_meter_exports_many_networks_in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    announced: list[int] = []

    class Counted(Exports):
        def __init__(self, networks: Sequence[nn.Module], *given: Any) -> None:
            announced.append(len(networks))
            super().__init__(networks, *given)

    here: list[nn.Module] = []

    def exported_here(one: nn.Module, *given: Any) -> None:
        here.append(one)
        to_onnx(one, *given)

    monkeypatch.setattr(onnx_latency, "Exports", Counted)
    monkeypatch.setattr(onnx_latency, "to_onnx", exported_here)
    monkeypatch.setattr(onnx_latency, "MANY", 3)
    meter = OnnxLatency(EXAMPLE, rounds=5, block_ms=0.1, processes=2)
    refused = Branching()
    networks = [network(3), refused, network(4), network(3), network(5)]
    keys = ["a", "b", "c", "a", "d"]
    found = meter.attempt(networks, seed=0, keys=keys)
    assert [isinstance(each, ArchgenError) for each in found] == [False, True, False, False, False]
    assert "can not be written as ONNX" in str(found[1])
    assert announced == [4], "one of each name"
    assert here == [refused], "which says why"
    meter.attempt(networks[2:4], seed=0, keys=keys[2:4])
    assert announced == [4], "they are loaded"
    meter.attempt([network(7)], seed=0)
    assert announced == [4], "too few"
    assert len(here) == 2
