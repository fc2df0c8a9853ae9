"""Pruning: what is bad goes, noise prunes nothing, and what is left holds the best architectures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from archgen.errors import ArchgenError
from archgen.predictors.choice_pruning import Evidence, contributions_of, kept_values, prune, weigh
from archgen.spaces import RestrictedSpace, SearchSpace

VARIABLES = {"a": ("x", "y", "z"), "b": ("u", "v")}


def resamples(means: list[float], error: float, n: int = 40) -> np.ndarray:
    """Contributions with exactly the given means and standard deviation over the resamples."""
    wave = np.resize([1.0, -1.0], n)
    return np.array(means) + error * (wave / wave.std(ddof=1))[:, None]


def dropped(evidence: list[Evidence]) -> set[tuple[str, str]]:
    return {(e.variable, e.value) for e in evidence if e.dropped}


def test_only_what_is_reliably_negative_is_dropped() -> None:
    # five values: a value goes where its mean is more than Phi^-1(1 - 0.05 / 5) = 2.326 errors below zero
    contributions = resamples([0.5, -0.24, -0.22, 0.3, -0.3], 0.1)
    evidence = weigh(VARIABLES, contributions, [9] * 5, keep=0.3)
    assert dropped(evidence) == {("a", "y"), ("b", "v")}
    assert [e.mean for e in evidence] == pytest.approx([0.5, -0.24, -0.22, 0.3, -0.3])
    assert [e.error for e in evidence] == pytest.approx([0.1] * 5)
    assert kept_values(evidence) == {"a": ("x", "z"), "b": ("u",)}
    reasons = [e.reason for e in evidence]
    assert reasons[0] == "kept: better than the mean"
    assert reasons[1].startswith("dropped")
    assert reasons[2] == "kept: not reliably worse than the mean"


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (0.01, {("a", "x"), ("a", "y"), ("b", "u")}),  # the best one of each stays, even where all are bad
        (0.5, {("a", "x"), ("b", "u")}),
        (0.7, {("a", "x")} - {("a", "x")}),
        (1.0, set()),
    ],
)
def test_the_asked_share_of_every_variable_stays(keep: float, expected: set[tuple[str, str]]) -> None:
    contributions = resamples([-3.0, -2.0, -1.0, -2.0, -1.0], 0.01)
    assert dropped(weigh(VARIABLES, contributions, [9] * 5, keep=keep)) == expected


def test_a_value_without_labels_is_kept_and_counts_as_one_that_stays() -> None:
    contributions = resamples([-3.0, -2.0, -1.0, 1.0, 1.0], 0.01)
    contributions[:, 2] = 0.0
    evidence = weigh(VARIABLES, contributions, [9, 9, 0, 9, 9], keep=0.3)
    assert dropped(evidence) == {("a", "x"), ("a", "y")}
    assert evidence[2].reason == "kept: no labelled architecture has it"


def test_contributions_are_effects_where_choices_add_up(space: SearchSpace) -> None:
    """Of an additive target SHAP values are the effects less their mean: the trees must find them."""
    archs = space.sample(400, np.random.default_rng(0))
    effects = np.random.default_rng(1).normal(0, 1, (6, 5))
    choices = space.choices(archs)
    y = effects[np.arange(6), choices].sum(1)
    found = contributions_of(space, archs, y).mean(0).reshape(6, 5)
    expected = (effects - effects.mean(1, keepdims=True)) / y.std()
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97
    assert np.abs(found - expected).max() < 0.3


def test_fewer_resamples_are_the_first_of_more(space: SearchSpace) -> None:
    archs, y = space.sample(40, np.random.default_rng(0)), np.random.default_rng(1).normal(size=40)
    more, fewer = (contributions_of(space, archs, y, resamples=n) for n in (6, 3))
    assert more.shape == (6, 30)
    assert (more[:3] == fewer).all()


def test_a_planted_bad_operation_is_dropped_and_nothing_else(space: SearchSpace) -> None:
    archs = space.sample(300, np.random.default_rng(0))
    y = np.random.default_rng(1).normal(0, 1, 300) - 3.0 * np.array([arch.ops[3] == "avg_pool_3x3" for arch in archs])
    assert dropped(prune(space, archs, y)) == {("1->2", "avg_pool_3x3")}


def test_noise_prunes_nothing(space: SearchSpace) -> None:
    """At most 1 of 6 draws may drop anything: at 5 % each, more happens with a chance of 3 %; the seeds are fixed."""
    archs = space.sample(60, np.random.default_rng(0))
    hits = [bool(dropped(prune(space, archs, np.random.default_rng(i).normal(size=60), keep=0.2))) for i in range(6)]
    assert sum(hits) <= 1


def test_the_same_seed_gives_the_same_evidence(space: SearchSpace, rng: np.random.Generator) -> None:
    archs, y = space.sample(40, rng), rng.normal(size=40)
    assert prune(space, archs, y, seed=3) == prune(space, archs, y, seed=3)
    assert prune(space, archs, y, seed=3) != prune(space, archs, y, seed=4)


@pytest.mark.parametrize(
    ("n", "keep", "y", "message"),
    [
        (19, 0.5, None, "at least 20 architectures to prune by, got 19"),
        (20, 0.0, None, "above 0 and at most 1, got 0"),
        (20, 1.5, None, "above 0 and at most 1, got 1.5"),
        (20, 0.5, 1.0, "not all the same"),
        (20, 0.5, np.nan, "finite"),
    ],
)
def test_what_can_not_be_judged_is_refused(
    space: SearchSpace, rng: np.random.Generator, n: int, keep: float, y: float | None, message: str
) -> None:
    values = rng.normal(size=n) if y is None else np.full(n, y)
    with pytest.raises(ArchgenError, match=message):
        prune(space, space.sample(n, rng), values, keep=keep)


def test_two_hundred_labels_make_nasbench201_better_and_keep_most_of_the_best(tables: Path, space: SearchSpace) -> None:
    frame = pd.read_parquet(tables / "nasbench201" / "accuracy.parquet", columns=["arch", "cifar10_val_acc"])
    archs, y = [space.parse(text) for text in frame["arch"]], frame["cifar10_val_acc"].to_numpy()
    rows = np.random.default_rng(100).permutation(len(y))[:200]
    small = RestrictedSpace(space, kept_values(prune(space, [archs[i] for i in rows], y[rows])))
    left = np.array([not small._outside(arch) for arch in archs])
    best = y >= np.sort(y)[-156]
    assert left.sum() == small.size < 0.5 * len(y)
    assert y[left].mean() > y.mean() + 3  # 83.67 before
    assert left[best].mean() > 0.6
    assert y[left].max() == y.max()
