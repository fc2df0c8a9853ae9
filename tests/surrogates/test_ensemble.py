"""The ensemble: weights in closed form, members that are of no use, intervals, checkpoints."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from archgen.graph import Architecture
from archgen.predictors import PREDICTORS, Prediction, Predictor, judge, load_predictor, save_predictor
from archgen.predictors.base import Floats
from archgen.predictors.cross_fitted import CrossFitted
from archgen.spaces import SearchSpace
from archgen.surrogates import Ensemble
from archgen.surrogates.ensemble import least_squares_weights


def law(space: SearchSpace, archs: Sequence[Architecture], seed: int = 0, noise: float = 1.0) -> Floats:
    """Accuracy that rises with the number of live convolutions, and noise of the given size."""
    live = np.array([sum("conv" in op for op in space.simplify(arch).ops) for arch in archs], dtype=float)
    return 60 + 5 * live + np.random.default_rng(seed).normal(0, noise, len(archs))


class Noise(Predictor):
    """Says nothing: draws that do not depend on what it was fitted to."""

    def fit(self, archs: Sequence[Architecture], y: Floats) -> Predictor:
        self.low, self.high = float(y.min()), float(y.max())
        return self

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        drawn = [
            np.random.default_rng(zlib.crc32(repr(arch.ops).encode())).uniform(self.low, self.high) for arch in archs
        ]
        return Prediction(np.array(drawn), np.ones(len(archs)))

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {"low": self.low, "high": self.high}, {}

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Predictor:
        self = cls(space, metric)
        self.low, self.high = config["low"], config["high"]
        return self


@pytest.fixture
def noise() -> Iterator[str]:
    PREDICTORS.register("noise")(Noise)
    yield "noise"
    del PREDICTORS._members["noise"]


def test_weights_are_the_constrained_least_squares() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([0.3, 0.6, 5.0])
    weights = least_squares_weights(rng.normal(size=(4000, 3)) * spread, np.zeros(3))
    precisions = spread**-2.0  # independent unbiased errors: weights go as the precisions
    np.testing.assert_allclose(weights, precisions / precisions.sum(), atol=0.02)
    assert weights.sum() == pytest.approx(1)
    one_is_right = np.stack([np.zeros(50), rng.normal(size=50)], 1)
    np.testing.assert_allclose(least_squares_weights(one_is_right, np.zeros(2)), [1, 0], atol=1e-6)


def test_errors_that_will_not_be_made_do_not_count() -> None:
    """Two members of equal left-out errors; half of the second's squared error is gone once it is whole."""
    errors = np.random.default_rng(0).normal(size=(20000, 2))
    weights = least_squares_weights(errors, np.array([0.0, 0.5]))
    np.testing.assert_allclose(weights, [1 / 3, 2 / 3], atol=0.02)
    all_gone = least_squares_weights(errors, np.array([0.0, 2.0]))
    np.testing.assert_allclose(all_gone, [0.0, 1.0], atol=0.02)


class Folds(CrossFitted):
    """Members that know the law up to an error of their own, on labels that they have not seen; counts its fits."""

    fits = 0

    def _train(self, archs: Sequence[Architecture], z: Floats, folds: NDArray[np.int64]) -> None:
        Folds.fits += 1
        self.shown = len(archs)

    def _scores(self, archs: Sequence[Architecture]) -> Floats:
        rngs = [np.random.default_rng(zlib.crc32(repr(arch.ops).encode())) for arch in archs]
        own = np.array([rng.normal(size=self.members) for rng in rngs]).reshape(-1, self.members)
        return (law(self.space, archs, noise=0.0)[:, None] + 6.0 * own).T

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        raise NotImplementedError

    @classmethod
    def restore(cls, *arguments: Any) -> Folds:
        raise NotImplementedError


def test_a_member_over_folds_is_fitted_once_and_weighed_as_the_mean_that_it_is(
    space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network errs by 6, their mean by 6 / sqrt(5); the other member, by 4, is better than one, worse than all."""
    archs = list(dict.fromkeys(space.sample(1500, np.random.default_rng(6))))
    y = law(space, archs, noise=0.1)

    class Middling(Noise):
        def predict(self, archs: Sequence[Architecture]) -> Prediction:
            own = [np.random.default_rng([1, zlib.crc32(repr(arch.ops).encode())]).normal() for arch in archs]
            return Prediction(law(self.space, archs, noise=0.0) + 4.0 * np.array(own), np.full(len(archs), 4.0))

    monkeypatch.setattr(PREDICTORS, "_members", {"folds": Folds, "middling": Middling})
    Folds.fits = 0
    ensemble = Ensemble(space, "val_acc", ("folds", "middling")).fit(archs[:600], y[:600])
    assert Folds.fits == 1
    assert ensemble.errors[0] < ensemble.errors[1]
    assert 0.5 < ensemble.weights[0] < 0.9  # 16 / (16 + 36 / 5) is 0.69
    figures = judge(ensemble, archs[600:], y[600:])
    assert 84 < figures["coverage_90"] < 96  # about 700 labels: a spread of 1.1 %, that of the calibration 1.2 %


def test_a_member_that_knows_nothing_gets_next_to_no_weight(space: SearchSpace, noise: str) -> None:
    archs = list(dict.fromkeys(space.sample(120, np.random.default_rng(1))))
    y = law(space, archs)
    ensemble = Ensemble(space, "val_acc", ("gbdt", noise)).fit(archs[:70], y[:70])
    alone = PREDICTORS["gbdt"](space, "val_acc").fit(archs[:70], y[:70])
    assert ensemble.weights[1] < 0.15
    assert ensemble.errors[0] < ensemble.errors[1]
    joined, single = (judge(p, archs[70:], y[70:])["kendall_tau"] for p in (ensemble, alone))
    assert joined > single - 0.05


def test_intervals_hold_what_they_say(space: SearchSpace) -> None:
    """Of 300 architectures, 90 % intervals hold 82 to 97 % (a fixed seed; chance alone gives a spread of 2 %)."""
    archs = list(dict.fromkeys(space.sample(420, np.random.default_rng(2))))
    y = law(space, archs, noise=2.0)
    ensemble = Ensemble(space, "val_acc", ("gp", "gbdt")).fit(archs[:100], y[:100])
    assert 82 < judge(ensemble, archs[100:], y[100:])["coverage_90"] < 97


def test_few_labels_count_members_alike(space: SearchSpace) -> None:
    archs = space.sample(6, np.random.default_rng(3))
    ensemble = Ensemble(space, "val_acc").fit(archs, law(space, archs))
    np.testing.assert_array_equal(ensemble.weights, [0.5, 0.5])
    assert np.isfinite(ensemble.predict(archs).mean).all()


def test_a_checkpoint_keeps_used_members_and_their_weights(space: SearchSpace, noise: str, tmp_path: Path) -> None:
    archs = list(dict.fromkeys(space.sample(60, np.random.default_rng(4))))
    ensemble = Ensemble(space, "val_acc", ("gbdt", noise)).fit(archs, law(space, archs, noise=0.1))
    save_predictor(ensemble, "ensemble", tmp_path, "# card\n")
    restored = load_predictor(tmp_path, space)
    assert isinstance(restored, Ensemble)
    np.testing.assert_array_equal(restored.weights, ensemble.weights)
    np.testing.assert_allclose(restored.predict(archs), ensemble.predict(archs), rtol=1e-9)
