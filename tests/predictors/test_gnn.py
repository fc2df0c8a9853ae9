"""The graph network as a predictor: how well it ranks, what pre-training learns, and what is kept of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from archgen import spaces
from archgen.graph import Architecture
from archgen.predictors import FreeLabels, GraphNetwork, load_predictor, save_predictor
from archgen.predictors.base import Floats
from archgen.spaces import SearchSpace

QUICK: dict[str, Any] = {"width": 16, "members": 2, "unlabelled": 100, "pretraining": 5, "steps": 20, "reference": 20}


def counted(space: SearchSpace, archs: list[Architecture]) -> Floats:
    return np.array([space.count(space.simplify(arch))["flops"] for arch in archs])


def test_it_ranks_unseen_cells_better_than_ridge_on_counts(space: SearchSpace, tables: Path) -> None:
    """From 80 labels, judged on 600 others; their tau has a standard deviation of about 0.02, the lead is about 0.1."""
    table = pd.read_parquet(tables / "nasbench201" / "accuracy.parquet")
    order = np.random.default_rng(7).permutation(len(table))[:680]
    archs = [space.parse(text) for text in table.arch.iloc[order]]
    y = table.cifar10_val_acc.to_numpy(float)[order]
    predictor = GraphNetwork(space, "val_acc", width=16, members=3, unlabelled=300, pretraining=20, steps=80)
    tau = kendalltau(predictor.fit(archs[:80], y[:80]).predict(archs[80:]).mean, y[80:]).statistic
    x = np.log1p([[*space.count(space.simplify(a)).values(), *map(a.ops.count, space.labels)] for a in archs])
    x = (x - x[:80].mean(0)) / np.maximum(x[:80].std(0), 1e-9)
    ranks = np.argsort(np.argsort(y[:80])) / 80
    weights = np.linalg.solve(x[:80].T @ x[:80] + np.eye(x.shape[1]), x[:80].T @ (ranks - ranks.mean()))
    assert tau > kendalltau(x[80:] @ weights, y[80:]).statistic + 0.03
    assert tau > 0.65


def test_pretraining_learns_what_is_free(space: SearchSpace) -> None:
    """Without a word on FLOPs among its labels, the pre-trained head ranks unseen cells by them."""
    predictor = GraphNetwork(space, "m", width=16, members=2, unlabelled=500, pretraining=40, steps=0, choices=False)
    predictor.fit(space.sample(5, np.random.default_rng(0)), np.arange(5.0))
    unseen = space.sample(200, np.random.default_rng(1))
    assert predictor._networks is not None
    guessed = predictor._networks.free(predictor._networks.embed(predictor._inputs(unseen)))[..., 1].detach().numpy()
    truth = counted(space, unseen)
    assert all(kendalltau(guess, truth).statistic > 0.8 for guess in guessed)


def test_free_labels_are_targets_and_inputs_and_a_part_of_the_checkpoint(space: SearchSpace, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    archs = space.sample(60, rng)
    labels = FreeLabels(space, width=16, members=1).fit(archs, {"proxy": counted(space, archs)}, steps=100)
    predictor = GraphNetwork(space, "m", free_labels=labels, **QUICK).fit(archs[:20], rng.normal(size=20))
    assert predictor._networks is not None
    assert predictor._networks.free.out.weight.shape[-1] == 3  # parameters, FLOPs and the proxy
    save_predictor(predictor, "gnn", tmp_path, "# card\n")
    restored = load_predictor(tmp_path, space)
    assert isinstance(restored, GraphNetwork)
    assert restored.free_labels is not None
    assert restored.free_labels.names == ("proxy",)
    np.testing.assert_allclose(restored.predict(archs).mean, predictor.predict(archs).mean, rtol=1e-6)


def test_without_choices_cells_of_one_graph_have_one_prediction(space: SearchSpace) -> None:
    """Two convolutions in parallel to the output, or the same two where a skip takes one of them round by node 1."""
    archs = space.sample(20, np.random.default_rng(0))
    one = space.parse(
        "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|nor_conv_1x1~1|none~2|".replace("|none~0|+", "|skip_connect~0|+", 1)
    )
    two = space.parse("|none~0|+|skip_connect~0|none~1|+|nor_conv_3x3~0|none~1|nor_conv_1x1~2|")
    assert space.canonical(one) == space.canonical(two)
    predictor = GraphNetwork(space, "m", choices=False, **QUICK).fit(archs, counted(space, archs))
    first, second = predictor.predict([one, two]).mean
    assert first == pytest.approx(second, rel=1e-9)


def test_the_same_seed_gives_the_same_to_the_bit(space: SearchSpace) -> None:
    archs = space.sample(15, np.random.default_rng(0))
    y = counted(space, archs)
    first, second, other = (GraphNetwork(space, "m", seed=seed, **QUICK).fit(archs, y) for seed in (3, 3, 4))
    unseen = space.sample(30, np.random.default_rng(1))
    assert (first.predict(unseen).mean == second.predict(unseen).mean).all()
    assert (first.predict(unseen).mean != other.predict(unseen).mean).any()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_handful_of_labels_is_enough(space: SearchSpace, n: int) -> None:
    archs = space.sample(n, np.random.default_rng(0))
    prediction = GraphNetwork(space, "m", **QUICK).fit(archs, np.arange(n, dtype=float)).predict(archs)
    assert np.isfinite(prediction.mean).all()
    assert (prediction.std > 0).all()


@pytest.mark.parametrize("name", spaces.available())
def test_it_takes_every_space(name: str) -> None:
    space = spaces.load(name)
    archs = space.sample(8, np.random.default_rng(0))
    small = {**QUICK, "unlabelled": 8, "pretraining": 2, "steps": 2}
    prediction = GraphNetwork(space, "m", **small).fit(archs, np.arange(8.0)).predict(archs)
    assert np.isfinite(prediction.mean).all()


def test_another_fit_starts_from_the_same_pretrained_networks(
    space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    archs = space.sample(30, np.random.default_rng(0))
    y = counted(space, archs)
    trained: list[int] = []
    pretrain = GraphNetwork._pretrain
    monkeypatch.setattr(GraphNetwork, "_pretrain", lambda self, *given: (trained.append(1), pretrain(self, *given)))
    predictor = GraphNetwork(space, "m", **QUICK).fit(archs[:12], -y[:12])
    again = predictor.fit(archs, y).predict(archs)
    fresh = GraphNetwork(space, "m", **QUICK).fit(archs, y).predict(archs)
    np.testing.assert_array_equal(again.mean, fresh.mean)
    np.testing.assert_array_equal(again.std, fresh.std)
    assert len(trained) == 2  # once each predictor
