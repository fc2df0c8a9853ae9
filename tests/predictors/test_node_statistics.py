"""Node-wise statistics against the proxies that sum them, and what they depend on."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from archgen import spaces
from archgen.artifacts import write_tensors
from archgen.errors import InvalidCheckpoint
from archgen.predictors.node_statistics import STATISTICS, NodeStatistics
from archgen.proxies import PROXIES
from archgen.spaces import SearchSpace

CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"


@pytest.mark.parametrize("name", ["grad_norm", "snip", "synflow", "l2_norm"])
def test_the_sum_over_nodes_is_the_proxy(space: SearchSpace, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the very network and batch that the statistics are of."""
    arch = space.parse(CELL)
    statistics = NodeStatistics(space, seed=1)
    built: list[nn.Module] = []
    make = space.build

    def build(*arguments: object, **network: int) -> nn.Module:
        built.append(make(*arguments, **network))  # type: ignore[arg-type]
        return built[0]

    monkeypatch.setattr(space, "build", build)
    original: dict[str, torch.Tensor] = {}
    measure = statistics._gradients

    def keep(network: nn.Module, nodes: dict) -> dict:  # type: ignore[type-arg]
        import copy

        original["network"] = copy.deepcopy(network)  # type: ignore[assignment]
        return measure(network, nodes)

    monkeypatch.setattr(statistics, "_gradients", keep)
    (rows,) = statistics([arch])
    column = STATISTICS.index(name)
    total = sum(math.exp(row[column]) for row in rows.values())
    generator = torch.Generator().manual_seed(0)
    value = PROXIES[name]()(original["network"], statistics._images, statistics._targets, generator=generator)
    assert (math.log(total) if name == "synflow" else total) == pytest.approx(value, rel=1e-4)


def test_nodes_that_never_matter_are_left_out(space: SearchSpace) -> None:
    statistics = NodeStatistics(space)
    whole, cut = statistics([space.parse(CELL), space.parse(CELL.replace("nor_conv_3x3~2", "none~2"))])
    assert any(name.startswith("layers.0.edges.2-3") for name in whole)
    assert not any(name.startswith("layers.0.edges.2-3") for name in cut)
    assert not any(name.startswith("layers.0.edges.0-2") for name in cut)  # leads to node 2 alone


def test_values_depend_on_seed_and_function_alone(space: SearchSpace) -> None:
    """Not on the order of calls, nor on parts that the output does not depend on, nor on torch's own generator."""
    archs = space.sample(4, np.random.default_rng(0))
    before = torch.get_rng_state()
    first, second = NodeStatistics(space, 5)(archs), NodeStatistics(space, 5)(archs[::-1])[::-1]
    assert bool((torch.get_rng_state() == before).all())
    for one, two in zip(first, second, strict=True):
        assert one.keys() == two.keys()
        assert all((one[name] == two[name]).all() for name in one)
    other = NodeStatistics(space, 6)(archs[:1])[0]
    assert any((other[name] != first[0][name]).any() for name in other)
    dead = space.parse(CELL.replace("nor_conv_3x3~2", "none~2"))
    deader = space.parse(CELL.replace("nor_conv_3x3~2", "none~2").replace("nor_conv_1x1~0", "avg_pool_3x3~0"))
    statistics = NodeStatistics(space)
    assert statistics([dead])[0] is statistics([deader])[0]


def test_the_empty_cell_has_finite_statistics(space: SearchSpace) -> None:
    (rows,) = NodeStatistics(space)([space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")])
    assert all(np.isfinite(row).all() for row in rows.values())


@pytest.mark.parametrize("name", ["nasbench101", "darts", "nasbench_macro", "flexibert"])
def test_other_spaces_have_nodes_too(name: str) -> None:
    space = spaces.load(name)
    for rows in NodeStatistics(space)(space.sample(2, np.random.default_rng(0))):
        assert len(rows) > 2
        assert all(row.shape == (len(STATISTICS),) and np.isfinite(row).all() for row in rows.values())


def test_what_was_saved_is_not_measured_again(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archs = space.sample(4, np.random.default_rng(0))
    statistics = NodeStatistics(space, seed=3)
    before = statistics(archs)
    statistics.save(tmp_path, "# card\n")
    again = NodeStatistics(space, seed=3).recall(tmp_path)
    assert len(again) == len({space.simplify(arch) for arch in archs})
    with monkeypatch.context() as patch:
        patch.delattr(NodeStatistics, "_measure")
        after = again(archs)
    for one, two in zip(before, after, strict=True):
        assert one.keys() == two.keys()
        assert all((one[name] == two[name]).all() for name in one)
    unknown = space.sample(9, np.random.default_rng(1))[-1:]
    assert again(unknown)[0].keys() == statistics(unknown)[0].keys()


def test_statistics_of_other_networks_are_refused(space: SearchSpace, tmp_path: Path) -> None:
    statistics = NodeStatistics(space, seed=3)
    statistics(space.sample(2, np.random.default_rng(0)))
    statistics.save(tmp_path, "# card\n")
    for other in (NodeStatistics(space, seed=4), NodeStatistics(space, seed=3, channels=8)):
        with pytest.raises(InvalidCheckpoint, match=r"has the statistics of .*, expected those of"):
            other.recall(tmp_path)
    write_tensors(tmp_path / "model.safetensors", {"values": torch.zeros(2, 1, len(STATISTICS))})
    with pytest.raises(InvalidCheckpoint, match="has not whole node statistics"):
        statistics.recall(tmp_path)
