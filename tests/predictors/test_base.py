"""What all predictors share: probabilities of bounds, the checks of their data, and their checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from torch import Tensor

from archgen.errors import ArchgenError, InvalidCheckpoint, UnknownName
from archgen.graph import Architecture
from archgen.objectives import at_least, at_most
from archgen.predictors import PREDICTORS, Predictor, load_predictor, save_predictor
from archgen.predictors.base import Floats, Prediction
from archgen.predictors.counts import Count
from archgen.spaces import SearchSpace
from archgen.surrogates import GaussianProcess


class Told(Predictor):
    """Predicts what it was given, whatever the architectures."""

    def __init__(self, space: SearchSpace, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(space, "latency_ms")
        self.prediction = Prediction(np.array(mean), np.array(std))

    def fit(self, archs: Sequence[Architecture], y: Floats) -> Told:
        return self

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        return self.prediction

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {}, {}

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Told:
        return cls(space, [], [])


def test_the_probability_of_a_bound_is_the_gaussian_tail(space: SearchSpace) -> None:
    mean, std = [1.0, 2.0, 3.0, 5.0], [0.5, 1.0, 2.0, 0.25]
    archs = space.sample(4, np.random.default_rng(0))
    predictor = Told(space, mean, std)
    below = predictor.log_probability(archs, at_most("latency_ms", 2.0))
    above = predictor.log_probability(archs, at_least("latency_ms", 2.0))
    assert below == pytest.approx(norm(mean, std).logcdf(2.0))
    assert above == pytest.approx(norm(mean, std).logsf(2.0))
    assert np.exp(below) + np.exp(above) == pytest.approx(np.ones(4))


@pytest.mark.parametrize("confidence", [0.05, 0.5, 0.95])
def test_a_limit_is_the_gaussian_quantile_on_the_safe_side(space: SearchSpace, confidence: float) -> None:
    """A bound at the limit is met with exactly that probability; an exact prediction is its own limit."""
    mean, std = [1.0, 2.0, 3.0], [0.5, 1.0, 0.0]
    archs = space.sample(3, np.random.default_rng(0))
    predictor = Told(space, mean, std)
    for make in (at_most, at_least):
        limits = predictor.limit(archs, make("latency_ms", 9.0), confidence)
        assert limits[2] == 3.0
        for i in range(2):
            log_p = predictor.log_probability(archs, make("latency_ms", float(limits[i])))[i]
            assert np.exp(log_p) == pytest.approx(confidence)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, float("nan")])
def test_a_limit_needs_a_confidence(space: SearchSpace, confidence: float) -> None:
    with pytest.raises(ArchgenError, match="a confidence must be between 0 and 1, got"):
        Told(space, [1.0], [1.0]).limit(
            space.sample(1, np.random.default_rng(0)), at_most("latency_ms", 1.0), confidence
        )


def test_the_probability_far_beyond_a_bound_keeps_its_order(space: SearchSpace) -> None:
    """Guidance must know which of two hopeless candidates is nearer, so the logarithm must not run out."""
    predictor = Told(space, [100.0, 200.0, 400.0], [1.0, 1.0, 1.0])
    log_p = predictor.log_probability(space.sample(3, np.random.default_rng(0)), at_most("latency_ms", 1.0))
    assert np.isfinite(log_p).all()
    assert log_p[0] > log_p[1] > log_p[2]


def test_an_exact_prediction_meets_a_bound_or_does_not(space: SearchSpace) -> None:
    predictor = Told(space, [1.0, 2.0, 3.0, 2.0], [0.0, 0.0, 0.0, 1.0])
    archs = space.sample(4, np.random.default_rng(0))
    assert predictor.log_probability(archs, at_most("latency_ms", 2.0)).tolist() == [
        0.0,
        0.0,
        -np.inf,
        pytest.approx(np.log(0.5)),
    ]
    assert predictor.log_probability(archs, at_least("latency_ms", 2.0)).tolist()[:3] == [-np.inf, 0.0, 0.0]


@pytest.mark.parametrize(
    ("archs", "y", "message"),
    [
        (2, [1.0], "as many values of latency_ms as architectures, got 1, 2"),
        (1, [1.0, 2.0], "got 2, 1"),
        (0, [], "got 0, 0"),
        (3, [1.0, np.nan, -np.inf], "latency_ms has 2 NaN or infinite values"),
    ],
)
def test_data_that_can_not_be_fitted_is_refused(space: SearchSpace, archs: int, y: list[float], message: str) -> None:
    with pytest.raises(ArchgenError, match=message):
        Told(space, [], []).check_fit(space.sample(archs, np.random.default_rng(0)), np.array(y))


def test_an_unknown_predictor_gets_a_hint() -> None:
    with pytest.raises(UnknownName, match="unknown predictor 'cuont': did you mean 'count'"):
        PREDICTORS["cuont"]


# -- checkpoints -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(space: SearchSpace, rng: np.random.Generator, tmp_path: Path) -> Path:
    """A fitted Gaussian process."""
    archs = space.sample(10, rng)
    predictor = GaussianProcess(space, "val_acc").fit(archs, rng.normal(size=10))
    save_predictor(predictor, "gp", tmp_path / "gp", "# the card\n")
    return tmp_path / "gp"


def test_a_checkpoint_is_three_files_and_names_what_it_is_of(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    header = json.loads((folder / "config.json").read_text())
    assert (header["kind"], header["name"]) == ("predictor", "gp")
    assert (header["config"]["space"], header["config"]["metric"]) == ("nasbench201", "val_acc")
    assert (folder / "README.md").read_text() == "# the card\n"


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        header = json.loads((folder / "config.json").read_text())
        change(header)
        (folder / "config.json").write_text(json.dumps(header))

    return edit


def truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights cut short": (truncated, "not a whole safetensors file"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "does not exist"),
    "no config": (lambda f: (f / "config.json").unlink(), "does not exist"),
    "config cut short": (lambda f: (f / "config.json").write_text('{"kind": "pred'), "can not be read as JSON"),
    "a generator": (edited(lambda h: h.update(kind="generator")), "holds a generator, expected a predictor"),
    "another space": (edited(lambda h: h["config"].update(space="darts")), "for space 'darts', expected 'nasbench201'"),
    "no metric": (edited(lambda h: h["config"].pop("metric")), "predictor"),
    "tensors of another member": (edited(lambda h: h.update(name="latency")), "not a whole latency checkpoint"),
    "arguments missing": (edited(lambda h: h["config"].pop("architectures")), "not a whole gp checkpoint"),
}


@pytest.mark.parametrize("case", list(DAMAGES))
def test_a_damaged_or_foreign_checkpoint_is_refused_in_one_line(space: SearchSpace, folder: Path, case: str) -> None:
    damage, message = DAMAGES[case]
    damage(folder)
    with pytest.raises(InvalidCheckpoint, match=message) as error:
        load_predictor(folder, space)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_a_member_that_this_version_lacks_is_named(space: SearchSpace, folder: Path) -> None:
    edited(lambda h: h.update(name="oracle"))(folder)
    with pytest.raises(UnknownName, match="unknown predictor 'oracle'"):
        load_predictor(folder, space)


def test_a_whole_checkpoint_predicts_as_before(space: SearchSpace, rng: np.random.Generator, tmp_path: Path) -> None:
    predictor = Count(space, "flops", {"cells": 1, "channels": 8}, simplify=False)
    save_predictor(predictor, "count", tmp_path, "# card\n")
    archs = space.sample(20, rng)
    restored = load_predictor(tmp_path, space)
    assert restored.metric == "flops"
    assert restored.predict(archs).mean.tolist() == predictor.predict(archs).mean.tolist()
