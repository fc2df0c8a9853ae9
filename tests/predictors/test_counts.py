"""Exact counts: of the published network, or of the one that is built after dead edges are cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from archgen.errors import ArchgenError, UnknownMetric, UnknownName
from archgen.objectives import at_most
from archgen.predictors.counts import Count
from archgen.spaces import SearchSpace

DEAD = "|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|nor_conv_3x3~2|"
"""Its 3x3 convolutions lead nowhere or come from nowhere; the 1x1 convolution is all that computes."""
ALIVE = "|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|"


@pytest.mark.parametrize("metric", ["params", "flops"])
def test_published_counts_are_met(space: SearchSpace, tables: Path, metric: str) -> None:
    table = pd.read_parquet(tables / "nasbench201" / "zero_cost_cifar10.parquet").sample(300, random_state=0)
    archs = [space.parse(text) for text in table["arch"]]
    predicted = Count(space, metric, simplify=False).predict(archs).mean
    assert predicted / 1e6 == pytest.approx(table[metric].to_numpy(), rel=1e-5)


@pytest.mark.parametrize("metric", ["params", "flops"])
def test_dead_edges_cost_nothing_unless_the_published_network_is_meant(space: SearchSpace, metric: str) -> None:
    dead, alive = space.parse(DEAD), space.parse(ALIVE)
    cut, live = Count(space, metric).predict([dead, alive]).mean
    assert cut == live
    published, _ = Count(space, metric, simplify=False).predict([dead, alive]).mean
    assert published > live


def test_the_count_is_that_of_the_network_that_is_built(space: SearchSpace, rng: np.random.Generator) -> None:
    network = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
    archs = space.sample(8, rng)
    predicted = Count(space, "params", network).predict(archs)
    built = [space.build(space.simplify(arch), **network) for arch in archs]
    assert predicted.mean.tolist() == [sum(p.numel() for p in module.parameters()) for module in built]
    assert predicted.std.tolist() == [0.0] * 8


def test_a_bound_on_a_count_is_certain(space: SearchSpace) -> None:
    count = Count(space, "params")
    (alive,) = count.predict([space.parse(ALIVE)]).mean
    bound = [count.log_probability([space.parse(ALIVE)], at_most("params", alive + shift))[0] for shift in (0, -1)]
    assert bound == [0.0, -np.inf]


def test_only_counts_are_counted(space: SearchSpace) -> None:
    with pytest.raises(UnknownMetric, match=r"unknown metric 'latency_ms': .*flops, params"):
        Count(space, "latency_ms")


def test_an_argument_that_the_network_lacks_is_refused(space: SearchSpace, rng: np.random.Generator) -> None:
    with pytest.raises(UnknownName, match="argument of the network 'chanels': did you mean 'channels'"):
        Count(space, "params", {"chanels": 8}).predict(space.sample(1, rng))


def test_fit_checks_its_arguments_and_learns_nothing(space: SearchSpace, rng: np.random.Generator) -> None:
    archs, count = space.sample(3, rng), Count(space, "params")
    before = count.predict(archs).mean
    assert count.fit(archs, np.array([1.0, 2.0, 3.0])) is count
    assert (count.predict(archs).mean == before).all()
    with pytest.raises(ArchgenError, match="NaN or infinite"):
        count.fit(archs, np.array([1.0, np.nan, 3.0]))


def test_nothing_to_count_is_an_empty_prediction(space: SearchSpace) -> None:
    mean, std = Count(space, "flops").predict([])
    assert mean.shape == std.shape == (0,)


def test_the_state_keeps_the_network_and_the_way_of_counting(space: SearchSpace, rng: np.random.Generator) -> None:
    network = {"channels": 4}
    count = Count(space, "params", network, simplify=False)
    network["channels"] = 99  # the caller's dictionary is the caller's
    config, tensors = count.state()
    assert (config, tensors) == ({"simplify": False, "network": {"channels": 4}}, {})
    archs = space.sample(5, rng)
    assert (Count.restore(space, "params", config, tensors).predict(archs).mean == count.predict(archs).mean).all()
