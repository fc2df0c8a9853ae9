"""Free labels: what is learnt of proxies, what is left out, and checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from archgen.errors import ArchgenError, InvalidCheckpoint
from archgen.graph import Architecture
from archgen.predictors import FreeLabels, load_free_labels, pretrained_free_labels, save_free_labels
from archgen.spaces import SearchSpace

STEPS = 600


def flops(space: SearchSpace, archs: list[Architecture]) -> np.ndarray:
    return np.array([space.count(space.simplify(arch))["flops"] for arch in archs], dtype=float)


@pytest.fixture(scope="module")
def archs(space: SearchSpace) -> list[Architecture]:
    return list(dict.fromkeys(space.sample(300, np.random.default_rng(0))))


@pytest.fixture(scope="module")
def labels(space: SearchSpace, archs: list[Architecture]) -> FreeLabels:
    values = {"flops": flops(space, archs), "noise": np.random.default_rng(1).normal(size=len(archs))}
    return FreeLabels(space, width=48, members=2).fit(archs, values, steps=STEPS)


def test_it_knows_architectures_that_it_has_not_seen(
    labels: FreeLabels, space: SearchSpace, archs: list[Architecture]
) -> None:
    others = [arch for arch in space.sample(300, np.random.default_rng(2)) if arch not in set(archs)]
    guessed = labels(others)
    assert guessed.shape == (len(others), 1)
    assert spearmanr(guessed[:, 0], flops(space, others)).statistic > 0.95


def test_a_proxy_of_noise_alone_is_left_out(labels: FreeLabels) -> None:
    assert labels.names == ("flops",)
    assert abs(labels.figures["noise"]) < 0.6 < 0.9 < labels.figures["flops"]


def test_the_same_function_has_the_same_labels(labels: FreeLabels, space: SearchSpace) -> None:
    text = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|nor_conv_1x1~2|"  # node 3 hangs on a dead one
    dead = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    np.testing.assert_array_equal(*labels([space.parse(text), space.parse(dead)]))


def test_only_ranks_count_and_a_missing_value_ranks_last(space: SearchSpace, archs: list[Architecture]) -> None:
    y = flops(space, archs)
    y[y == y.min()] = np.nan
    one, other = (
        FreeLabels(space, width=16, members=1).fit(archs, {"a": values}, steps=STEPS)(archs[:9])
        for values in (np.nan_to_num(y, nan=-1.0), np.log1p(y))
    )
    np.testing.assert_array_equal(one, other)


def test_the_same_seed_gives_the_same_labels(space: SearchSpace, archs: list[Architecture]) -> None:
    a, b, c = (
        FreeLabels(space, width=16, members=1).fit(archs, {"f": flops(space, archs)}, steps=STEPS, seed=seed)(archs[:9])
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_a_checkpoint_gives_them_back(labels: FreeLabels, space: SearchSpace, tmp_path: Path) -> None:
    save_free_labels(labels, tmp_path, "# card\n")
    restored = load_free_labels(tmp_path, space)
    some = space.sample(20, np.random.default_rng(5))
    assert (restored.names, restored.figures) == (labels.names, labels.figures)
    np.testing.assert_array_equal(restored(some), labels(some))
    config = tmp_path / "config.json"
    good = config.read_text()
    config.write_text(good.replace('"nasbench201"', '"elsewhere"'))
    with pytest.raises(InvalidCheckpoint, match="of space 'elsewhere', expected 'nasbench201'"):
        load_free_labels(tmp_path, space)
    config.write_text(good.replace('"width": 48', '"width": 47'))
    with pytest.raises(InvalidCheckpoint, match="not a whole checkpoint"):
        load_free_labels(tmp_path, space)


def test_what_can_not_be_learnt_is_refused(space: SearchSpace, archs: list[Architecture]) -> None:
    with pytest.raises(ArchgenError, match="at least 20 architectures"):
        FreeLabels(space).fit(archs[:19], {"flops": np.arange(19.0)})
    with pytest.raises(ArchgenError, match="no proxy can be learnt"):
        FreeLabels(space, 16, 1).fit(archs, {"n": np.random.default_rng(0).normal(size=len(archs))}, steps=50)
    with pytest.raises(ArchgenError, match="call fit first"):
        FreeLabels(space)(archs)


def test_the_committed_ones_are_found_by_space(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    found = pretrained_free_labels(space)
    assert found is not None
    assert {"synflow", "nwot"} <= set(found.names)
    monkeypatch.setenv("ARCHGEN_CHECKPOINTS", "nowhere")
    assert pretrained_free_labels(space) is None
