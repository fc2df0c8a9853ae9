"""Several architectures in one batch: each on its share, one backward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from archgen.errors import InvalidOption
from archgen.spaces import SearchSpace
from archgen.supernets import Supernet, make_supernet
from archgen.supernets.training import MultiArchitecture

NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
BATCH = (torch.randn(25, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(25) % 3)


@pytest.fixture
def supernet(space: SearchSpace) -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_supernet(space, **NETWORK).train()


@pytest.mark.parametrize(("wanted", "count"), [(1, 1), (2, 2), (9, 3)])
def test_each_architecture_learns_from_its_share(supernet: Supernet, wanted: int, count: int) -> None:
    """Of 25 images three shares have at least eight; the loss is the mean over all images."""
    losses = MultiArchitecture(wanted, label_smoothing=0.1).step(supernet, BATCH, np.random.default_rng(3))
    got = {name: p.grad.clone() for name, p in supernet.named_parameters() if p.grad is not None}
    supernet.zero_grad()
    archs = supernet.space.sample(count, np.random.default_rng(3))
    total = torch.zeros(())
    for arch, x, y in zip(archs, BATCH[0].tensor_split(count), BATCH[1].tensor_split(count), strict=True):
        total = total + F.cross_entropy(supernet(x, arch), y, label_smoothing=0.1, reduction="sum") / 25
    total.backward()  # type: ignore[no-untyped-call]
    expected = {name: p.grad for name, p in supernet.named_parameters() if p.grad is not None}
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-6)
    assert losses["loss"] == pytest.approx(float(total.detach()), rel=1e-5)


def test_a_small_batch_has_one_architecture(supernet: Supernet) -> None:
    x, y = BATCH
    losses = MultiArchitecture(4).step(supernet, (x[:3], y[:3]), np.random.default_rng(0))
    assert np.isfinite(losses["loss"])


@pytest.mark.parametrize("numbers", [(0, 8), (2, 1)])
def test_numbers_below_the_least_are_refused(numbers: tuple[int, int]) -> None:
    with pytest.raises(InvalidOption, match="expected at least 1 architecture and shares of at least 2"):
        MultiArchitecture(*numbers)
