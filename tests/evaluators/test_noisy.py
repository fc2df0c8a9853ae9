"""Noise has the spread that was asked for and depends on nothing but architecture, metric and seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import kstest

from archgen.errors import InvalidOption, UnknownMetric
from archgen.evaluators import Evaluator, Measurement, Noisy, OneOfSeveral
from archgen.graph import Architecture
from archgen.spaces import SearchSpace


class Columns(Evaluator):
    """The same values for all; the first architecture fails, and lacks a column where there is `missing`."""

    def __init__(self, missing: str | None = None) -> None:
        self.missing = missing

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("acc_0", "acc_1", "acc_2", "lat")

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        values = {"acc_0": 10.0, "acc_1": 11.0, "acc_2": 12.0, "lat": 3.0}
        return [Measurement({m: v for m, v in values.items() if m != self.missing}, 0.5) for _ in archs]


class Failing(Columns):
    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        return [Measurement({}, 0.25, "it diverged") for _ in archs]


@pytest.fixture(scope="module")
def cells(space: SearchSpace) -> list[Architecture]:
    return list(dict.fromkeys(space.sample(1000, np.random.default_rng(0))))


def test_the_noise_is_gaussian_with_the_given_deviation(cells: list[Architecture]) -> None:
    noisy = Noisy(Columns(), {"acc_0": 0.5, "lat": 2.0})
    values = [m.values for m in noisy.evaluate(cells, seed=0)]
    for metric, mean, sd in (("acc_0", 10.0, 0.5), ("lat", 3.0, 2.0)):
        drawn = np.array([v[metric] for v in values])
        assert kstest((drawn - mean) / sd, "norm").pvalue > 1e-4  # fails once in 10,000 fixed draws, so never here
    assert abs(np.corrcoef([v["acc_0"] for v in values], [v["lat"] for v in values])[0, 1]) < 0.15
    assert {v["acc_1"] for v in values} == {11.0}, "no noise was asked for there"


def test_noise_belongs_to_architecture_and_seed_not_to_the_order(cells: list[Architecture]) -> None:
    some = cells[:20]
    forward = Noisy(Columns(), {"lat": 1.0}).evaluate(some, seed=3)
    backward = [m for _, m in Noisy(Columns(), {"lat": 1.0}).stream(some[::-1], seed=3)]
    assert forward == backward[::-1]
    other = Noisy(Columns(), {"lat": 1.0}).evaluate(some, seed=4)
    assert all(a.values["lat"] != b.values["lat"] for a, b in zip(forward, other, strict=True))
    assert len({m.values["lat"] for m in forward}) == 20


def test_no_deviation_is_no_noise_and_a_failure_stays_one(cells: list[Architecture]) -> None:
    assert Noisy(Columns(), {"lat": 0.0}).evaluate(cells[:3], seed=0) == Columns().evaluate(cells[:3], seed=0)
    assert Noisy(Failing(), {"lat": 1.0}).evaluate(cells[:1], seed=0) == [Measurement({}, 0.25, "it diverged")]


@pytest.mark.parametrize("sd", [-1.0, float("nan"), float("inf")])
def test_a_deviation_that_is_none_is_refused(sd: float) -> None:
    with pytest.raises(InvalidOption, match="the noise of 'lat' must be a standard deviation of 0 or more, got"):
        Noisy(Columns(), {"lat": sd})
    with pytest.raises(UnknownMetric, match="did you mean 'lat'"):
        Noisy(Columns(), {"latt": 1.0})


def test_each_column_is_drawn_about_equally_often_and_always_the_same(cells: list[Architecture]) -> None:
    drawing = OneOfSeveral(Columns(), {"acc": ["acc_0", "acc_1", "acc_2"]})
    assert drawing.metrics == ("acc", "lat")
    values = [m.values for m in drawing.evaluate(cells, seed=0)]
    assert all(list(v) == ["acc", "lat"] for v in values)
    counts = np.unique([v["acc"] for v in values], return_counts=True)[1]
    n = len(cells)
    assert all(abs(count - n / 3) < 5 * np.sqrt(n * 2 / 9) for count in counts)
    assert values == [m.values for m in drawing.evaluate(cells, seed=0)]
    assert values != [m.values for m in drawing.evaluate(cells, seed=1)]


def test_a_column_that_a_row_lacks_is_not_drawn(cells: list[Architecture]) -> None:
    drawing = OneOfSeveral(Columns(missing="acc_1"), {"acc": ["acc_0", "acc_1"]})
    assert {m.values["acc"] for m in drawing.evaluate(cells[:50], seed=0)} == {10.0}
    assert drawing.evaluate(cells[:1], seed=0)[0].values.keys() == {"acc", "acc_2", "lat"}


def test_columns_that_can_not_be_drawn_are_refused() -> None:
    with pytest.raises(UnknownMetric, match="did you mean 'acc_2'"):
        OneOfSeveral(Columns(), {"acc": ["acc_3"]})
    with pytest.raises(InvalidOption, match="'acc' needs at least one column"):
        OneOfSeveral(Columns(), {"acc": []})
    with pytest.raises(InvalidOption, match="'lat' is a metric already"):
        OneOfSeveral(Columns(), {"lat": ["acc_0"]})
