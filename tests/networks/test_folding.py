"""Batch normalisation folded into convolutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archgen import spaces
from archgen.networks.folding import folded


def used(network: nn.Module, example: Tensor) -> nn.Module:
    """With statistics and scales that are no longer those of a new network."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.affine:
                module.weight.uniform_(0.5, 2.0)
                module.bias.normal_()
        for _ in range(3):
            network.train()(example)
    return network


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("name", ["nasbench201", "nasbench101", "darts", "mobilenetv3", "fbnet", "nasbench_macro"])
def test_a_folded_network_computes_the_same_with_less(name: str) -> None:
    torch.manual_seed(0)
    space = spaces.load(name)
    (arch,) = space.sample(1, np.random.default_rng(1))
    example = torch.randn_like(space.example_input(4))
    network = used(space.build(arch), example)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    less = folded(network)
    assert norms(less) < norms(network)
    assert network.training
    assert not less.training
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(less(example), network.eval()(example), rtol=1e-3, atol=1e-4)


def test_only_what_follows_a_convolution_in_a_sequence_is_folded() -> None:
    class Backwards(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[0](self[1](x))

    convolution = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
    assert norms(folded(nn.Sequential(*convolution))) == 0
    assert norms(folded(Backwards(*convolution))) == 1
    assert norms(folded(nn.Sequential(convolution[0], nn.ReLU(), convolution[1]))) == 1
    assert norms(folded(nn.Sequential(*convolution[::-1]))) == 1
    of_the_batch = nn.BatchNorm2d(3, track_running_stats=False)
    assert norms(folded(nn.Sequential(convolution[0], of_the_batch))) == 1
