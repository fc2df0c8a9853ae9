"""Small networks and a batch for the tests of proxies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def generator() -> torch.Generator:
    return seeded()


@pytest.fixture
def batch() -> Batch:
    """Eight images `3 6 6` of three classes, the first of which has four."""
    return torch.randn(8, 3, 6, 6, generator=seeded(1)), torch.tensor([0, 0, 0, 1, 1, 2, 2, 0])


@pytest.fixture
def convolutional() -> nn.Sequential:
    """Convolution, normalisation, ReLU, grouped convolution, global mean, linear."""
    return made(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, groups=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 3),
        )
    )


def made(make: Callable[[], nn.Sequential], seed: int = 0) -> nn.Sequential:
    """A network with weights of its own seed, whatever ran before."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()
