"""PA&DA: both distributions follow the gradients that an epoch showed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from archgen import spaces
from archgen.data import ImageData
from archgen.graph import Architecture
from archgen.spaces import CellSpace
from archgen.supernets import CellSupernet, make_supernet
from archgen.supernets.training import PathAndData, Schedule, train_supernet
from archgen.supernets.training.base import Plan

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 10, "in_channels": 1, "image_size": 8}
SPACE = CellSpace("small", 3, ROLES, NETWORK)


@pytest.fixture
def supernet() -> CellSupernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CellSupernet(SPACE, NETWORK).train()


def batch(n: int = 6) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 10


def prepared(supernet: CellSupernet, images: int = 12, steps: int = 2, epochs: int = 4) -> PathAndData:
    strategy = PathAndData()
    strategy.prepare(supernet, Plan(images, steps, epochs))
    return strategy


def fixed(strategy: PathAndData, archs: list[Architecture], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the strategy train given paths."""
    queue = iter(archs)
    monkeypatch.setattr(strategy, "_draw", lambda space, rng: next(queue))


def test_at_first_paths_and_images_are_uniform(supernet: CellSupernet) -> None:
    strategy = prepared(supernet)
    assert torch.equal(strategy.path_probabilities, torch.full((3, 4), 0.25).double())
    assert torch.equal(strategy.image_probabilities, torch.full((12,), 1 / 12, dtype=torch.float64))


def test_paths_follow_the_norms_of_their_gradients(supernet: CellSupernet, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand for the edge 0->2, on which one step has a 1x1 and the other a 3x3 convolution; tau is 1/4."""
    first = SPACE.from_choices({"0->1": 0, "0->2": 2, "1->2": 0})
    second = SPACE.from_choices({"0->1": 0, "0->2": 3, "1->2": 0})
    strategy = prepared(supernet)
    fixed(strategy, [first, second], monkeypatch)
    norms = []
    for arch in (first, second):
        strategy.step(supernet, batch(), np.random.default_rng(0))
        own = [p.grad for p in supernet.owned(arch)["0->2"]]
        norms.append(torch.cat([g.flatten() for g in own if g is not None]).norm().item())
        supernet.zero_grad()
    mean = sum(norms) / 2
    share = np.array([mean, mean, *norms]) / (2 * mean + sum(norms))  # none and skip have the mean of the others
    assert strategy.path_probabilities[1].numpy() == pytest.approx(0.25 * share + 0.75 / 4, rel=1e-5)
    assert strategy.path_probabilities[0].numpy() == pytest.approx(0.25), "an edge that was never trained stays uniform"


def test_images_follow_the_norms_of_their_losses(supernet: CellSupernet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve images, of which the epoch shows six, each twice; the others keep their first norm of 1."""
    arch = SPACE.from_choices({"0->1": 0, "0->2": 2, "1->2": 0})
    strategy = prepared(supernet.eval())
    fixed(strategy, [arch, arch], monkeypatch)
    strategy._order = torch.cat([torch.arange(6), torch.arange(6)])
    x, y = batch()
    with torch.no_grad():
        norm = (supernet(x, arch).softmax(-1) - F.one_hot(y, 10)).norm(dim=-1).double()
    for _ in range(2):
        strategy.step(supernet, (x, y), np.random.default_rng(0))
    norm = torch.cat([norm, torch.ones(6).double()])
    torch.testing.assert_close(strategy.image_probabilities, 0.25 * norm / norm.sum() + 0.75 / 12, rtol=1e-5, atol=0)


def test_at_the_end_only_importance_counts_and_parameter_free_operations_live(
    supernet: CellSupernet, data: ImageData
) -> None:
    strategy = PathAndData()
    train_supernet(supernet, strategy, data, Schedule(3), seed=0)
    assert strategy.path_probabilities.sum(1).numpy() == pytest.approx(1.0)
    assert float(strategy.image_probabilities.sum()) == pytest.approx(1.0)
    assert bool((strategy.path_probabilities[:, :2] > 0.1).all()), "none and skip_connect"
    weighted = strategy.path_probabilities[:, 2:]
    assert weighted.std() > 0.01, "1x1 and 3x3 convolutions have other gradients"


def test_drawing_follows_the_probabilities(supernet: CellSupernet) -> None:
    strategy = prepared(supernet)
    strategy.path_probabilities = torch.tensor([[0, 0, 1, 0], [0.5, 0, 0, 0.5], [0, 1, 0, 0]]).double()
    rng = np.random.default_rng(0)
    drawn = [SPACE.to_choices(strategy._draw(SPACE, rng)) for _ in range(200)]
    assert {choice["0->1"] for choice in drawn} == {2}
    assert {choice["1->2"] for choice in drawn} == {1}
    assert np.mean([choice["0->2"] == 3 for choice in drawn]) == pytest.approx(0.5, abs=0.15)
    strategy.image_probabilities = torch.zeros(12).double()
    strategy.image_probabilities[3] = 1
    assert strategy.order(torch.Generator().manual_seed(0)).tolist() == [3] * 12


@pytest.mark.parametrize("name", ["darts", "nasbench101", "nasbench_macro"])
def test_it_trains_spaces_of_other_families(name: str, data: ImageData) -> None:
    small = {
        "darts": {"cells": 3, "channels": 2, "auxiliary": 0},
        "nasbench101": {"stacks": 1, "cells": 1, "channels": 8},
        "nasbench_macro": {"channels": 2, "head": 4},
    }[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make_supernet(spaces.load(name), **small, classes=10, in_channels=1, image_size=8)
    strategy = PathAndData()
    train_supernet(net, strategy, data, Schedule(1), seed=0)
    uniform = strategy._exists / strategy._exists.sum(1, keepdim=True).double()
    assert not torch.allclose(strategy.path_probabilities, uniform)
    assert bool((strategy.path_probabilities[~strategy._exists] == 0).all())
