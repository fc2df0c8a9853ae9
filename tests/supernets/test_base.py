"""What every supernet promises: batch-norm statistics that belong to one architecture, and the registry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archgen.errors import UnknownName
from archgen.spaces import CellSpace, SearchSpace
from archgen.supernets import SUPERNETS, CellSupernet, Supernet, calibrated, make_supernet, recalibrate

NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}


@pytest.fixture(scope="module")
def supernet(space: SearchSpace) -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_supernet(space, **NETWORK)


def images(seed: int, n: int = 16) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def statistics(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.named_buffers()}


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


def network(supernet: Supernet, space: SearchSpace, seed: int) -> nn.Module:
    return supernet.subnet(space.sample(1, np.random.default_rng(seed))[0])


def norms(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}


@pytest.mark.parametrize("seed", range(4))
def test_recalibrated_statistics_are_those_of_the_images(supernet: Supernet, space: SearchSpace, seed: int) -> None:
    """Mean and unbiased variance of what each layer reads, found by hooks in training mode."""
    found = recalibrate(network(supernet, space, seed), [images(1)])
    got = statistics(found)
    expected: dict[str, tuple[Tensor, Tensor]] = {}

    def remember(name: str):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
            expected[name] = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))

        return hook

    for name, norm in norms(found).items():
        norm.register_forward_pre_hook(remember(name))
    with torch.no_grad():
        found.train()(images(1))
    assert "stem.1" in expected
    for name, (mean, variance) in expected.items():
        torch.testing.assert_close(got[f"{name}.running_mean"], mean)
        torch.testing.assert_close(got[f"{name}.running_var"], variance)


def test_several_batches_give_the_mean_of_their_statistics(supernet: Supernet, space: SearchSpace) -> None:
    net = network(supernet, space, 3)
    each = [statistics(recalibrate(net, [images(i)])) for i in (1, 2, 3)]
    recalibrate(net, [images(1), images(2), images(3)])
    for name, value in statistics(net).items():
        if "running" in name and "stem" in name:  # deeper layers read the same batches, so the stem shows it all
            torch.testing.assert_close(value, torch.stack([s[name] for s in each]).mean(0))


def test_batches_that_calibrate_are_of_nearly_equal_size(supernet: Supernet, space: SearchSpace) -> None:
    """Each counts as much, so that a last one of a single image would count as the 16 before it."""
    (arch,) = space.sample(1, np.random.default_rng(3))
    shown = images(1, 17)
    found = statistics(calibrated(supernet, arch, shown, size=16))
    for name, value in statistics(recalibrate(supernet.subnet(arch), [shown[:9], shown[9:]])).items():
        assert torch.equal(found[name], value), name


def test_recalibration_does_not_depend_on_earlier_statistics(supernet: Supernet, space: SearchSpace) -> None:
    net = network(supernet, space, 4)
    fresh = statistics(recalibrate(net, [images(1)]))
    for buffer in net.buffers():
        buffer.fill_(5)
    for name, value in statistics(recalibrate(net, [images(1)])).items():
        assert torch.equal(value, fresh[name]), name


def test_recalibration_leaves_weights_and_momenta_and_ends_in_evaluation_mode(
    supernet: Supernet, space: SearchSpace
) -> None:
    net = network(supernet, space, 0).train()
    weights = {name: value.clone() for name, value in net.named_parameters()}
    recalibrate(net, [images(1)])
    assert not any(m.training for m in net.modules())
    assert all(norm.momentum == 0.1 for norm in norms(net).values())
    for name, value in net.named_parameters():
        assert torch.equal(value, weights[name])
        assert value.grad is None


def test_recalibration_has_no_dropout() -> None:
    net = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(1))
    recalibrate(net, [torch.ones(64, 1)])
    assert net[1].running_var.item() == pytest.approx(0.0)


def test_an_error_while_recalibrating_gives_the_momenta_back(supernet: Supernet, space: SearchSpace) -> None:
    net = network(supernet, space, 0)
    with pytest.raises(RuntimeError):
        recalibrate(net, [torch.zeros(2, 3, 8, 8)])  # three channels instead of one
    assert all(norm.momentum == 0.1 for norm in norms(net).values())
    assert not net.training


def test_a_subnet_draws_no_random_numbers_and_leaves_the_supernet_alone(supernet: Supernet, space: SearchSpace) -> None:
    before, state = torch.random.get_rng_state(), statistics(supernet)
    recalibrate(network(supernet, space, 0), [images(1)])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in statistics(supernet).items())
