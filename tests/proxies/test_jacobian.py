"""Proxies of the Jacobian against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archgen.proxies import EpeNas, Jacov
from archgen.proxies.jacobian import EPSILON

Batch = tuple[Tensor, Tensor]


class Gated(nn.Module):
    """The gradient of its logits' sum for image `i` is the row that the image's first pixel chooses."""

    def __init__(self, rows: Tensor, classes: int = 3) -> None:
        super().__init__()
        self.rows, self.classes = rows, classes

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.rows[x[:, 0, 0, 0].detach().long()]
        out = (x.flatten(1) * chosen).sum(1, keepdim=True) / self.classes
        return out.expand(-1, self.classes)


def numbered(n: int) -> Tensor:
    """Images `1 2 3`, the first pixel of which is their number."""
    images = torch.zeros(n, 1, 2, 3)
    images[:, 0, 0, 0] = torch.arange(n)
    return images


def rows(n: int) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(7))


def test_jacov_of_a_linear_network_is_that_of_one_direction(generator: torch.Generator) -> None:
    """All rows are equal: one eigenvalue is the number of images, the others are zero."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    images = torch.randn(5, 3, 2, 2, generator=generator)
    expected = -(math.log(5 + EPSILON) + 1 / (5 + EPSILON) + 4 * (math.log(EPSILON) + 1 / EPSILON))
    got = Jacov()(network, images, torch.zeros(5).long(), generator=generator)
    assert got == pytest.approx(expected, rel=1e-6)


def test_jacov_of_uncorrelated_rows_is_about_minus_the_number_of_images(generator: torch.Generator) -> None:
    orthogonal = torch.tensor([[1.0, -1, 0, 0, 0, 0], [0, 0, 1, -1, 0, 0], [0, 0, 0, 0, 1, -1]])
    got = Jacov()(Gated(orthogonal), numbered(3), torch.zeros(3).long(), generator=generator)
    assert got == pytest.approx(-3, abs=1e-4)


def test_jacov_is_that_of_the_rows(generator: torch.Generator) -> None:
    v = np.linalg.eigvalsh(np.corrcoef(rows(4).numpy())) + EPSILON
    got = Jacov()(Gated(rows(4)), numbered(4), torch.zeros(4).long(), generator=generator)
    assert got == pytest.approx(-float((np.log(v) + 1 / v).sum()), rel=1e-4)


def test_epe_nas_sums_within_classes(generator: torch.Generator) -> None:
    """A class of one image has the correlation 1 with itself."""
    targets = torch.tensor([0, 2, 0, 0, 1])
    c = np.corrcoef(rows(5).numpy()[[0, 2, 3]])
    expected = abs(np.log(np.abs(c) + EPSILON).sum()) + 2 * math.log(1 + EPSILON)
    got = EpeNas()(Gated(rows(5)), numbered(5), targets, generator=generator)
    assert got == pytest.approx(expected, rel=1e-4)


def test_epe_nas_compares_means_of_many_classes(generator: torch.Generator) -> None:
    targets = torch.tensor([0, 0, 7, 7, 7])
    e = [np.log(np.abs(np.corrcoef(rows(5).numpy()[part])) + EPSILON).sum() / len(part) for part in ([0, 1], [2, 3, 4])]
    got = EpeNas()(Gated(rows(5), classes=101), numbered(5), targets, generator=generator)
    assert got == pytest.approx(2 * abs(e[0] - e[1]) / 2, rel=1e-4)


def test_constant_rows_correlate_with_nothing(generator: torch.Generator) -> None:
    for proxy in (Jacov(), EpeNas()):
        got = proxy(Gated(torch.ones(4, 6)), numbered(4), torch.zeros(4).long(), generator=generator)
        assert math.isnan(got)
