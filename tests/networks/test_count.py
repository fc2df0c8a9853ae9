"""Counts of parameters and FLOPs against hand-computed values."""

import pytest
import torch
from torch import nn

from archgen.networks import count_network


@pytest.mark.parametrize(
    ("module", "params", "flops"),
    [
        pytest.param(nn.Conv2d(3, 4, 3, padding=1, bias=False), 108, 4 * 36 * 27, id="convolution"),
        pytest.param(nn.Conv2d(3, 4, 3, stride=2, padding=1), 112, 4 * 9 * 27, id="stride, bias"),
        pytest.param(nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False), 54, 6 * 36 * 9, id="groups"),
        pytest.param(nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2)), 10, 72 * 3 + 144, id="norm"),
        pytest.param(nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU()), 6, 72 * 3 + 72, id="relu"),
        pytest.param(
            nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.AvgPool2d(3, 1, 1)), 6, 72 * 3 + 72 * 9, id="pool"
        ),
        pytest.param(
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5)),
            20,
            3 * 49 + 15,
            id="global pool, linear",
        ),
    ],
)
def test_counts_of_single_layers(module: nn.Module, params: int, flops: int) -> None:
    assert count_network(module, (3, 6, 6)) == {"params": params, "flops": flops}
    assert count_network(module.to("meta"), (3, 6, 6)) == {"params": params, "flops": flops}


def test_counting_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count_network(network, (3, 4, 4))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    count_network(network.eval(), (3, 4, 4))
    assert not network.training


def test_a_network_that_fails_is_left_without_hooks() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Linear(7, 2))
    with pytest.raises(RuntimeError):
        count_network(network, (3, 4, 4))
    assert not any(module._forward_hooks for module in network.modules())
    assert network.training
