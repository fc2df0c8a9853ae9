"""BOSHNAS's surrogate of architectures: what it learns, its embeddings and its checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau

from archgen.errors import ArchgenError, UnknownName
from archgen.graph import Architecture
from archgen.objectives import at_least
from archgen.predictors import load_predictor, save_predictor
from archgen.predictors.base import Floats
from archgen.spaces import SearchSpace
from archgen.surrogates import EMBEDDINGS, Boshnas, Problem, UncertaintyBound, make_acquisition

OPERATIONS = {"none": 0.0, "skip_connect": 1.0, "avg_pool_3x3": 0.5, "nor_conv_1x1": 2.0, "nor_conv_3x3": 3.0}


def quality(space: SearchSpace, archs: list[Architecture]) -> Floats:
    """A smooth accuracy in percent: more convolution on live edges is better; cut-off cells have 10."""
    value = np.array([sum(OPERATIONS[op] for op in space.simplify(arch).ops[1:-1]) for arch in archs])
    return np.where(value > 0, 95 - 40 * np.exp(-value / 4), 10.0)


@pytest.fixture(scope="module")
def data(space: SearchSpace) -> tuple[list[Architecture], Floats]:
    archs = list(dict.fromkeys(space.sample(80, np.random.default_rng(0))))
    return archs, quality(space, archs)


@pytest.fixture(scope="module")
def fitted(space: SearchSpace, data: tuple[list[Architecture], Floats]) -> Boshnas:
    return Boshnas(space, "val_acc", unlabelled=60, steps=60).fit(*data)


@pytest.fixture(scope="module")
def unseen(space: SearchSpace) -> list[Architecture]:
    return space.sample(200, np.random.default_rng(1))


@pytest.mark.parametrize(("embedding", "heteroscedastic"), [("paths", True), ("neighbourhoods", False)])
def test_it_ranks_architectures_that_it_has_not_seen(
    space: SearchSpace,
    data: tuple[list[Architecture], Floats],
    unseen: list[Architecture],
    embedding: str,
    heteroscedastic: bool,
) -> None:
    surrogate = Boshnas(space, "val_acc", embedding=embedding, heteroscedastic=heteroscedastic, steps=60).fit(*data)
    mean, std = surrogate.predict(unseen)
    assert kendalltau(mean, quality(space, unseen)).statistic > 0.65
    assert std.min() > 0


def test_the_prediction_of_a_measured_value_has_both_uncertainties(fitted: Boshnas, unseen: list[Architecture]) -> None:
    mean, epistemic, aleatoric = fitted.predict_moments(unseen)
    score, std = fitted.predict_scores(unseen)
    assert score == pytest.approx(mean)
    assert std == pytest.approx(np.sqrt(epistemic**2 + aleatoric))
    assert fitted.predict_normalised(unseen)[1] == pytest.approx(epistemic)
    posterior = fitted.posterior(unseen[:5])
    assert posterior.variance[:, 0].numpy() == pytest.approx(epistemic[:5] ** 2)


def test_most_measured_values_lie_within_two_deviations(
    fitted: Boshnas, space: SearchSpace, unseen: list[Architecture]
) -> None:
    mean, std = fitted.predict_scores(unseen)
    truth = np.array(fitted.normalise(quality(space, unseen).tolist()))
    assert np.mean(np.abs(truth - mean) < 2 * std) > 0.7


def test_every_acquisition_function_of_one_objective_applies(fitted: Boshnas, unseen: list[Architecture]) -> None:
    x = fitted.features(unseen)[:, None]
    problem = Problem([fitted], feasible=[(90.0,)])
    for name in ("logei", "qlogei", "ucb", "qucb", "thompson"):
        with torch.no_grad():
            assert bool(make_acquisition(name, problem, seed=0)(x).isfinite().all())


def test_several_objectives_have_a_hypervolume(
    fitted: Boshnas, space: SearchSpace, data: tuple[list[Architecture], Floats], unseen: list[Architecture]
) -> None:
    archs, y = data
    small = Boshnas(space, "size", steps=10).fit(archs, -np.array([a.ops.count("nor_conv_3x3") for a in archs], float))
    told = [(y[i], -float(a.ops.count("nor_conv_3x3"))) for i, a in enumerate(archs)]
    problem = Problem([fitted, small], feasible=told[:20], told=archs[:20])
    with torch.no_grad():
        values = make_acquisition("qlognehvi", problem, seed=0)(fitted.features(unseen[:20])[:, None])
    assert bool(values.isfinite().all())


def test_the_uncertainty_bound_is_its_formula(fitted: Boshnas, unseen: list[Architecture]) -> None:
    mean, epistemic, aleatoric = fitted.predict_moments(unseen)
    x = fitted.features(unseen)[:, None]
    bound = UncertaintyBound(fitted.model, aleatoric=0.3, epistemic=2.0)
    assert bound(x).numpy() == pytest.approx(mean + 2.0 * epistemic + 0.3 * np.sqrt(aleatoric))
    unsure = UncertaintyBound(fitted.model, aleatoric=0.0, epistemic=1.0, mean=0.0)
    assert unsure(x).numpy() == pytest.approx(epistemic)


@pytest.mark.parametrize(
    ("embedding", "small", "trainer"),
    [
        ("distances", {"pairs": 100, "steps": 50}, "archgen.encoders.distances.DistanceEncoder._train"),
        ("autoencoder", {"reference": 50, "steps": 5}, "archgen.encoders.autoencoder.AutoEncoder._train"),
    ],
)
def test_a_learnt_embedding_goes_into_the_checkpoint(
    space: SearchSpace,
    data: tuple[list[Architecture], Floats],
    unseen: list[Architecture],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    embedding: str,
    small: dict[str, int],
    trainer: str,
) -> None:
    """It is not trained again when it is read."""
    surrogate = Boshnas(space, "val_acc", embedding=embedding, steps=20)
    for name, value in small.items():
        setattr(surrogate.encoder, name, value)
    surrogate.fit(*data)
    save_predictor(surrogate, "boshnas", tmp_path, "# card\n")
    monkeypatch.setattr(trainer, None)
    again = load_predictor(tmp_path, space)
    assert again.predict(unseen).mean.tolist() == surrogate.predict(unseen).mean.tolist()
    bound = at_least("val_acc", 80.0)
    assert again.log_probability(unseen, bound).tolist() == surrogate.log_probability(unseen, bound).tolist()


def test_an_update_is_of_all_values_and_hangs_on_the_last_fit_alone(
    space: SearchSpace, data: tuple[list[Architecture], Floats], unseen: list[Architecture]
) -> None:
    archs, y = data
    lived, resumed = (Boshnas(space, "val_acc", unlabelled=60, steps=60).fit(archs[:50], y[:50]) for _ in range(2))
    before = kendalltau(lived.predict(unseen).mean, quality(space, unseen)).statistic
    for n in (51, 60, len(archs)):
        lived.update(archs[:n], y[:n])
    resumed.update(archs, y)
    assert lived.predict(unseen).mean.tolist() == resumed.predict(unseen).mean.tolist()
    assert kendalltau(lived.predict(unseen).mean, quality(space, unseen)).statistic > before - 0.02
    assert lived.normalise([y.max()])[0] > lived.normalise([np.sort(y)[-2]])[0]


def test_mistakes_are_told(space: SearchSpace) -> None:
    with pytest.raises(UnknownName, match="embedding 'path': did you mean 'paths'"):
        Boshnas(space, "val_acc", embedding="path")
    with pytest.raises(ArchgenError, match="at least 2 draws"):
        Boshnas(space, "val_acc", draws=1)
    with pytest.raises(ArchgenError, match="call fit first"):
        _ = Boshnas(space, "val_acc").model
    with pytest.raises(ArchgenError, match="call fit first"):
        Boshnas(space, "val_acc").update(space.sample(1, np.random.default_rng(0)), np.ones(1))
    assert set(EMBEDDINGS) >= {"paths", "neighbourhoods", "distances", "autoencoder"}
