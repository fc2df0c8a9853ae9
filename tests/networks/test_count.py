"""Counts of parameters and FLOPs against hand-computed values."""

import pytest
import torch
from torch import nn

from archgen.networks import count_network


@pytest.mark.parametrize(
    ("module", "params", "macs", "others"),
    [
        pytest.param(nn.Conv2d(3, 4, 3, padding=1, bias=False), 108, 4 * 36 * 27, 0, id="convolution"),
        pytest.param(nn.Conv2d(3, 4, 3, stride=2, padding=1), 112, 4 * 9 * 27, 0, id="stride, bias"),
        pytest.param(nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False), 54, 6 * 36 * 9, 0, id="groups"),
        pytest.param(nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2)), 10, 72 * 3, 144, id="norm"),
        pytest.param(nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU()), 6, 72 * 3, 72, id="relu"),
        pytest.param(
            nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.AvgPool2d(3, 1, 1)), 6, 72 * 3, 72 * 9, id="pool"
        ),
        pytest.param(
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5)),
            20,
            15,
            3 * 49,
            id="global pool, linear",
        ),
        pytest.param(nn.Identity(), 0, 0, 0, id="nothing"),
    ],
)
def test_counts_of_single_layers(module: nn.Module, params: int, macs: int, others: int) -> None:
    expected = {"params": params, "flops": macs + others, "macs": macs}
    assert count_network(module, (3, 6, 6)) == expected
    assert count_network(module, torch.zeros(1, 3, 6, 6)) == expected
    assert count_network(module.to("meta"), (3, 6, 6)) == expected


def test_an_example_may_be_of_any_shape_and_type() -> None:
    network = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 5))
    counts = count_network(network, torch.zeros(1, 6, dtype=torch.long))
    assert counts == {"params": 28 + 25, "flops": 6 * 20, "macs": 6 * 20}


def test_a_module_can_say_what_its_layers_do_not_show() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(4, 4, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.project(x) @ x.mT

        def extra_macs(self, x: torch.Tensor, out: torch.Tensor) -> int:
            return out.numel() * x.shape[-1]

    counts = count_network(Product(), torch.zeros(1, 6, 4))
    assert counts == {"params": 16, "flops": 6 * 16 + 36 * 4, "macs": 6 * 16 + 36 * 4}


def test_counting_leaves_the_mode_of_each_module_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2).eval())
    count_network(network, (3, 4, 4))
    assert [module.training for module in network.modules()] == [True, True, False]


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
