"""AZ-NAS's proxies on blocks whose spectrum is known, and its aggregation of ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from archgen.errors import ArchgenError, UnknownName
from archgen.proxies import Expressivity, Progressivity, Proxy, Trainability, az_nas


class Fixed(nn.Module):
    """Multiplies the channels by a matrix that no proxy initialises again."""

    def __init__(self, matrix: Tensor, stride: int = 1) -> None:
        super().__init__()
        self.matrix, self.stride = nn.Parameter(matrix), stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("oc,bchw->bohw", self.matrix, x)[:, :, :: self.stride, :: self.stride]


class Blocks(nn.Module):
    """A stem that does nothing, the given blocks, and a head."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stem = Fixed(torch.eye(4))
        self.blocks = nn.ModuleList(blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.pool(x).flatten(1)


def value(proxy: Proxy, *blocks: nn.Module, images: int = 64) -> float:
    batch = torch.zeros(images, 4, 8, 8), torch.zeros(images).long()
    return proxy(Blocks(blocks), *batch, generator=torch.Generator().manual_seed(0))


def entropy(*weights: float) -> float:
    p = np.array(weights) / sum(weights)
    return -float((p * np.log(p)).sum())


def test_entropies_are_those_of_the_channels_spectrum() -> None:
    """Normal images have the covariance of unity; 4,096 positions estimate each eigenvalue within 2 to 5 %."""
    halves = Fixed(torch.diag(torch.tensor([2.0, 1.0, 1.0, 0.5])))
    spectrum = entropy(4, 1, 1, 0.25)
    assert value(Expressivity(), halves) == pytest.approx(math.log(4) + spectrum, abs=0.02)
    assert value(Progressivity(), halves) == pytest.approx(spectrum - math.log(4), abs=0.02)
    back = Fixed(torch.diag(torch.tensor([0.5, 1.0, 1.0, 2.0])))
    assert value(Progressivity(), halves, back) == pytest.approx(spectrum - math.log(4), abs=0.02)


def test_wider_features_rise() -> None:
    orthogonal = torch.linalg.qr(torch.randn(8, 4, generator=torch.Generator().manual_seed(1)))[0]
    assert value(Progressivity(), Fixed(orthogonal)) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize(("scale", "expected"), [(1.0, 0.0), (2.0, -0.5), (0.5, -0.5), (3.0, -4 / 3)])
def test_trainability_is_best_for_a_block_that_keeps_lengths(scale: float, expected: float) -> None:
    """Scale times a rotation has the spectral norm of the scale, up to the noise of 4,096 random signs."""
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]
    assert value(Trainability(), Fixed(scale * rotation)) == pytest.approx(expected, abs=0.1 * scale)


def test_trainability_averages_over_blocks_and_takes_pixels_for_channels() -> None:
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]
    got = value(Trainability(), Fixed(rotation, stride=2), Fixed(2 * rotation))
    assert got == pytest.approx(-0.25, abs=0.1)


def test_trainability_of_an_identity_block_is_nan() -> None:
    class Same(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    assert math.isnan(value(Trainability(), Same()))
    assert value(Trainability(), nn.Identity(), Fixed(2 * torch.eye(4))) == pytest.approx(-0.5, abs=0.1)


def test_odd_images_are_padded() -> None:
    batch = torch.zeros(8, 4, 7, 7), torch.zeros(8).long()
    network = Blocks([Fixed(torch.eye(4), stride=2)])
    assert math.isfinite(Trainability()(network, *batch, generator=torch.Generator().manual_seed(0)))


def test_ranks_are_summed_in_logarithms() -> None:
    table = pd.DataFrame({"a": [1.0, 3.0, 2.0, math.nan], "b": [5.0, 5.0, 9.0, -1.0]}, index=[7, 8, 9, 10])
    got = az_nas(table, ["a", "b"])
    ranks = {"a": [2, 4, 3, 1], "b": [2.5, 2.5, 4, 1]}
    expected = [sum(math.log(ranks[k][i] / 4) for k in "ab") for i in range(4)]
    assert list(got.index) == [7, 8, 9, 10]
    assert got.tolist() == pytest.approx(expected)


def test_consistent_architectures_beat_those_that_are_best_in_one_proxy() -> None:
    """The sum of the ranks is the same."""
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [3.0, 2.0, 1.0]})
    assert int(np.argmax(az_nas(table, ["a", "b"]))) == 1


def test_tables_that_can_not_be_ranked_are_refused() -> None:
    with pytest.raises(UnknownName, match="unknown proxy of the table 'progressivity'"):
        az_nas(pd.DataFrame({"expressivity": [1.0]}))
    with pytest.raises(ArchgenError, match="at least one architecture and one proxy"):
        az_nas(pd.DataFrame({"a": []}), ["a"])
