"""Every registered proxy: leaves the network alone, repeats itself, fits the spaces that it says it fits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archgen import spaces
from archgen.errors import ArchgenError
from archgen.proxies import PROXIES, Proxy
from archgen.spaces import SearchSpace

NETWORK = {"cells": 1, "channels": 4, "classes": 3, "image_size": 8}
SMALL: dict[str, dict[str, int]] = {
    "autoformer": {"classes": 3, "image_size": 32},
    "darts": {"cells": 3, "channels": 4, "classes": 3, "image_size": 16},
    "fbnet": {"head": 16, "classes": 3},
    "flexibert": {"vocabulary": 20, "tokens": 6, "classes": 3},
    "mobilenetv3": {"width_percent": 25, "classes": 3, "image_size": 32},
    "nasbench101": {"stacks": 2, "cells": 1, "channels": 8, "classes": 3, "image_size": 16},
    "nasbench201": NETWORK,
    "nasbench_graph": {"features": 12, "channels": 8, "classes": 3},
    "nasbench_macro": {"channels": 4, "head": 16, "classes": 3},
    "vit_resnas": {"patch": 16, "classes": 3, "image_size": 32},
}
NO_RELU = {"nwot", "swap"}
TOKENS = {"jacov", "epe_nas", "synflow", "zen"}
BLOCKS = {"expressivity", "progressivity", "trainability"}
UNDEFINED = {
    "autoformer": NO_RELU | {"zen"},
    "flexibert": NO_RELU | TOKENS,
    "nasbench_graph": BLOCKS | {"zen"},
    "vit_resnas": {"zen"},
}
"""Proxies that a space's networks do not have."""
NOTHING = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
FINITE = {"params", "flops", "complexity", "l2_norm", "snip", "plain", "grasp", "grad_norm", "fisher", "swap"}
"""Proxies with a value where the output does not depend on the image."""


def build(space: SearchSpace, arch: Any, **network: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return space.build(arch, **network)


def batch_of(space: SearchSpace, n: int = 4, **network: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    example = space.example_input(n, **network)
    if example.is_floating_point():
        return torch.randn(example.shape, generator=generator), torch.arange(n) % 2
    return torch.randint(network["vocabulary"], example.shape, generator=generator), torch.arange(n) % 2


def value(name: str, network: nn.Module, batch: tuple[Tensor, Tensor], seed: int = 0) -> float:
    return PROXIES[name]()(network, *batch, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def cell(space: SearchSpace) -> nn.Module:
    arch = space.parse("|nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|")
    return build(space, arch, **NETWORK)


@pytest.mark.parametrize("name", list(PROXIES))
def test_the_network_stays_as_it_is(name: str, cell: nn.Module, space: SearchSpace) -> None:
    """Weights, statistics, gradients, modes and hooks; and PyTorch's own generator is not drawn from."""
    cell.eval()
    before = {key: tensor.clone() for key, tensor in cell.state_dict().items()}
    state = torch.get_rng_state()
    images, targets = batch_of(space, **NETWORK)
    kept = images.clone()
    value(name, cell, (images, targets))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, kept)
    assert images.grad is None
    assert not images.requires_grad
    assert all(torch.equal(before[key], tensor) for key, tensor in cell.state_dict().items())
    assert all(parameter.grad is None for parameter in cell.parameters())
    for module in cell.modules():
        assert not module.training
        assert not module._forward_hooks
        assert not module._backward_hooks


@pytest.mark.parametrize("name", list(PROXIES))
def test_the_same_generator_gives_the_same_value(name: str, cell: nn.Module, space: SearchSpace) -> None:
    batch = batch_of(space, **NETWORK)
    first = value(name, cell, batch)
    assert math.isfinite(first)
    assert value(name, cell, batch) == first
    draws = name in {"zen", "expressivity", "progressivity", "trainability"}
    assert (value(name, cell, batch, seed=1) != first) is draws


@pytest.mark.parametrize("name", list(PROXIES))
def test_a_cut_network_has_a_finite_value_or_nan_as_documented(name: str, space: SearchSpace) -> None:
    cut = build(space, space.parse(NOTHING), **NETWORK)
    got = value(name, cut, batch_of(space, **NETWORK))
    assert math.isfinite(got) if name in FINITE else math.isnan(got)


@pytest.mark.parametrize("space_name", list(SMALL))
def test_every_space_has_the_proxies_that_make_sense_for_it(space_name: str, rng: np.random.Generator) -> None:
    space = spaces.load(space_name)
    network = SMALL[space_name]
    archs = [*(space.extremes or ()), *space.sample(9, rng)]
    built = build(space, next(arch for arch in archs if space.computation(arch).edges), **network)
    batch = batch_of(space, **network)
    for name in PROXIES:
        if name in UNDEFINED.get(space_name, set()):
            with pytest.raises(ArchgenError, match=f"the proxy {name} "):
                value(name, built, batch)
        else:
            got = value(name, built, batch)
            assert math.isfinite(got), f"{name} is {got}"


def test_all_spaces_are_tried() -> None:
    assert sorted(SMALL) == spaces.available()


@pytest.mark.parametrize(
    ("images", "targets"),
    [(torch.zeros(1, 3, 8, 8), torch.zeros(1).long()), (torch.zeros(4, 3, 8, 8), torch.zeros(3).long())],
    ids=["one image", "fewer targets"],
)
def test_a_batch_of_another_form_is_refused(cell: nn.Module, images: Tensor, targets: Tensor) -> None:
    with pytest.raises(ArchgenError, match="two or more images and a target for each, got images of shape"):
        value("snip", cell, (images, targets))


def test_layers_without_weights_are_refused(batch: tuple[Tensor, Tensor]) -> None:
    network = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for name in ("snip", "l2_norm", "fisher"):
        with pytest.raises(ArchgenError, match=f"{name} needs convolutions or linear layers"):
            value(name, network, batch)


def test_infinite_values_become_nan(cell: nn.Module, space: SearchSpace) -> None:
    class Endless(Proxy):
        def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
            return -math.inf

    proxy = Endless()
    assert math.isnan(proxy(cell, *batch_of(space, **NETWORK), generator=torch.Generator()))
    assert proxy.name == "Endless"


def test_dropout_is_off_and_normalisation_by_the_batch(batch: tuple[Tensor, Tensor]) -> None:
    modes: dict[str, bool] = {}

    class Spy(Proxy):
        def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
            modes.update({type(module).__name__: module.training for module in network.modules()})
            return 0.0

    Spy()(nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).eval(), *batch, generator=torch.Generator())
    assert modes == {"Sequential": True, "BatchNorm2d": True, "Dropout": False}
