"""Workloads against counts by hand, and their sums over the segments of real spaces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from archgen import spaces
from archgen.networks.count import count_network
from archgen.networks.workload import KINDS, WORKLOAD, WorkloadTraces, trace_workload


def by_name(network, example):
    return dict(zip(WORKLOAD, trace_workload(network, example)[0].tolist(), strict=True))


def test_layers_are_told_apart_and_counted():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 1, groups=2, bias=False),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False),
        nn.Conv2d(16, 16, 5, padding=2, groups=16, bias=False),
        nn.Conv2d(16, 4, 1, bias=False),
        nn.Flatten(),
        nn.Identity(),
        nn.Linear(64, 10),
    )
    found = by_name(network, torch.zeros(1, 3, 4, 4))
    macs = {
        "spatial": 16 * 8 * 27,
        "grouped": 16 * 16 * 4,
        "depthwise": 16 * 16 * 9,
        "large_depthwise": 16 * 16 * 25,
        "pointwise": 16 * 4 * 16,
        "linear": 640,
        "other": 0,
    }
    for kind in KINDS:
        assert found[f"{kind}_layers"] == (kind != "other")
        assert found[f"{kind}_macs"] == macs[kind]
        assert found[f"{kind}_root_macs"] == pytest.approx(macs[kind] ** 0.5)
    assert found["parameters"] == sum(
        p.numel() for m in network if not isinstance(m, nn.BatchNorm2d) for p in m.parameters()
    )
    traffic = [16 * (3 + 8), 16 * (8 + 16), 16 * 32, 16 * 32, 16 * 20, 64 + 10]
    assert found["elements"] == sum(traffic)
    assert found["root_elements"] == pytest.approx(sum(t**0.5 for t in traffic))
    assert found["steps"] == 9, "all but the identity"


def test_a_network_is_left_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    network.train()
    network[1].eval()
    before = network(torch.ones(2, 3, 5, 5))
    trace_workload(network, torch.zeros(1, 3, 5, 5))
    assert [m.training for m in network] == [True, False, True]
    assert torch.equal(network(torch.ones(2, 3, 5, 5)), before)
    assert not network[0]._forward_hooks


@pytest.mark.parametrize("name", ["fbnet", "mobilenetv3", "flexibert", "nasbench_macro", "autoformer"])
def test_the_sum_over_segments_is_the_workload_of_the_network(name):
    space = spaces.load(name)
    (arch,) = space.sample(1, np.random.default_rng(0))
    with torch.device("meta"):
        network, example = space.build(arch), space.example_input(1)
    whole, _ = trace_workload(network, example)
    assert space.workload(arch) == pytest.approx(whole)
    macs = sum(whole[WORKLOAD.index(f"{kind}_macs")] for kind in KINDS)
    assert macs == pytest.approx(count_network(network, example)["macs"])


def test_spaces_of_repeated_cells_have_none():
    space = spaces.load("nasbench201")
    assert space.workload(space.sample(1, np.random.default_rng(0))[0]) is None


def test_a_network_that_was_made_ready_is_traced_as_a_fresh_one():
    def network():
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))

    traces, kept = WorkloadTraces(), network()
    for size in (9, 5, 9):
        example = torch.zeros(1, 3, size, size)
        workload, output = traces(kept, example)
        expected, expected_output = trace_workload(network(), example)
        assert workload.tolist() == expected.tolist()
        assert output.shape == expected_output.shape
