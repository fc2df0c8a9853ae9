"""Sources of latencies: what is measured here, and tables from elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from archgen.design import DesignRequest
from archgen.design.latency import MeasuredElsewhere, MeasuredHere, networks, spread
from archgen.errors import InvalidTable, UnknownMetric
from archgen.hardware import TorchLatency
from archgen.progress import Progress
from archgen.spaces import SearchSpace, load

NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}


@pytest.fixture
def table(tmp_path: Path, space: SearchSpace) -> Path:
    """A device that takes a microsecond a MFLOP."""
    archs = spread(space, 20, NETWORK, 0)
    rows = [{"arch": space.format(a), "latency_ms": 0.1 + space.count(a, **NETWORK)["flops"] / 1e6} for a in archs]
    pd.DataFrame(rows).to_csv(tmp_path / "phone.csv", index=False)
    return tmp_path / "phone.csv"


def test_a_table_from_elsewhere_predicts_with_intervals(table: Path, space: SearchSpace) -> None:
    source = MeasuredElsewhere(space, table, seed=0)
    others = spread(space, 40, NETWORK, 1)
    truth = np.array([0.1 + space.count(space.simplify(a), **NETWORK)["flops"] / 1e6 for a in others])
    found = source.measure(others)
    assert np.corrcoef([m.latency_ms for m in found], truth)[0, 1] > 0.9
    assert all(m.low_ms <= m.latency_ms <= m.high_ms for m in found)
    assert source.facts["device"] == {"measurements": "phone.csv", "architectures": 20}
    assert source.facts["latency_predictor"]["n_test"] == 5


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: t.head(7), InvalidTable, "has 7 architectures, expected at least 8"),
        (lambda t: t.assign(latency_ms=0.0), InvalidTable, "'latency_ms' must be above 0 everywhere"),
        (lambda t: t.rename(columns={"latency_ms": "ms"}), UnknownMetric, "unknown metric 'latency_ms'"),
    ],
)
def test_a_table_that_can_not_be_used_is_refused(
    table: Path, space: SearchSpace, change: object, error: type[Exception], message: str
) -> None:
    change(pd.read_csv(table)).to_csv(table, index=False)  # type: ignore[operator]
    with pytest.raises(error, match=message):
        MeasuredElsewhere(space, table, seed=0)


def test_the_runtime_of_the_request_measures(tmp_path: Path, space: SearchSpace) -> None:
    request = DesignRequest("digits", "nasbench201", {}, measured=12, runtime="torch")
    source = MeasuredHere(space, request, NETWORK, tmp_path / "latency.parquet", Progress())
    assert isinstance(source.meter, TorchLatency)
    source.meter.rounds = 5
    source.learn(12)
    assert source.facts["device"]["runtime"] == "torch"
    again = MeasuredHere(space, request, NETWORK, tmp_path / "latency.parquet", Progress())
    again.learn(12)
    assert again.measured == source.measured, "read, not measured again"


def test_the_extremes_of_a_space_with_an_order_are_among_what_is_measured() -> None:
    space = load("mobilenetv3@32")
    assert space.extremes is not None
    archs = spread(space, 12, {"width_percent": 25, "classes": 3}, 0)
    assert archs[0] == space.extremes[0]
    assert archs[-1] == space.extremes[1]


def test_networks_leave_the_callers_random_numbers_alone(space: SearchSpace) -> None:
    state = torch.get_rng_state()
    made = networks(space, space.sample(2, np.random.default_rng(0)), NETWORK, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(network.training for network in made)
