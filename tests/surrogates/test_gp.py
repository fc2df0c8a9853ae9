"""The Gaussian process: its posterior, its scale, its checkpoint, and how well it ranks a real table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from botorch.acquisition.logei import qLogExpectedImprovement
from scipy.stats import kendalltau, norm, rankdata

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.objectives import Objective, at_least, at_most, maximize
from archgen.predictors import FreeLabels
from archgen.spaces import SearchSpace
from archgen.surrogates import GaussianProcess, Surrogate
from archgen.surrogates.marginals import Marginals

OPERATIONS = {"none": 0.0, "skip_connect": 1.0, "avg_pool_3x3": 0.5, "nor_conv_1x1": 2.0, "nor_conv_3x3": 3.0}


def quality(space: SearchSpace, archs: list[Architecture]) -> np.ndarray:
    """A smooth accuracy in percent: more convolution on live edges is better; cut-off cells have 10."""
    value = np.array([sum(OPERATIONS[op] for op in space.simplify(arch).ops[1:-1]) for arch in archs])
    return np.where(value > 0, 95 - 40 * np.exp(-value / 4), 10.0)


@pytest.fixture(scope="module")
def data(space: SearchSpace) -> tuple[list[Architecture], np.ndarray]:
    archs = list(dict.fromkeys(space.sample(60, np.random.default_rng(0))))
    return archs, quality(space, archs)


@pytest.fixture(scope="module")
def free_labels(space: SearchSpace) -> FreeLabels:
    """What a proxy would say: the quality, bent."""
    archs = space.sample(200, np.random.default_rng(5))
    return FreeLabels(space, width=64, members=1).fit(archs, {"proxy": np.exp(quality(space, archs) / 20)}, steps=400)


@pytest.fixture(scope="module", params=["alone", "free labels", "layers"])
def fitted(
    space: SearchSpace,
    data: tuple[list[Architecture], np.ndarray],
    free_labels: FreeLabels,
    request: pytest.FixtureRequest,
) -> GaussianProcess:
    known, layers = free_labels if request.param == "free labels" else None, request.param == "layers"
    return GaussianProcess(space, "val_acc", known, layers=layers).fit(*data)


def test_the_posterior_is_the_textbook_one(fitted: GaussianProcess, space: SearchSpace) -> None:
    r""":math:`m + K_* (K + \sigma^2 I)^{-1} (y - m)` with the fitted kernel, in plain linear algebra."""
    archs = space.sample(20, np.random.default_rng(1))
    model = fitted.model
    with torch.no_grad():
        x, new = fitted.features(fitted._archs), fitted.features(archs)
        kernel, cross = model.covar_module(x).to_dense().numpy(), model.covar_module(new, x).to_dense().numpy()
        own = model.covar_module(new).to_dense().numpy().diagonal()
        noise, mean = float(model.likelihood.noise), float(model.mean_module.constant)
    y = norm.ppf((rankdata(fitted._y) - 0.375) / (len(fitted._y) + 0.25))
    solve = np.linalg.solve(kernel + noise * np.eye(len(y)), np.column_stack([y - mean, cross.T]))
    got_mean, got_std = fitted.predict_normalised(archs)
    np.testing.assert_allclose(got_mean, mean + cross @ solve[:, 0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got_std**2, own - (cross * solve[:, 1:].T).sum(1), rtol=1e-3, atol=1e-5)


def test_prediction_ranks_what_it_was_fitted_on_and_stays_in_its_range(
    fitted: GaussianProcess, data: tuple[list[Architecture], np.ndarray]
) -> None:
    archs, y = data
    mean, std = fitted.predict(archs)
    assert kendalltau(mean, y).statistic > 0.9
    margin = 0.01 * np.ptp(y)
    assert y.min() - margin <= mean.min() <= mean.max() <= y.max() + margin
    assert bool((std > 0).all())


def test_prediction_generalises(fitted: GaussianProcess, space: SearchSpace) -> None:
    archs = space.sample(200, np.random.default_rng(2))
    assert kendalltau(fitted.predict(archs).mean, quality(space, archs)).statistic > 0.7


def test_it_is_surer_where_it_has_looked(fitted: GaussianProcess, space: SearchSpace) -> None:
    _, seen = fitted.predict_normalised(fitted._archs)
    _, unseen = fitted.predict_normalised(space.sample(200, np.random.default_rng(3)))
    assert seen.mean() < 0.7 * unseen.mean()


def test_prediction_is_the_same_in_one_call_or_many(fitted: GaussianProcess, space: SearchSpace) -> None:
    archs = space.sample(600, np.random.default_rng(4))  # more than one chunk
    whole = fitted.predict(archs)
    parts = [fitted.predict(archs[i : i + 100]) for i in range(0, 600, 100)]
    np.testing.assert_allclose(whole.mean, np.concatenate([p.mean for p in parts]), rtol=1e-8)
    np.testing.assert_allclose(whole.std, np.concatenate([p.std for p in parts]), rtol=1e-6)


def test_few_broken_values_do_not_spoil_the_ranking(
    space: SearchSpace, data: tuple[list[Architecture], np.ndarray]
) -> None:
    """Targets enter by rank: stretching them monotonically changes no predicted order."""
    archs, y = data
    others = space.sample(100, np.random.default_rng(5))
    plain = GaussianProcess(space, "val_acc").fit(archs, y).predict_normalised(others)
    stretched = GaussianProcess(space, "val_acc").fit(archs, np.exp(y / 5)).predict_normalised(others)
    np.testing.assert_allclose(plain, stretched, rtol=1e-10)


# -- the normalised scale ---------------------------------------------------------------------------------------


def test_normalise_is_monotone_beyond_the_training_range_too(fitted: GaussianProcess) -> None:
    values = np.linspace(0, 200, 501)
    scores = np.array(fitted.normalise(values.tolist()))
    assert bool((np.diff(scores) > 0).all())


def test_normalise_gives_training_values_their_normal_score(fitted: GaussianProcess) -> None:
    expected = norm.ppf((rankdata(fitted._y) - 0.375) / (len(fitted._y) + 0.25))
    np.testing.assert_allclose(fitted.normalise(fitted._y.tolist()), expected)


def test_a_bound_and_its_opposite_share_the_probability(fitted: GaussianProcess, space: SearchSpace) -> None:
    archs = space.sample(20, np.random.default_rng(6))
    above = np.exp(fitted.log_probability(archs, at_least("val_acc", 85.0)))
    below = np.exp(fitted.log_probability(archs, at_most("val_acc", 85.0)))
    np.testing.assert_allclose(above + below, 1.0)
    easier = np.exp(fitted.log_probability(archs, at_least("val_acc", 80.0)))
    assert bool((easier >= above).all())


@pytest.mark.parametrize("wish", [at_most("val_acc", 90.0), at_least("val_acc", 85.0)])
def test_the_limit_meets_a_bound_exactly_where_the_probability_says_so(
    fitted: GaussianProcess, space: SearchSpace, wish: Objective
) -> None:
    archs = space.sample(300, np.random.default_rng(7))
    probability = np.exp(fitted.log_probability(archs, wish))
    for confidence in (0.3, 0.8, 0.95):
        met = [wish.met(value) for value in fitted.limit(archs, wish, confidence)]
        clear = np.abs(probability - confidence) > 1e-6
        assert (np.array(met) == (probability >= confidence))[clear].all()


def test_limits_hold_the_truth_as_often_as_they_promise(space: SearchSpace) -> None:
    """A noisy function of rank: of 1,500 fresh values the mean of 3 fits is within five points of the level.

    One fit on 60 values calibrates itself only roughly (a standard deviation of 2 to 3 points).
    """
    held = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        archs, others = (list(dict.fromkeys(space.sample(n, rng))) for n in (60, 500))
        surrogate = GaussianProcess(space, "val_acc").fit(archs, quality(space, archs))
        truth = quality(space, others)
        upper = surrogate.limit(others, at_most("val_acc", 0.0), 0.9)
        lower = surrogate.limit(others, at_least("val_acc", 0.0), 0.9)
        held.append((np.mean(truth <= upper + 1e-9), np.mean(truth >= lower - 1e-9)))
    assert np.mean(held, 0) == pytest.approx([0.9, 0.9], abs=0.08)


def test_a_limit_widens_with_confidence_on_the_safe_side_and_needs_one(
    fitted: GaussianProcess, space: SearchSpace
) -> None:
    archs = space.sample(50, np.random.default_rng(8))
    upper = np.stack([fitted.limit(archs, at_most("val_acc", 1.0), level) for level in (0.2, 0.5, 0.99)])
    lower = np.stack([fitted.limit(archs, at_least("val_acc", 1.0), level) for level in (0.2, 0.5, 0.99)])
    assert (np.diff(upper, axis=0) >= 0).all()
    assert (np.diff(lower, axis=0) <= 0).all()
    np.testing.assert_allclose(upper[1], fitted.predict(archs).mean)
    for level in (0.0, 1.0):
        with pytest.raises(ArchgenError, match="a confidence must be between 0 and 1"):
            fitted.limit(archs, at_most("val_acc", 1.0), level)


# -- BoTorch ----------------------------------------------------------------------------------------------------


def test_botorch_acquisition_functions_apply(fitted: GaussianProcess, space: SearchSpace) -> None:
    assert isinstance(fitted, Surrogate)
    archs = space.sample(50, np.random.default_rng(7))
    (best,) = fitted.normalise([float(np.median(fitted._y))])
    acquisition = qLogExpectedImprovement(fitted.model, best_f=best)
    x = fitted.features(archs)
    with torch.no_grad():
        values = acquisition(x[:, None]).numpy()
        pair = acquisition(x[None, :2]).numpy()
    assert values.shape == (50,)
    assert pair.shape == (1,)
    assert bool(np.isfinite(values).all())
    mean, std = fitted.predict_normalised(archs)
    z = (mean - best) / std
    expected_improvement = std * (z * norm.cdf(z) + norm.pdf(z))
    np.testing.assert_allclose(np.exp(values), expected_improvement, rtol=0.05, atol=0.01)  # of one point, closed form
    assert pair[0] >= values[:2].max() - 1e-6


def test_the_joint_posterior_is_correlated(fitted: GaussianProcess, space: SearchSpace) -> None:
    (arch,) = space.sample(1, np.random.default_rng(8))
    posterior = fitted.posterior([arch, space.neighbours(arch)[0], arch])
    covariance = posterior.distribution.covariance_matrix.detach()
    correlation = covariance / covariance.diagonal().outer(covariance.diagonal()).sqrt()
    assert posterior.mean.shape == (3, 1)
    assert float(correlation[0, 2]) == pytest.approx(1.0, abs=1e-4)
    assert -0.1 < float(correlation[0, 1]) < 0.9999


# -- state, and what can not be fitted --------------------------------------------------------------------------


def test_restore_gives_the_same_posterior(fitted: GaussianProcess, space: SearchSpace) -> None:
    again = GaussianProcess.restore(space, "val_acc", *fitted.state())
    archs = space.sample(30, np.random.default_rng(9))
    close = 1e-4 if fitted.trend else 1e-9  # free labels are in single precision: batches change their last digits
    np.testing.assert_allclose(again.predict_normalised(archs), fitted.predict_normalised(archs), rtol=close)
    assert again.normalise([50.0, 90.0]) == fitted.normalise([50.0, 90.0])


def test_a_trend_of_free_labels_tells_apart_what_is_better_than_all_that_was_measured(
    space: SearchSpace, free_labels: FreeLabels
) -> None:
    archs = list(dict.fromkeys(space.sample(300, np.random.default_rng(0))))
    y = quality(space, archs)
    order = np.argsort(y)
    worse, best = order[:200][::8], order[-60:]
    found = {}
    for trend in (True, False):
        process = GaussianProcess(space, "val_acc", free_labels, trend=trend).fit([archs[i] for i in worse], y[worse])
        assert process.trend is trend
        assert GaussianProcess.restore(space, "val_acc", *process.state()).trend is trend
        found[trend] = kendalltau(process.predict_normalised([archs[i] for i in best])[0], y[best]).statistic
    assert found[True] > found[False] + 0.1
    assert not GaussianProcess(space, "val_acc").trend
    assert GaussianProcess(space, "val_acc").sizes, "what is free without any proxy"
    assert not GaussianProcess(space, "val_acc", free_labels).sizes


def test_layers_see_what_is_dead_and_costs_all_the_same(space: SearchSpace) -> None:
    """A device runs what is written: here a tenth of a millisecond for each convolution, live or not."""
    archs = list(dict.fromkeys(space.sample(130, np.random.default_rng(1))))
    latency = np.array([1 + 0.1 * sum(OPERATIONS[op] >= 2 for op in arch.ops[1:-1]) for arch in archs])
    wishes = [maximize("acc"), at_most("latency_ms", 1.2)]
    found = {}
    for layers in (True, False):
        process = GaussianProcess(space, "latency_ms", layers=layers, sizes=False).fit(archs[:40], -latency[:40])
        found[layers] = np.corrcoef(process.predict(archs[40:]).mean, -latency[40:])[0, 1]
    assert found[True] > 0.95
    assert found[False] < 0.9
    surrogates = GaussianProcess.for_wishes(space, wishes)
    assert [s.metric for s in surrogates] == ["acc", "latency_ms"]
    assert all(s.layers for s in surrogates)  # of one width, as acquisition functions need them
    assert not any(s.layers for s in GaussianProcess.for_wishes(space, wishes[:1]))


def test_an_unfitted_surrogate_says_so(space: SearchSpace) -> None:
    with pytest.raises(ArchgenError, match="the predictor of val_acc has seen no values yet; call fit first"):
        GaussianProcess(space, "val_acc").predict(space.sample(1, np.random.default_rng(0)))


@pytest.mark.parametrize("values", [[70.0], [70.0, 70.0, 70.0], [70.0, 80.0]])
def test_one_value_or_equal_values_can_be_fitted(space: SearchSpace, values: list[float]) -> None:
    archs = space.sample(5, np.random.default_rng(0))
    mean, std = GaussianProcess(space, "val_acc").fit(archs[: len(values)], np.array(values)).predict(archs)
    assert bool(((mean >= min(values)) & (mean <= max(values))).all())
    assert bool((std > 0).all())


def test_the_same_architecture_may_be_seen_twice_with_different_values(space: SearchSpace) -> None:
    archs = space.sample(5, np.random.default_rng(0))
    surrogate = GaussianProcess(space, "val_acc").fit([*archs, *archs], np.arange(10.0))
    assert bool(np.isfinite(surrogate.predict(archs).mean).all())


# -- a real table -----------------------------------------------------------------------------------------------


def test_it_ranks_nasbench201_from_78_labels(space: SearchSpace, tables: Path) -> None:
    """Kendall's tau over 2,000 other cells on CIFAR-10, mean of two seeds (0.73 when this was written)."""
    table = pd.read_parquet(tables / "nasbench201" / "accuracy.parquet", columns=["arch", "cifar10_val_acc"])
    taus = []
    for seed in range(2):
        rows = table.iloc[np.random.default_rng(seed).permutation(len(table))[:2_078]]
        archs, y = [space.parse(text) for text in rows["arch"]], rows["cifar10_val_acc"].to_numpy()
        surrogate = GaussianProcess(space, "val_acc").fit(archs[:78], y[:78])
        taus.append(kendalltau(surrogate.predict(archs[78:]).mean, y[78:]).statistic)
    assert np.mean(taus) >= 0.72


