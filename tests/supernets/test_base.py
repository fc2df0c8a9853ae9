"""What every supernet promises: batch-norm statistics that belong to one architecture, and the registry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archgen.errors import UnknownName
from archgen.spaces import CellSpace, SearchSpace
from archgen.supernets import SUPERNETS, CellSupernet, Supernet, make_supernet

NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}


@pytest.fixture(scope="module")
def supernet(space: SearchSpace) -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_supernet(space, **NETWORK)


def images(seed: int, n: int = 16) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def statistics(supernet: Supernet) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in supernet.named_buffers()}


def test_the_family_of_a_space_picks_its_supernet(space: SearchSpace) -> None:
    assert SUPERNETS[space.family] is CellSupernet
    assert isinstance(make_supernet(space, **NETWORK), CellSupernet)


def test_a_family_without_a_supernet_is_named(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(space), "family", "tree")
    with pytest.raises(UnknownName, match=r"unknown supernet for the family of spaces 'tree'.*cell"):
        make_supernet(space)


def test_arguments_that_are_left_out_are_the_published_ones() -> None:
    # a small "published" network, so that its supernet is quick to make
    small = CellSpace("small", 3, {"none": "zero", "skip_connect": "identity"}, {**NETWORK, "channels": 2})
    supernet = make_supernet(small, classes=5)
    assert supernet.network == {**NETWORK, "channels": 2, "classes": 5}
    assert supernet(images(0, 2), small.sample(1, np.random.default_rng(0))[0]).shape == (2, 5)


def test_recalibrated_statistics_are_those_of_the_images(
    supernet: Supernet, space: SearchSpace, rng: np.random.Generator
) -> None:
    """Mean and unbiased variance of what each layer of the path reads, found by hooks in training mode."""
    x = images(1)
    for arch in space.sample(4, rng):
        supernet.recalibrate(arch, [x])
        got = statistics(supernet)
        expected: dict[str, tuple[Tensor, Tensor]] = {}

        def remember(name: str, into: dict[str, tuple[Tensor, Tensor]] = expected):  # type: ignore[no-untyped-def]
            def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
                into[name] = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))

            return hook

        norms = {name: m for name, m in supernet.named_modules() if isinstance(m, nn.BatchNorm2d)}
        handles = [m.register_forward_pre_hook(remember(name)) for name, m in norms.items()]
        with torch.no_grad():
            supernet.train()(x, arch)
        for handle in handles:
            handle.remove()
        assert "stem.1" in {name.removeprefix("skeleton.") for name in expected}
        for name, (mean, variance) in expected.items():
            torch.testing.assert_close(got[f"{name}.running_mean"], mean)
            torch.testing.assert_close(got[f"{name}.running_var"], variance)


def test_several_batches_give_the_mean_of_their_statistics(supernet: Supernet, space: SearchSpace) -> None:
    arch = space.sample(1, np.random.default_rng(3))[0]
    each = []
    for x in (images(1), images(2), images(3)):
        supernet.recalibrate(arch, [x])
        each.append(statistics(supernet))
    supernet.recalibrate(arch, [images(1), images(2), images(3)])
    for name, value in statistics(supernet).items():
        if "running" in name and "stem" in name:  # deeper layers read the same batches, so the stem shows it all
            torch.testing.assert_close(value, torch.stack([s[name] for s in each]).mean(0))


def test_recalibration_does_not_depend_on_earlier_statistics(supernet: Supernet, space: SearchSpace) -> None:
    first, other = space.sample(2, np.random.default_rng(4))
    supernet.recalibrate(first, [images(1)])
    fresh = statistics(supernet)
    supernet.recalibrate(other, [images(7), images(8)])
    for buffer in supernet.buffers():
        buffer.fill_(5)
    supernet.recalibrate(first, [images(1)])
    for name, value in statistics(supernet).items():
        assert torch.equal(value, fresh[name]), name


def test_recalibration_leaves_weights_and_momenta_and_ends_in_evaluation_mode(
    supernet: Supernet, space: SearchSpace
) -> None:
    weights = {name: value.clone() for name, value in supernet.named_parameters()}
    momenta = [m.momentum for m in supernet.modules() if isinstance(m, nn.BatchNorm2d)]
    supernet.train()
    supernet.recalibrate(space.sample(1, np.random.default_rng(0))[0], [images(1)])
    assert not any(m.training for m in supernet.modules())
    assert [m.momentum for m in supernet.modules() if isinstance(m, nn.BatchNorm2d)] == momenta
    assert all(momentum is not None for momentum in momenta)
    for name, value in supernet.named_parameters():
        assert torch.equal(value, weights[name])
        assert value.grad is None


def test_an_error_while_recalibrating_gives_the_momenta_back(supernet: Supernet, space: SearchSpace) -> None:
    arch = space.sample(1, np.random.default_rng(0))[0]
    with pytest.raises(RuntimeError):
        supernet.recalibrate(arch, [torch.zeros(2, 3, 8, 8)])  # three channels instead of one
    assert all(m.momentum == 0.1 for m in supernet.modules() if isinstance(m, nn.BatchNorm2d))
    assert not supernet.training
