"""ParZC: how well it ranks, its Bayesian layers, and what is kept of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kendalltau

from archgen.errors import ArchgenError
from archgen.predictors import NodeStatistics, ParZC, load_predictor, save_predictor
from archgen.predictors.parzc import _BayesianLinear, _natural
from archgen.spaces import SearchSpace

QUICK: dict[str, Any] = {"width": 8, "members": 2, "steps": 20, "reference": 20}


def test_it_ranks_unseen_cells_far_better_than_chance(space: SearchSpace, tables: Path) -> None:
    """From 60 labels, judged on 100 others: without skill tau is normal of deviation 0.068, so 0.4 is six of them."""
    table = pd.read_parquet(tables / "nasbench201" / "accuracy.parquet")
    order = np.random.default_rng(7).permutation(len(table))[:160]
    archs = [space.parse(text) for text in table.arch.iloc[order]]
    y = table.cifar10_val_acc.to_numpy(float)[order]
    predictor = ParZC(space, "val_acc", width=16, members=3, steps=60, reference=40).fit(archs[:60], y[:60])
    assert kendalltau(predictor.predict(archs[60:]).mean, y[60:]).statistic > 0.4


def test_a_bayesian_layer_draws_its_weights() -> None:
    """Mean and deviation of 4,000 draws; the error of a mean is about 0.02 and of a deviation 0.01."""
    torch.manual_seed(0)
    layer = _BayesianLinear(2, 3, 1)
    with torch.no_grad():
        layer.rho.fill_(1.0)
        x = torch.ones(2, 1, 3)
        generator = torch.Generator().manual_seed(0)
        draws = torch.stack([layer(x, generator)[:, 0, 0] for _ in range(4000)])
        deviation = float(torch.nn.functional.softplus(torch.tensor(1.0))) * 3**0.5
        torch.testing.assert_close(draws.mean(0), layer.mean.sum((1, 2)), atol=0.15, rtol=0)
        torch.testing.assert_close(draws.std(0), torch.full((2,), deviation), atol=0.1, rtol=0)
    layer(x, generator).sum().backward()
    assert layer.rho.grad is not None
    assert bool((layer.rho.grad != 0).all())


def test_modules_are_ordered_by_number() -> None:
    assert sorted(["layers.10.a", "layers.2.b", "layers.2.a"], key=_natural) == [
        "layers.2.a",
        "layers.2.b",
        "layers.10.a",
    ]


def test_restored_is_saved_and_the_same_seed_the_same(space: SearchSpace, tmp_path: Path) -> None:
    archs = space.sample(12, np.random.default_rng(0))
    y = np.arange(12.0)
    first, second = ParZC(space, "m", **QUICK).fit(archs, y), ParZC(space, "m", **QUICK).fit(archs, y)
    unseen = space.sample(15, np.random.default_rng(1))
    assert (first.predict(unseen).mean == second.predict(unseen).mean).all()
    save_predictor(first, "parzc", tmp_path, "# card\n")
    restored = load_predictor(tmp_path, space)
    for before, after in zip(first.predict(unseen), restored.predict(unseen), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-9)


@pytest.mark.parametrize("n", [1, 5])
def test_a_handful_of_labels_is_enough(space: SearchSpace, n: int) -> None:
    archs = space.sample(n, np.random.default_rng(0))
    prediction = ParZC(space, "m", **QUICK).fit(archs, np.arange(n, dtype=float)).predict(archs)
    assert np.isfinite(prediction.mean).all()
    assert (prediction.std > 0).all()


def test_shared_statistics_are_measured_once_and_must_be_its_own(space: SearchSpace) -> None:
    archs = space.sample(12, np.random.default_rng(0))
    statistics = NodeStatistics(space)
    shared = ParZC(space, "m", statistics=statistics, **QUICK).fit(archs, np.arange(12.0)).predict(archs)
    alone = ParZC(space, "m", **QUICK).fit(archs, np.arange(12.0)).predict(archs)
    np.testing.assert_array_equal(shared.mean, alone.mean)
    assert statistics._known.keys() >= {space.simplify(arch) for arch in archs}
    with pytest.raises(ArchgenError, match=r"expected node statistics of \{.*'seed': 1.*\}, got those of"):
        ParZC(space, "m", statistics=statistics, seed=1)