def test_believing_keeps_the_mean_and_shrinks_the_uncertainty_as_a_posterior_does(space: SearchSpace) -> None:
    """Told its own mean at a point, the variance elsewhere falls by `cov^2 / (variance + noise)`."""
    archs = list(dict.fromkeys(space.sample(40, np.random.default_rng(0))))[:30]
    process = GaussianProcess(space, "acc").fit(archs[:20], np.random.default_rng(1).normal(size=20))
    others, (pending,) = archs[21:], archs[20:21]
    mean, std = process.predict_normalised(others)
    surer_mean, surer_std = process.believing([pending]).predict_normalised(others)
    joint = process.posterior([pending, *others]).distribution.covariance_matrix.detach().numpy()
    noise = process.model.likelihood.noise.item()
    expected = std**2 - joint[0, 1:] ** 2 / (joint[0, 0] + noise)
    assert surer_mean == pytest.approx(mean, abs=1e-6)
    assert surer_std**2 == pytest.approx(expected, abs=2e-4)
    assert process.predict_normalised(others)[1].tolist() == std.tolist()


def test_an_update_infers_from_new_values_with_the_hyperparameters_of_the_last_fit(
    space: SearchSpace, data: tuple[list[Architecture], np.ndarray]
) -> None:
    archs, y = data
    process = GaussianProcess(space, "val_acc").fit(archs[:30], y[:30])
    hyper = {name: p.detach().clone() for name, p in process.model.named_parameters()}
    before = process.predict(archs[30:])
    process.update(archs, y)
    assert process.training_data == (archs, y.tolist())
    assert all(torch.equal(p, hyper[name]) for name, p in process.model.named_parameters())
    after = process.predict(archs[30:])
    assert np.abs(after.mean - y[30:]).mean() < 0.5 * np.abs(before.mean - y[30:]).mean()
    with pytest.raises(ArchgenError, match="call fit first"):
        GaussianProcess(space, "val_acc").update(archs, y)


def test_what_is_predicted_again_is_remembered_until_the_process_learns(
    space: SearchSpace, data: tuple[list[Architecture], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    archs, y = data
    process = GaussianProcess(space, "val_acc").fit(archs[:20], y[:20])
    first = process.predict(archs[20:30])
    asked: list[int] = []
    marginals = Marginals.__call__
    monkeypatch.setattr(Marginals, "__call__", lambda self, x: asked.append(len(x)) or marginals(self, x))
    again = process.predict([*archs[25:30], *archs[20:25]])
    assert asked == []
    assert again.mean.tolist() == [*first.mean[5:], *first.mean[:5]]
    process.update(archs[:25], y[:25])
    process.predict(archs[20:30])
    assert sum(asked) > 0


def test_denormalising_undoes_normalising(fitted: GaussianProcess) -> None:
    values = [-20.0, 10.0, 72.5, 93.0, 120.0]
    assert fitted.denormalise(np.array(fitted.normalise(values))) == pytest.approx(values)
    assert fitted.denormalise(np.zeros((2, 3))).shape == (2, 3)
