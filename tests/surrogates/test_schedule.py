"""Hyperparameters are fitted now and then, whenever it was asked; what is inferred is always of all evaluations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from archgen.graph import Architecture
from archgen.predictors.base import Floats
from archgen.spaces import SearchSpace
from archgen.surrogates import GaussianProcess, Refits, Surrogate
from archgen.surrogates.schedule import scheduled


def test_fits_are_each_fifteen_per_cent_apart() -> None:
    steps = [n for n in range(1, 60) if scheduled(n) == n]
    assert steps == [*range(1, 15), 16, 18, 20, 23, 26, 29, 33, 37, 42, 48, 55]
    assert all(scheduled(n) == max(step for step in steps if step <= n) for n in range(1, 60))


class Spy(GaussianProcess):
    """Notes the sizes of what it learns from."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space, "acc")
        self.calls: list[tuple[str, int]] = []

    def fit(self, archs: Sequence[Architecture], y: Floats) -> Spy:
        self.calls.append(("fit", len(archs)))
        return self

    def update(self, archs: Sequence[Architecture], y: Floats) -> Spy:
        self.calls.append(("update", len(archs)))
        return self


def test_fits_are_of_the_first_evaluations_and_between_them_all_are_inferred_from(space: SearchSpace) -> None:
    spy, refits = Spy(space), Refits()
    archs = space.sample(20, np.random.default_rng(0))
    for n in (14, 15, 16, 16, 17):
        refits.learn(archs[:n], [(spy, np.zeros(n))])
    assert spy.calls == [("fit", 14), ("update", 15), ("fit", 16), ("update", 17)]


def test_a_surrogate_that_can_not_be_updated_is_fitted_once_to_all(space: SearchSpace) -> None:
    class Plain(Spy):
        update = Surrogate.update

    plain, refits = Plain(space), Refits()
    for n in (15, 16):
        refits.learn(space.sample(n, np.random.default_rng(0)), [(plain, np.zeros(n))])
    assert plain.calls == [("fit", 15), ("fit", 16)]


def test_what_is_learnt_does_not_hang_on_when_it_was_asked(space: SearchSpace, rng: np.random.Generator) -> None:
    """A search that is resumed at the 19th evaluation believes what one believes that was asked after each."""
    archs = list(dict.fromkeys(space.sample(30, rng)))[:19]
    y = np.array([float(arch.ops.count("nor_conv_3x3")) for arch in archs]) + rng.normal(0, 0.1, 19)
    lived, resumed = GaussianProcess(space, "acc"), GaussianProcess(space, "acc")
    often = Refits()
    for n in (17, 18, 19):
        often.learn(archs[:n], [(lived, y[:n])])
    Refits().learn(archs, [(resumed, y)])
    others = space.sample(10, rng)
    for ours, theirs in zip(lived.predict(others), resumed.predict(others), strict=True):
        assert ours == pytest.approx(theirs, abs=0)
