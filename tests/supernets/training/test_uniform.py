"""Uniform single paths: who gets gradients, and which."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from archgen.networks.cell import edge_name
from archgen.spaces import CellSpace
from archgen.supernets import CellSupernet
from archgen.supernets.training import Uniform

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
SPACE = CellSpace("small", 3, ROLES, NETWORK)
BATCH = (torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2]))


@pytest.fixture
def supernet() -> CellSupernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CellSupernet(SPACE, NETWORK).train()


@pytest.mark.parametrize("seed", range(8))
def test_only_the_parameters_of_the_drawn_path_get_gradients(supernet: CellSupernet, seed: int) -> None:
    Uniform().step(supernet, BATCH, np.random.default_rng(seed))
    (arch,) = SPACE.sample(1, np.random.default_rng(seed))
    path = {f"edges.{edge_name(pair)}.{op}." for pair, op in SPACE.live_edges(arch).items()}
    for name, parameter in supernet.named_parameters():
        on_path = ".edges." not in name or any(part in name for part in path)
        if not on_path:
            assert parameter.grad is None, name
        elif path:  # a cut-off cell reads nothing of the stem
            assert parameter.grad is not None, name
    assert supernet.skeleton.classifier.weight.grad is not None


@pytest.mark.parametrize(("paths", "smoothing"), [(1, 0.0), (3, 0.0), (2, 0.1)])
def test_gradients_are_the_mean_over_the_paths(supernet: CellSupernet, paths: int, smoothing: float) -> None:
    x, y = BATCH
    archs = SPACE.sample(paths, np.random.default_rng(5))
    losses = [F.cross_entropy(supernet(x, arch), y, label_smoothing=smoothing) for arch in archs]
    mean = torch.stack(losses).mean()
    parameters = dict(supernet.named_parameters())
    expected = torch.autograd.grad(mean, list(parameters.values()), allow_unused=True)
    got = Uniform(paths, smoothing).step(supernet, BATCH, np.random.default_rng(5))
    assert got == {"loss": pytest.approx(mean.item(), rel=1e-5)}
    for (name, parameter), gradient in zip(parameters.items(), expected, strict=True):
        if gradient is None:
            assert parameter.grad is None, name
        else:
            torch.testing.assert_close(parameter.grad, gradient, msg=name)


def test_gradients_accumulate_and_the_weights_are_the_loops(supernet: CellSupernet) -> None:
    before = {name: value.clone() for name, value in supernet.named_parameters()}
    bias = supernet.skeleton.classifier.bias
    Uniform().step(supernet, BATCH, np.random.default_rng(0))
    once = bias.grad.clone()
    Uniform().step(supernet, BATCH, np.random.default_rng(0))
    torch.testing.assert_close(bias.grad, 2 * once)
    assert all(torch.equal(value, before[name]) for name, value in supernet.named_parameters())
