"""The calibration of ensembles over folds, on members whose errors are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.predictors.base import Floats
from archgen.predictors.cross_fitted import CrossFitted
from archgen.predictors.judge import judge
from archgen.spaces import SearchSpace


class Noisy(CrossFitted):
    """Members that know the truth of what they were shown, and elsewhere up to an error: a common and an own part."""

    common, own = 0.3, 0.4

    def __init__(
        self, space: SearchSpace, truth: dict[Architecture, float], members: int = 5, reference: int = 200
    ) -> None:
        super().__init__(space, "m", members=members, reference=reference)
        self.truth = truth
        self.seen: list[set[Architecture]] = []

    def _train(self, archs: Sequence[Architecture], z: Floats, folds: NDArray[np.int64]) -> None:
        self.folds = folds
        self.seen = [{a for a, f in zip(archs, folds, strict=True) if f != k} for k in range(self.members)]

    def _scores(self, archs: Sequence[Architecture]) -> Floats:
        rows = []
        for arch in archs:
            rng = np.random.default_rng(_key(self.space, arch))
            shared, own = self.common * rng.normal(), self.own * rng.normal(size=self.members)
            known = np.array([arch in seen for seen in self.seen])
            rows.append(self.truth[arch] + np.where(known, 0.0, shared + own))
        return 7.0 + 3.0 * np.array(rows).reshape(-1, self.members).T  # in a unit of their own

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        raise NotImplementedError

    @classmethod
    def restore(cls, *arguments: Any) -> Noisy:
        raise NotImplementedError


def _key(space: SearchSpace, arch: Architecture) -> list[int]:
    return [int(i) for i in space.to_choices(arch).values()]


@pytest.fixture(scope="module")
def truth(space: SearchSpace) -> dict[Architecture, float]:
    archs = space.enumerate()
    return dict(zip(archs, np.random.default_rng(1).normal(size=len(archs)), strict=True))


def test_ninety_percent_intervals_cover_ninety_percent(space: SearchSpace, truth: dict[Architecture, float]) -> None:
    """With 300 labels the coverage itself has a standard deviation of 1.8 %; 6 % off is beyond three of them."""
    archs = list(truth)
    order = np.random.default_rng(0).permutation(len(archs))
    y = np.array([truth[arch] for arch in archs])
    predictor = Noisy(space, truth).fit([archs[i] for i in order[:300]], y[order[:300]])
    unseen = order[300:3300]
    figures = judge(predictor, [archs[i] for i in unseen], y[unseen])
    assert 84 < figures["coverage_90"] < 96
    assert figures["kendall_tau"] > 0.6


def test_the_mean_is_surer_than_a_member(space: SearchSpace, truth: dict[Architecture, float]) -> None:
    """The error of the mean of 5 has variance 0.3^2 + 0.4^2 / 5, a standard deviation of 0.35, a member's 0.5."""
    archs = list(truth)[::40]
    predictor = Noisy(space, truth).fit(archs, np.array([truth[arch] for arch in archs]))
    others = list(truth)[7::40]
    mean, std = predictor.predict_scores(others)
    error = np.sqrt(np.mean((mean - np.array([truth[arch] for arch in others])) ** 2))
    assert 0.25 < error < 0.42
    assert 0.25 < np.sqrt(np.mean(std**2)) < 0.45


def test_every_fold_spans_the_range(space: SearchSpace, truth: dict[Architecture, float]) -> None:
    archs = list(truth)[:23]
    y = np.array([truth[arch] for arch in archs])
    predictor = Noisy(space, truth).fit(archs, y)
    ranked = predictor.folds[np.argsort(y)]
    for start in range(0, 20, 5):
        assert sorted(ranked[start : start + 5]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_handful_of_labels_is_enough(space: SearchSpace, truth: dict[Architecture, float], n: int) -> None:
    archs = list(truth)[:n]
    predictor = Noisy(space, truth).fit(archs, np.arange(n, dtype=float))
    mean, std = predictor.predict(list(truth)[:50])
    assert np.isfinite(mean).all()
    assert (std > 0).all()


def test_an_ensemble_of_one_is_refused(space: SearchSpace) -> None:
    with pytest.raises(ArchgenError, match="at least 2 members"):
        Noisy(space, {}, members=1)


def test_unfitted_says_so(space: SearchSpace) -> None:
    with pytest.raises(ArchgenError, match="call fit first"):
        Noisy(space, {}).predict([])


def test_disagreement_needs_architectures_to_be_seen_on(space: SearchSpace) -> None:
    with pytest.raises(ArchgenError, match="at least 2 architectures"):
        Noisy(space, {}, reference=1)


def test_left_out_predictions_are_those_of_one_member_and_say_so(
    space: SearchSpace, truth: dict[Architecture, float]
) -> None:
    """Targets of variance 1, seen by a member through noise of 0.3^2 + 0.4^2, by all five of 0.3^2 + 0.4^2 / 5.

    Of a regression on them 1 - 1 / 1.25 and 1 - 1 / 1.122 are left; the mean of 391 squares is sure to 0.015.
    """
    archs = list(truth)[::40]
    predictor = Noisy(space, truth).fit(archs, np.array([truth[arch] for arch in archs]))
    assert predictor.left_out is not None
    mean, std, excess = predictor.left_out
    squared = float(np.mean((mean - predictor.normal.scores) ** 2))
    assert squared == pytest.approx(0.2, abs=0.05)
    assert excess == pytest.approx(0.2 - 0.109, abs=0.03)
    assert std.shape == mean.shape
    assert std[0] ** 2 == pytest.approx(0.109, rel=0.4)
