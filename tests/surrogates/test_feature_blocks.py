"""Blocks of features of a Gaussian process, in every space."""

from __future__ import annotations

import numpy as np
import pytest

from archgen import spaces
from archgen.encoders import PathEncoder
from archgen.surrogates.feature_blocks import LAYERS, NEAR, SIZES, FeatureBlocks


@pytest.mark.parametrize("name", spaces.available())
def test_every_space_has_its_layers(name: str) -> None:
    space = spaces.load(name)
    archs = space.sample(20, np.random.default_rng(0))
    blocks = FeatureBlocks(space, None, layers=True)
    x = blocks(archs)
    assert x.shape == (len(archs), sum(blocks.widths.values()))
    assert x.isfinite().all()
    layers = x[:, blocks.columns(LAYERS)]
    assert (layers - layers[0]).abs().max() > 0  # something differs from net to net
    assert 0.1 < layers.square().sum(1).sqrt().mean() < 10


def test_blocks_lie_side_by_side_each_divided_by_the_root_of_its_width() -> None:
    space = spaces.load("nasbench201")
    archs = space.sample(5, np.random.default_rng(0))
    blocks = FeatureBlocks(space, None, neighbourhoods=True, sizes=True, layers=True)
    paths = PathEncoder(space)
    assert list(blocks.widths) == [*paths.blocks, NEAR, SIZES, LAYERS]
    columns = [column for name in blocks.widths for column in blocks.columns(name)]
    assert columns == list(range(sum(blocks.widths.values())))
    first = next(iter(paths.blocks))
    got = blocks(archs)[:, blocks.columns(first)] * paths.blocks[first] ** 0.5
    np.testing.assert_allclose(got, paths(archs)[:, : paths.blocks[first]])
