"""FairNAS: each operation of each edge is trained exactly once a step."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from archgen import spaces
from archgen.spaces import SearchSpace
from archgen.supernets import make_supernet
from archgen.supernets.training import Fair
from archgen.supernets.training.fair import fair_architectures

NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}


def test_each_value_of_each_variable_is_in_one_architecture(space: SearchSpace, rng: np.random.Generator) -> None:
    archs = fair_architectures(space, rng)
    assert len(archs) == 5
    for column in zip(*(space.to_choices(arch).values() for arch in archs), strict=True):
        assert sorted(column) == list(range(5))
    assert archs != fair_architectures(space, rng)


def test_variables_with_fewer_values_begin_again() -> None:
    """Of 7 operations and 2 to 5 sources in a genotype, sources occur equally often but for the remainder."""
    space = spaces.load("darts")
    counts: dict[str, Counter[int]] = {name: Counter() for name in space.variables}
    drawn = fair_architectures(space, np.random.default_rng(0))
    assert len(drawn) == max(map(len, space.variables.values()))
    for arch in drawn:
        space.validate(arch)
        for name, value in space.to_choices(arch).items():
            counts[name][value] += 1
    operations = Counter[int]()
    for name, counter in counts.items():
        if name.endswith("operation"):
            operations += counter
    assert set(operations.values()) == {16}, "8 nodes of two inputs, which a genotype may exchange"


@pytest.mark.parametrize("name", ["mobilenetv3", "nasbench101"])
def test_where_values_exclude_each_other_the_architectures_are_valid_and_nearly_fair(name: str) -> None:
    space = spaces.load(name)
    rng = np.random.default_rng(0)
    counts: Counter[int] = Counter()
    for _ in range(4):
        for arch in fair_architectures(space, rng):
            space.validate(arch)
            counts[next(iter(space.to_choices(arch).values()))] += 1
    if name == "mobilenetv3":  # the resolution excludes nothing
        assert set(counts.values()) == {4}
        first = Counter(space.to_choices(arch)["stage1.block1"] for arch in fair_architectures(space, rng))
        assert max(first.values()) - min(first.values()) <= 1


def test_gradients_are_the_sum_over_the_architectures(space: SearchSpace) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = make_supernet(space, **NETWORK).eval()  # in training mode statistics would move in between
    x, y = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    losses = Fair(label_smoothing=0.1).step(supernet, (x, y), np.random.default_rng(3))
    got = {name: p.grad.clone() for name, p in supernet.named_parameters() if p.grad is not None}
    supernet.zero_grad()
    archs = fair_architectures(space, np.random.default_rng(3))
    each = [F.cross_entropy(supernet(x, arch), y, label_smoothing=0.1) for arch in archs]
    sum(each).backward()  # type: ignore[union-attr]
    for name, p in supernet.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(got[name], p.grad)
    assert losses["loss"] == pytest.approx(float(torch.stack(each).mean().detach()), rel=1e-5)
