"""Features of latency: what is counted, how it is scaled, and that memory does not grow."""

from __future__ import annotations

import numpy as np
import pytest

from archgen import spaces
from archgen.predictors.latency_features import LatencyFeatures


@pytest.fixture(scope="module")
def cells():
    return spaces.load("nasbench201")


def test_counts_of_a_cell_say_what_it_computes(cells):
    features = LatencyFeatures(cells, simplify=True)
    arch = cells.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|nor_conv_1x1~1|none~2|")
    counts = dict(zip([*cells.computing_labels], features([arch])[0], strict=False))
    assert counts["nor_conv_3x3"] == 1, "the second one is dead: nothing reads node 2"
    assert counts["nor_conv_1x1"] == 1


def test_as_written_and_simplified_differ_by_what_is_dead(cells):
    arch = cells.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|nor_conv_1x1~1|none~2|")
    simple = cells.simplify(arch)
    assert np.array_equal(*(LatencyFeatures(cells, simplify=True)([a]) for a in (arch, simple)))
    assert not np.array_equal(*(LatencyFeatures(cells, simplify=False)([a]) for a in (arch, simple)))


def test_labels_of_what_is_used_come_with_networks_as_written(cells):
    archs = cells.sample(50, np.random.default_rng(0))
    written, both = (LatencyFeatures(cells, False, used) for used in (False, True))
    k, counts = len(cells.labels), written.widths[0]
    found = both(archs)
    assert np.array_equal(np.delete(found, np.s_[counts : counts + k], axis=1), written(archs))
    assert np.array_equal(found[:, counts : counts + k], written(cells.without_unused(archs))[:, counts - k : counts])
    assert np.array_equal(*(LatencyFeatures(cells, True, used)(archs) for used in (False, True)))


def test_the_table_has_one_entry_a_variable():
    space = spaces.load("nasbench_macro")
    features = LatencyFeatures(space, simplify=False)
    workload, labels, table = features.split(features(space.sample(20, np.random.default_rng(0))))
    assert (table.sum(1) == len(space.variables)).all()
    assert (labels.sum(1) == len(space.variables) + 2).all()
    assert (workload > 0).any()


@pytest.mark.parametrize("name", ["nasbench201", "nasbench_macro"])
def test_standardised_features_have_mean_zero_and_variance_one_or_none(name):
    standardised = LatencyFeatures(spaces.load(name), simplify=False).standardised
    assert standardised.mean(0) == pytest.approx(0.0, abs=1e-9)
    spread = standardised.std(0)
    assert np.minimum(np.abs(spread), np.abs(spread - 1)).max() < 1e-9
    assert (spread > 0.5).any()


def test_nothing_has_features_of_the_same_width(cells):
    features = LatencyFeatures(cells, simplify=True)
    assert features([]).shape == (0, sum(features.widths))
