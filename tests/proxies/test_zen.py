"""Zen-score against its closed form, and the invariances that it is made for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from archgen.errors import ArchgenError
from archgen.proxies import Zen


def head() -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2)]


def value(network: nn.Module, zen: Zen | None = None, images: int = 6, seed: int = 0) -> float:
    batch = torch.zeros(images, 3, 4, 4), torch.zeros(images).long()
    return (zen or Zen())(network, *batch, generator=torch.Generator().manual_seed(seed))


def replay(seed: int = 0, images: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """The weights, images and noise that the proxy draws for a 1x1 convolution of 3 to 5 channels."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 3, 1, 1, generator=generator)
    torch.randn(2, 5, generator=generator)  # the classifier's
    return weight, *(torch.randn(images, 3, 4, 4, generator=generator) for _ in range(2))


def test_without_normalisation_it_is_the_log_of_the_noise_that_comes_through() -> None:
    weight, _, noise = replay()
    expected = math.log(float((0.1 * nn.functional.conv2d(noise, weight)).abs().sum((1, 2, 3)).mean()))
    assert value(nn.Sequential(nn.Conv2d(3, 5, 1), *head()), Zen(alpha=0.1)) == pytest.approx(expected, rel=1e-4)


def test_normalisation_is_undone() -> None:
    """The scale that batch normalisation takes out of a convolution comes back as the mean over its channels."""
    weight, x, noise = replay()
    out, moved = nn.functional.conv2d(x, weight), nn.functional.conv2d(x + 0.01 * noise, weight)
    normal = [nn.functional.batch_norm(o, None, None, training=True) for o in (out, moved)]
    change = float((normal[0] - normal[1]).abs().sum((1, 2, 3)).mean())
    expected = math.log(change) + math.log(float(out.var((0, 2, 3), correction=0).mean().sqrt()))
    assert value(nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), *head())) == pytest.approx(expected, rel=1e-4)


def test_repeats_are_averaged() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 1), *head())
    batch, generator = (torch.zeros(6, 3, 4, 4), torch.zeros(6).long()), torch.Generator().manual_seed(0)
    each = [Zen()(network, *batch, generator=generator) for _ in range(3)]
    assert len(set(each)) == 3
    assert value(network, Zen(repeats=3)) == pytest.approx(sum(each) / 3)


@pytest.mark.parametrize(("alpha", "repeats"), [(0.0, 1), (0.1, 0)])
def test_settings_that_make_no_sense_are_refused(alpha: float, repeats: int) -> None:
    with pytest.raises(ArchgenError, match=f"got alpha={alpha}, repeats={repeats}"):
        Zen(alpha=alpha, repeats=repeats)
