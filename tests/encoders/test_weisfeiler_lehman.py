"""Weisfeiler-Lehman features: counts of neighbourhoods, whatever the nodes are called."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from archgen import spaces
from archgen.encoders import WeisfeilerLehmanEncoder
from archgen.spaces import SearchSpace


def test_counts_are_those_of_the_distinct_neighbourhoods(space: SearchSpace) -> None:
    encoder = WeisfeilerLehmanEncoder(space)
    for arch in space.sample(30, np.random.default_rng(0)):
        dag = space.computation(arch)
        colours = Counter(
            (
                op,
                tuple(sorted(dag.ops[i] for i, j in dag.edges if j == v)),
                tuple(sorted(dag.ops[j] for i, j in dag.edges if i == v)),
            )
            for v, op in enumerate(dag.ops)
        )
        counts = np.expm1(encoder([arch])[0].numpy())
        assert counts.sum() == pytest.approx(len(dag.ops), abs=1e-4)
        assert counts.max() >= max(colours.values()) - 1e-4
        assert (counts > 0.5).sum() <= len(colours)  # fewer where two share a bucket


def test_a_direction_or_a_neighbour_changes_the_features(space: SearchSpace) -> None:
    texts = [
        "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|skip_connect~2|",
        "|nor_conv_1x1~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|",
        "|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|skip_connect~1|none~2|",
    ]
    rows = WeisfeilerLehmanEncoder(space)([space.parse(text) for text in texts]).numpy()
    assert len(np.unique(rows, axis=0)) == 3


def test_isomorphic_cells_are_equal_and_so_are_two_encoders() -> None:
    space = spaces.load("nasbench201")
    one = space.parse("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|avg_pool_3x3~1|none~2|")
    two = space.parse("|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|avg_pool_3x3~2|")
    a, b = WeisfeilerLehmanEncoder(space)([one, two]), WeisfeilerLehmanEncoder(space)([one])
    np.testing.assert_array_equal(a[0], a[1])
    np.testing.assert_array_equal(a[0], b[0])
    assert WeisfeilerLehmanEncoder(space)([]).shape == (0, WeisfeilerLehmanEncoder.width)
