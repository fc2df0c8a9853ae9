"""What every supernet promises, for each space that has one."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archgen import spaces
from archgen.errors import InvalidArchitecture
from archgen.spaces import SearchSpace
from archgen.supernets import SUPERNETS, Supernet, make_supernet

SMALL: dict[str, dict[str, int]] = {
    "nasbench201": {"cells": 2, "channels": 4, "classes": 3, "image_size": 8},
    "nasbench101": {"stacks": 2, "cells": 2, "channels": 8, "classes": 3, "image_size": 8},
    "darts": {"cells": 5, "channels": 4, "classes": 3, "image_size": 16, "auxiliary": 0},
    "mobilenetv3": {"width_percent": 25, "classes": 3, "image_size": 32},
    "nasbench_macro": {"channels": 4, "head": 8, "classes": 3, "image_size": 16},
    "fbnet": {"head": 8, "classes": 3, "image_size": 16},
    "autoformer": {"patch": 8, "classes": 3, "image_size": 16},
    "flexibert": {"vocabulary": 20, "tokens": 6, "classes": 3},
}


@cache
def made(name: str) -> Supernet:
    """With statistics that are not those of a fresh network, different in each layer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = make_supernet(spaces.load(name), **SMALL[name])
        for key, value in supernet.named_buffers():
            if "running" in key:
                value.uniform_(0.5, 1.5)
    return supernet.eval()


def inputs(supernet: Supernet, n: int = 2) -> Tensor:
    example = supernet.space.example_input(n, **supernet.network)
    generator = torch.Generator().manual_seed(0)
    if example.is_floating_point():
        return torch.randn(example.shape, generator=generator)
    return torch.randint(20, example.shape, generator=generator)


def archs(space: SearchSpace, n: int = 4) -> list:  # type: ignore[type-arg]
    return [*(space.extremes or ()), *space.sample(n, np.random.default_rng(1))]


def test_each_space_of_a_family_with_a_supernet_is_tested_here() -> None:
    known = {name for name in spaces.available() if spaces.load(name).family in SUPERNETS}
    assert known - set(SMALL) == {"vit_resnas"}, "whose networks are large; a chain like autoformer"


@pytest.mark.parametrize("name", SMALL)
def test_a_path_computes_what_its_subnet_computes(name: str) -> None:
    supernet = made(name)
    x = inputs(supernet)
    with torch.no_grad():
        for arch in archs(supernet.space):
            torch.testing.assert_close(supernet(x, arch), supernet.subnet(arch)(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_a_subnet_is_the_simplified_network_with_copies_of_the_weights(name: str) -> None:
    supernet = made(name)
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    for arch in archs(supernet.space, 2):
        network = supernet.subnet(arch)
        alone = supernet.space.build(supernet.space.simplify(arch), **supernet.network)
        assert {k: v.shape for k, v in network.state_dict().items()} == {
            k: v.shape for k, v in alone.state_dict().items()
        }
        assert not network.training
        with torch.no_grad():
            for value in network.state_dict().values():
                value.fill_(7)
    assert all(torch.equal(value, before[key]) for key, value in supernet.state_dict().items())


@pytest.mark.parametrize("name", SMALL)
def test_a_step_trains_the_path_and_what_a_path_leaves_out_has_no_gradient(name: str) -> None:
    supernet = made(name)
    arch = supernet.space.simplify(archs(supernet.space)[-1])
    try:
        supernet.zero_grad()
        supernet.train()(inputs(supernet, 4), arch).square().sum().backward()
        used = {id(p) for p in supernet.parameters() if p.grad is not None}
        inherited = {id(v) for v in supernet.inherited(arch).values() if isinstance(v, nn.Parameter)}
        assert used
        assert used >= {i for i in inherited if i in {id(p) for p in supernet.parameters() if p.requires_grad}}
        assert len(used) < len(list(supernet.parameters()))
    finally:
        supernet.zero_grad()
        supernet.eval()


@pytest.mark.parametrize("name", SMALL)
def test_an_architecture_of_another_space_is_refused(name: str) -> None:
    other = spaces.load("nasbench101" if name == "nasbench201" else "nasbench201")
    (arch,) = other.sample(1, np.random.default_rng(0))
    with pytest.raises(InvalidArchitecture):
        made(name)(inputs(made(name)), arch)
    with pytest.raises(InvalidArchitecture):
        made(name).subnet(arch)


@pytest.mark.parametrize("name", SMALL)
def test_what_a_variable_owns_is_trained_with_the_path_and_known_by_the_spaces_names(name: str) -> None:
    supernet = made(name)
    arch = supernet.space.simplify(archs(supernet.space)[-1])
    owned = supernet.owned(arch)
    assert owned
    assert set(owned) <= set(supernet.space.variables)
    try:
        supernet.zero_grad()
        supernet.train()(inputs(supernet, 4), arch).square().sum().backward()
        for variable, parameters in owned.items():
            assert parameters
            assert any(p.grad is not None for p in parameters), variable
    finally:
        supernet.zero_grad()
        supernet.eval()
