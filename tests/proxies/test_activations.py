"""Patterns of ReLUs against a count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archgen.errors import ArchgenError
from archgen.proxies import Nwot, Swap

Batch = tuple[Tensor, Tensor]


def patterns(network: nn.Sequential, images: Tensor) -> np.ndarray:
    """Whether each ReLU fires, images by ReLUs, from the outputs."""
    found, x = [], images
    for layer in network.train():
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            found.append((x > 0).flatten(1))
    return torch.cat(found, 1).numpy()


def test_nwot_is_the_log_determinant_of_the_agreements(
    convolutional: nn.Sequential, batch: Batch, generator: torch.Generator
) -> None:
    fires = patterns(convolutional, batch[0])
    kernel = np.array([[(a == b).sum() for b in fires] for a in fires], dtype=float)
    expected = math.log(np.linalg.det(kernel))
    assert Nwot()(convolutional, *batch, generator=generator) == pytest.approx(expected)


def test_nwot_of_two_equal_images_is_nan(
    convolutional: nn.Sequential, batch: Batch, generator: torch.Generator
) -> None:
    images = batch[0].clone()
    images[1] = images[0]
    assert math.isnan(Nwot()(convolutional, images, batch[1], generator=generator))


@pytest.mark.parametrize("images", [5, 8, 9, 20])
def test_swap_counts_the_different_patterns_of_relus(
    convolutional: nn.Sequential, generator: torch.Generator, images: int
) -> None:
    """Also where the images do not fill whole bytes."""
    x, y = torch.randn(images, 3, 6, 6, generator=generator), torch.zeros(images).long()
    expected = len({tuple(relu) for relu in patterns(convolutional, x).T})
    assert 1 < expected < patterns(convolutional, x).shape[1] + 1
    assert Swap()(convolutional, x, y, generator=generator) == expected


def test_regularised_swap_falls_away_from_the_preferred_size(
    convolutional: nn.Sequential, batch: Batch, generator: torch.Generator
) -> None:
    parameters = sum(p.numel() for p in convolutional.parameters())
    score = Swap()(convolutional, *batch, generator=generator)
    assert Swap(mu=parameters, sigma=100.0)(convolutional, *batch, generator=generator) == score
    far = Swap(mu=parameters - 10, sigma=100.0)(convolutional, *batch, generator=generator)
    assert far == pytest.approx(score / math.e)


@pytest.mark.parametrize(("mu", "sigma"), [(1.0, None), (None, 1.0), (1.0, 0.0)])
def test_half_a_regularisation_is_refused(mu: float | None, sigma: float | None) -> None:
    with pytest.raises(ArchgenError, match="needs mu and a positive sigma"):
        Swap(mu=mu, sigma=sigma)


def test_a_network_without_relus_is_refused(batch: Batch, generator: torch.Generator) -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for proxy in (Nwot(), Swap()):
        with pytest.raises(ArchgenError, match=f"{proxy.name} counts which ReLUs fire, and this network runs none"):
            proxy(network, *batch, generator=generator)
