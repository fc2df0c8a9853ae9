"""What a design can bound, and how it is predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archgen.design import DesignRequest, metrics
from archgen.design.latency import networks, spread
from archgen.design.metrics import check_metrics, check_reachable, counts, known_metrics, percentiles, within
from archgen.design.request import MEMORY
from archgen.errors import Infeasible, InvalidObjective, UnknownMetric
from archgen.peak_memory import peak_memory_mb
from archgen.progress import Progress
from archgen.spaces import SearchSpace, load

NETWORK = {"cells": 1, "channels": 8, "classes": 10, "in_channels": 3, "image_size": 16}


def request(**changes: object) -> DesignRequest:
    return DesignRequest("digits", "nasbench201", {}, **changes)  # type: ignore[arg-type]


def test_published_devices_are_known_of_published_networks_only(space: SearchSpace) -> None:
    assert {"latency_ms", "params", "flops", "memory_mb", "latency_ms@pixel3"} <= set(known_metrics(space))
    wanted = request(minimize=("latency_ms@pixel3",))
    check_metrics(space, wanted, space.network_defaults)
    with pytest.raises(InvalidObjective, match=r"published networks: design those \(cells=5\), or measure some"):
        check_metrics(space, wanted, {**space.network_defaults, "cells": 1})
    with pytest.raises(UnknownMetric, match="unknown metric 'latency_ms@pixel4': did you mean 'latency_ms@pixel3'"):
        check_metrics(space, request(minimize=("latency_ms@pixel4",)), space.network_defaults)


def test_memory_is_predicted_from_exact_ones_and_kept(tmp_path: Path, space: SearchSpace) -> None:
    wanted = request(minimize=("memory_mb",), measured=16)
    path = tmp_path / "memory.parquet"
    predictor = metrics._memory(space, wanted, NETWORK, path, Progress())
    others = spread(space, 6, NETWORK, 7)
    exact = [peak_memory_mb(n, space.example_input(1, **NETWORK)) for n in networks(space, others, NETWORK, 0)]
    found = predictor.predict(others).mean
    assert np.median(np.abs(found / exact - 1)) < 0.05
    written = path.stat().st_mtime_ns
    again = metrics._memory(space, wanted, NETWORK, path, Progress())
    assert again.metric == MEMORY
    assert np.array_equal(again.predict(others).mean, found)
    assert path.stat().st_mtime_ns == written


def test_the_smallest_architecture_of_a_space_with_an_order_counts_as_reachable() -> None:
    space = load("mobilenetv3@32")
    arguments = {**space.network_defaults, "classes": 10}
    assert space.extremes is not None
    least = space.count(space.extremes[0], **arguments)["params"]
    known = counts(space, arguments)
    check_reachable(space, DesignRequest("digits", "mobilenetv3", {"params": least}), known)
    with pytest.raises(Infeasible, match="raise the bound"):
        check_reachable(space, DesignRequest("digits", "mobilenetv3", {"params": least - 1}), known)


def test_so_many_percent_of_other_random_architectures_meet_a_percentile(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    known = counts(space, NETWORK)
    asked = {"params": 25.0, "flops": 60.0}
    values = percentiles(space, request(at_most_percent=asked), known)
    archs = [arch for arch in space.sample(3000, rng) if space.computation(arch).edges]
    assert values.keys() == asked.keys()
    for metric, percent in asked.items():
        met = float(np.mean(known[metric].predict(archs).mean <= values[metric]))
        # counts of a cell are few numbers, so more meet the bound than were asked for; fewer by sampling alone
        fewer = float(np.mean(known[metric].predict(archs).mean < values[metric]))
        assert fewer - 0.03 < percent / 100 < met + 0.03
    assert percentiles(space, request(), known) == {}


def test_all_bounds_must_be_met(space: SearchSpace, rng: np.random.Generator) -> None:
    archs, known = space.sample(60, rng), counts(space, NETWORK)
    bounds = {m: float(np.median(known[m].predict(archs).mean)) for m in ("params", "flops")}
    good = within(archs, DesignRequest("digits", "nasbench201", bounds), known)
    expected = np.all([known[m].predict(archs).mean <= bound for m, bound in bounds.items()], axis=0)
    assert good == expected.tolist()
    assert 0 < sum(good) < 60
