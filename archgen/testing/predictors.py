"""The promises of `Predictor`."""

from __future__ import annotations

import contextlib
import json

import numpy as np
from torch import Tensor

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.predictors.base import Floats, Prediction, Predictor


def check_predictor(predictor: Predictor, *, n: int = 40, rng: np.random.Generator) -> None:
    """Check every promise of `Predictor` on synthetic positive targets.

    Args:
        predictor: Unfitted; it is fitted here.
        n: Architectures to fit on, at least 10; as many others are predicted.
        rng: Source of randomness.
    """
    space = predictor.space
    archs = space.sample(2 * n, rng)
    weights = {name: rng.normal(0, 0.3, len(values)) for name, values in space.variables.items()}
    y = np.exp([sum(weights[name][i] for name, i in space.to_choices(arch).items()) for arch in archs])
    _check_refusals(predictor, archs[:n], y[:n])

    assert predictor.fit(archs[:n], y[:n]) is predictor, "fit must return the predictor itself"
    prediction = predictor.predict(archs)
    _check_prediction(prediction, 2 * n)
    _check_prediction(predictor.predict([]), 0)
    backwards = predictor.predict(archs[::-1])
    assert np.allclose(backwards.mean[::-1], prediction.mean, rtol=1e-6), "predict depends on the order of its input"

    config, tensors = predictor.state()
    assert all(isinstance(value, Tensor) for value in tensors.values()), "state: the second part must hold tensors"
    stored = json.loads(json.dumps(config, allow_nan=False))
    copies = {name: value.detach().clone() for name, value in tensors.items()}
    again = type(predictor).restore(space, predictor.metric, stored, copies).predict(archs)
    for name, before, after in zip(Prediction._fields, prediction, again, strict=True):
        assert np.allclose(before, after, rtol=1e-6, atol=1e-12), f"restore(state()) predicts another {name}"


def _check_refusals(predictor: Predictor, archs: list[Architecture], y: Floats) -> None:
    broken = y.copy()
    broken[0] = np.nan
    infinite = y.copy()
    infinite[-1] = np.inf
    cases = {"fewer values than architectures": (archs, y[:-1]), "fewer architectures than values": (archs[:-1], y)}
    cases |= {"nothing": ([], y[:0]), "a NaN": (archs, broken), "an infinite value": (archs, infinite)}
    for name, (some, values) in cases.items():
        with contextlib.suppress(ArchgenError):
            predictor.fit(some, values)
            raise AssertionError(f"fit took {name}; it must raise ArchgenError")


def _check_prediction(prediction: Prediction, b: int) -> None:
    for name, values in zip(Prediction._fields, prediction, strict=True):
        assert isinstance(values, np.ndarray), f"predict: {name} is not a numpy array"
        assert values.shape == (b,), f"predict: {name} has shape {values.shape}, expected ({b},)"
        assert bool(np.isfinite(values).all()), f"predict: {name} is not finite"
    assert bool((prediction.std >= 0).all()), "predict: a negative std"
