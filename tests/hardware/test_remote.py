"""A meter on a node of a cluster measures there, and what goes wrong there is said here."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from archgen.errors import ArchgenError
from archgen.hardware import (
    DeviceLost,
    MeasurementFile,
    OnnxLatency,
    RemoteMeter,
    TorchLatency,
    draw_distinct,
    measure_missing,
)
from archgen.ray_cluster import Cluster
from archgen.spaces import SearchSpace

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, and sockets that it leaves to the garbage collector


class Dies(nn.Module):
    """Takes its process with it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return x


def meter(ray_nodes: Any, **settings: Any) -> RemoteMeter:
    return RemoteMeter(TorchLatency, Cluster(ray_nodes.address, {"second": 1.0}), (3, 8, 8), rounds=5, **settings)


def test_networks_are_measured_on_the_node_that_has_the_resource(ray_nodes: Any) -> None:
    remote = meter(ray_nodes)
    assert remote.device == TorchLatency((3, 8, 8), rounds=5).device, "the nodes of this test are one machine"
    remote.reference = nn.Conv2d(3, 4, 3)
    remote.check_reference()
    small, large = nn.Conv2d(3, 1, 1), nn.Sequential(nn.Conv2d(3, 256, 3), nn.Conv2d(256, 256, 3))
    a, b = remote.measure([small, large], seed=0)
    assert 0 < a.latency_ms < b.latency_ms
    assert remote.reference_ms is not None
    first = remote.reference_ms
    remote.measure([small], seed=0)
    assert remote.reference_ms == first, "all sessions report for the speed of the first"


def test_one_object_holds_a_node_until_it_is_gone(ray_nodes: Any) -> None:
    import ray

    before = ray.cluster_resources()["second"]
    remote = meter(ray_nodes)
    assert remote.device
    assert before == 1.0
    assert ray.available_resources().get("second", 0.0) == 0.0
    del remote


def test_what_the_runtime_refuses_is_said(ray_nodes: Any) -> None:
    outcomes = meter(ray_nodes).attempt([nn.Conv2d(3, 1, 1), nn.Linear(5, 5)], seed=0)
    assert not isinstance(outcomes[0], ArchgenError)
    assert isinstance(outcomes[1], ArchgenError)
    with pytest.raises(ArchgenError, match="rounds of a latency measurement must be at least 5, got 2"):
        RemoteMeter(TorchLatency, Cluster(ray_nodes.address), (3, 8, 8), rounds=2)


def test_a_node_that_dies_is_a_lost_device(ray_nodes: Any) -> None:
    with pytest.raises(DeviceLost, match="the node that measures is lost"):
        meter(ray_nodes).measure([Dies()], seed=0)


def test_a_survey_takes_it_as_any_other_meter(ray_nodes: Any, space: SearchSpace, tmp_path: Path) -> None:
    file = MeasurementFile(tmp_path / "there.parquet", space.name)
    there = Cluster(ray_nodes.address, {"second": 1.0})
    remote = RemoteMeter(OnnxLatency, there, space.example_input(1), rounds=5, block_ms=0.5)
    archs = draw_distinct(space, 2, np.random.default_rng(0))
    done = measure_missing(remote, space, archs, file, seed=0)
    assert done.measured == 2
    assert set(file.measured(remote.device.id)) == {space.format(arch) for arch in archs}
