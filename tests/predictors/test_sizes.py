"""Sizes told from path features, against counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from archgen import spaces
from archgen.encoders.paths import PathEncoder
from archgen.predictor_evaluation import evaluate_predictor
from archgen.predictors.sizes import Sizes, counted
from archgen.spaces import SearchSpace
from archgen.surrogates import GaussianProcess


@pytest.mark.parametrize(("name", "least"), [("autoformer", 0.999), ("mobilenetv3", 0.99), ("darts", 0.98)])
def test_they_follow_the_logarithms_of_what_is_counted(name: str, least: float) -> None:
    space = spaces.load(name)
    sizes, archs = Sizes(PathEncoder(space)), space.sample(200, np.random.default_rng(5))
    exact, told = np.log1p(counted(space, archs)), sizes(sizes.encoder(archs).numpy())
    assert told.shape == (200, len(sizes.names))
    for i in range(len(sizes.names)):
        assert np.corrcoef(exact[:, i], told[:, i])[0, 1] > least
    np.testing.assert_allclose(told.mean(0), 0, atol=0.3)
    np.testing.assert_allclose(told.std(0), 1, atol=0.3)


@pytest.mark.parametrize("name", ["fbnet", "nasbench201"])
def test_what_is_counted_goes_with_the_counts_of_the_space(name: str) -> None:
    """In spaces with workloads these are of the layers that multiply alone."""
    space = spaces.load(name)
    archs = space.sample(40, np.random.default_rng(0))
    found, exact = counted(space, archs), [space.count(arch) for arch in space.simplified(archs)]
    for column, metric in zip(found.T, ("params", "flops"), strict=True):
        assert np.corrcoef(column, [count[metric] for count in exact])[0, 1] > 0.999


def test_they_are_kept_and_need_no_count_then(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = Sizes(PathEncoder(space))
    features = sizes.encoder(space.sample(9, np.random.default_rng(1))).numpy()
    found = sizes(features)
    np.testing.assert_array_equal(found, Sizes(PathEncoder(space))(features), "the same for everyone")
    other = Sizes(PathEncoder(space))
    other.restore(sizes.state())
    monkeypatch.setattr("archgen.predictors.sizes.counted", None)
    np.testing.assert_array_equal(other(features), found)


def test_what_is_the_same_all_over_a_space_is_nothing(space: SearchSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archgen.predictors.sizes.counted", lambda space, archs: np.full((len(archs), 2), 7.0))
    sizes = Sizes(PathEncoder(space))
    assert not sizes(sizes.encoder(space.sample(9, np.random.default_rng(1))).numpy()).any()


def test_they_are_what_tells_vision_transformers_apart(tables: Path) -> None:
    """On Flowers, parameters alone rank the published AutoFormer networks with a Kendall's tau of .69."""
    space, table = spaces.load("autoformer"), pd.read_parquet(tables / "vit_accuracy.parquet")
    rows = table[table["space"] == "autoformer"]
    archs, y = [space.parse(text) for text in rows["arch"]], rows["flower_kd_acc"].to_numpy(float)
    tau = {}
    for sizes in (True, False):
        process = GaussianProcess(space, "flower_kd_acc", sizes=sizes)
        tau[sizes] = np.mean([evaluate_predictor(process, archs, y, n=50, seed=s)["kendall_tau"] for s in range(3)])
    assert tau[True] > max(0.6, tau[False] + 0.08)
