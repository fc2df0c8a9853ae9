"""The latency predictor on made-up devices with a known law, and on the published tables where they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from scipy.stats import t as student

from archgen import spaces
from archgen.config import data_dir
from archgen.errors import ArchgenError, InvalidCheckpoint
from archgen.objectives import at_least, at_most
from archgen.predictors.base import load_predictor, save_predictor
from archgen.predictors.latency import LatencyPredictor
from archgen.predictors.latency_features import LatencyFeatures

SPACE = spaces.load("nasbench201")
COST = {"none": 0.0, "skip_connect": 0.05, "nor_conv_1x1": 0.4, "nor_conv_3x3": 1.1, "avg_pool_3x3": 0.3}


def additive(archs, simplify=True):
    """Latencies of a device that runs one operation after another, ms."""
    built = [SPACE.simplify(arch) for arch in archs] if simplify else archs
    return np.array([0.7 + sum(COST.get(op, 0.0) for op in arch.ops) for arch in built])


def draw(n, seed):
    return SPACE.sample(n, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def noisy():
    """A predictor fitted on 200 latencies with 5 % noise, 2000 other architectures and their noisy latencies."""
    rng = np.random.default_rng(3)
    archs, others = draw(200, 1), draw(2000, 2)
    y, truth = (additive(a) * np.exp(0.05 * rng.standard_normal(len(a))) for a in (archs, others))
    return LatencyPredictor(SPACE).fit(archs, y), others, truth


@pytest.mark.parametrize("simplify", [True, False])
def test_forty_exact_measurements_recover_an_additive_device(simplify):
    archs, others = draw(40, 1), draw(500, 2)
    predictor = LatencyPredictor(SPACE, simplify=simplify).fit(archs, additive(archs, simplify))
    truth = additive(others, simplify)
    mean = predictor.predict(others).mean
    assert spearmanr(mean, truth).statistic > 0.99
    assert np.abs(mean / truth - 1).mean() < 0.02


def test_a_device_that_runs_dead_operations_needs_the_architecture_as_written():
    archs, others = draw(60, 1), draw(500, 2)
    y, truth = additive(archs, simplify=False), additive(others, simplify=False)
    error = {
        flag: np.abs(LatencyPredictor(SPACE, simplify=flag).fit(archs, y).predict(others).mean / truth - 1).mean()
        for flag in (True, False)
    }
    assert error[False] < 0.2 * error[True]


def test_a_device_that_leaves_out_what_nothing_reads_is_recovered():
    """But runs convolutions of zeros, as phones do."""
    archs, others = draw(60, 1), draw(500, 2)
    y, truth = (additive(SPACE.without_unused(some), simplify=False) for some in (archs, others))
    predictor = LatencyPredictor(SPACE, simplify=False)
    error = np.abs(predictor.fit(archs, y).predict(others).mean / truth - 1).mean()
    predictor._features = LatencyFeatures(SPACE, simplify=False)
    assert error < 0.1 * np.abs(predictor.fit(archs, y).predict(others).mean / truth - 1).mean()


def test_a_device_with_multiplicative_costs_is_recovered():
    archs, others = draw(60, 1), draw(500, 2)
    y, truth = np.exp(additive(archs) / 2), np.exp(additive(others) / 2)
    mean = LatencyPredictor(SPACE).fit(archs, y).predict(others).mean
    assert spearmanr(mean, truth).statistic > 0.99


def test_intervals_of_ninety_percent_hold_about_ninety_percent(noisy):
    # Exchangeable errors: with 200 measurements the coverage has a standard deviation of 2.1 % around 90 %, and the
    # sample of 2000 adds 0.7 %; outside four of them has a chance below 1e-4.
    predictor, others, truth = noisy
    low, high = predictor.interval(others, level=0.9)
    assert np.mean((low <= truth) & (truth <= high)) == pytest.approx(0.9, abs=0.09)
    upper, lower = (predictor.limit(others, wish("latency_ms", 1.0), 0.9) for wish in (at_most, at_least))
    assert np.mean(truth <= upper) == pytest.approx(0.9, abs=0.09)
    assert np.mean(truth >= lower) == pytest.approx(0.9, abs=0.09)


def test_intervals_and_limits_of_a_law_without_noise_hold_despite_rounding():
    archs, others = draw(100, 1), draw(500, 2)
    predictor = LatencyPredictor(SPACE).fit(archs, additive(archs).round(5))
    limits = [predictor.limit(others, wish("latency_ms", 1.0), 0.95) for wish in (at_least, at_most)]
    for low, high in (predictor.interval(others), limits):
        assert np.mean((low <= additive(others)) & (additive(others) <= high)) > 0.95


@pytest.mark.parametrize("n", [5, 10, 15])
def test_what_few_errors_do_not_back_is_stretched_as_the_tail_of_the_noise(n):
    archs = draw(n, 1)
    y = additive(archs) * np.exp(0.1 * np.random.default_rng(0).standard_normal(n))
    predictor = LatencyPredictor(SPACE).fit(archs, y)
    mean, errors = predictor.predict(archs).mean, predictor._residuals
    stretch = student.ppf(0.95, 2) / student.ppf(n / (n + 1), 2)
    assert stretch > 1
    high = predictor.limit(archs, at_most("latency_ms", 1.0), 0.95)
    assert np.log(high / mean) == pytest.approx(stretch * errors.max() + 1e-4)
    low = predictor.limit(archs, at_least("latency_ms", 1.0), 0.95)
    assert np.log(mean / low) == pytest.approx(stretch * (-errors).max() + 1e-4)
    _, wide = predictor.interval(archs, 0.99)
    two_sided = student.ppf(0.995, 2) / student.ppf(1 - 0.5 / (n + 1), 2)
    assert np.log(wide / mean) == pytest.approx(two_sided * np.abs(errors).max() + 1e-4)


@pytest.mark.parametrize("n", [5, 8, 12, 20, 40])
def test_ninety_percent_of_what_is_not_measured_is_within_the_limits_of_few(n):
    others, inside = draw(1000, 2), []
    for seed in range(12):
        archs, rng = draw(n, 10 + seed), np.random.default_rng(seed)
        y, truth = (additive(a) * np.exp(0.05 * rng.standard_normal(len(a))) for a in (archs, others))
        predictor = LatencyPredictor(SPACE).fit(archs, y)
        low, high = (predictor.limit(others, wish("latency_ms", 1.0), 0.95) for wish in (at_least, at_most))
        inside.append(np.mean((low <= truth) & (truth <= high)))
    assert 0.85 <= np.mean(inside) <= 0.985


@pytest.mark.parametrize("n", [10, 25])
def test_errors_of_few_measurements_are_those_of_fits_that_have_not_seen_them(n):
    archs = draw(n, 1)
    y = additive(archs) * np.exp(0.1 * np.random.default_rng(0).standard_normal(n))
    order = np.argsort(y)
    held = order[3::10]
    kept = [i for i in range(n) if i not in held]
    without = LatencyPredictor(SPACE).fit([archs[i] for i in kept], y[kept])
    expected = np.log(y[held] / without.predict([archs[i] for i in held]).mean)
    assert LatencyPredictor(SPACE).fit(archs, y).left_out_errors[held] == pytest.approx(expected, abs=1e-3)


def test_ten_measurements_cover_other_architectures_of_a_device_that_no_feature_tells_well():
    """30 draws of 10: nothing is known of a hashed part of the latency, so the fit must not trust what it chose."""
    rng, others = np.random.default_rng(7), draw(400, 2)
    cost = {arch: np.exp(0.3 * rng.standard_t(3)) for arch in [*others, *SPACE.sample(400, np.random.default_rng(9))]}
    known = [arch for arch in cost if arch not in set(others)]
    truth = np.array([cost[arch] for arch in others]) * additive(others)
    inside = []
    for _ in range(30):
        archs = [known[i] for i in rng.choice(len(known), 10, replace=False)]
        y = np.array([cost[arch] for arch in archs]) * additive(archs)
        low, high = LatencyPredictor(SPACE).fit(archs, y).interval(others)
        inside.append(np.mean((low <= truth) & (truth <= high)))
    assert np.mean(inside) == pytest.approx(0.91, abs=0.045)


def test_the_standard_deviation_is_that_of_the_noise(noisy):
    predictor, others, _ = noisy
    mean, std = predictor.predict(others)
    assert predictor.sigma_log == pytest.approx(0.05, rel=0.25)
    assert std == pytest.approx(mean * predictor.sigma_log)


def test_a_safer_bound_is_higher_and_a_wider_level_wider(noisy):
    predictor, others, _ = noisy
    levels = (0.1, 0.5, 0.9, 0.99)
    upper, lower = (
        np.stack([predictor.limit(others, wish("latency_ms", 1.0), level) for level in levels])
        for wish in (at_most, at_least)
    )
    assert (np.diff(upper, axis=0) > 0).all()
    assert (np.diff(lower, axis=0) < 0).all()
    low, high = zip(*(predictor.interval(others, level) for level in (0.5, 0.9)), strict=True)
    assert (low[1] < low[0]).all()
    assert (high[0] < high[1]).all()


def test_the_chance_to_meet_a_bound_falls_with_latency(noisy):
    predictor, others, _ = noisy
    chance = predictor.log_probability(others, at_most("latency_ms", 2.0))
    order = np.argsort(predictor.predict(others).mean)
    assert (np.diff(chance[order]) <= 1e-9).all()


def test_a_fit_does_not_depend_on_the_order_of_measurements():
    archs = draw(40, 1)
    y = additive(archs) * np.random.default_rng(0).uniform(0.9, 1.1, 40)
    order = np.random.default_rng(1).permutation(40)
    others = draw(50, 2)
    first = LatencyPredictor(SPACE).fit(archs, y).predict(others)
    second = LatencyPredictor(SPACE).fit([archs[i] for i in order], y[order]).predict(others)
    assert first.mean == pytest.approx(second.mean, rel=1e-9)


def test_a_nearly_free_cell_does_not_spoil_the_others():
    # Published tables have cells of 3 microseconds among cells of 10 ms.
    archs, others = draw(60, 1), draw(500, 2)
    y = additive(archs)
    y[0] = 1e-3
    mean = LatencyPredictor(SPACE).fit(archs, y).predict(others).mean
    assert spearmanr(mean, additive(others)).statistic > 0.95


def test_a_measurement_that_something_disturbed_does_not_spoil_the_others():
    archs, others = draw(20, 1), draw(500, 2)
    y, truth = (additive(a) * np.exp(0.02 * np.random.default_rng(5).standard_normal(len(a))) for a in (archs, others))
    spoiled = y.copy()
    spoiled[3] *= 3
    error = [
        np.abs(LatencyPredictor(SPACE).fit(archs, values).predict(others).mean / truth - 1).mean()
        for values in (y, spoiled)
    ]
    assert error[1] < 1.5 * error[0] + 0.01


def test_holdout_judges_on_what_was_not_fitted_and_leaves_the_predictor_alone():
    archs = draw(80, 1)
    predictor = LatencyPredictor(SPACE)
    found = predictor.holdout(archs, additive(archs), seed=0)
    assert (found["n_train"], found["n_test"]) == (60, 20)
    assert found["rho"] > 0.98
    assert 0.8 < found["tau"] <= 1
    assert found["mape"] < 3
    assert 0 <= found["coverage90"] <= 1
    assert predictor.holdout(archs, additive(archs), seed=0) == found
    with pytest.raises(ArchgenError, match="not fitted"):
        predictor.predict(archs)


def test_holdout_finds_nothing_where_there_is_nothing():
    # Spearman's correlation of independent values, 50 of them: above 0.55 has a chance below 1e-4.
    archs = draw(200, 1)
    y = np.random.default_rng(0).uniform(1, 2, 200)
    assert abs(LatencyPredictor(SPACE).holdout(archs, y, seed=0)["rho"]) < 0.55


def test_a_checkpoint_predicts_the_same_to_the_bit(tmp_path, noisy):
    predictor, others, _ = noisy
    save_predictor(predictor, "latency", tmp_path, "card")
    loaded = load_predictor(tmp_path, SPACE)
    assert isinstance(loaded, LatencyPredictor)
    assert loaded.simplify == predictor.simplify
    for ours, theirs in zip(predictor.predict(others), loaded.predict(others), strict=True):
        assert np.array_equal(ours, theirs)
    for ours, theirs in zip(predictor.interval(others), loaded.interval(others), strict=True):
        assert np.array_equal(ours, theirs)


def test_a_checkpoint_of_before_has_the_features_it_was_fitted_with():
    archs, others = draw(30, 1), draw(50, 2)
    old = LatencyPredictor(SPACE, "latency_ms@old", simplify=False)
    old._features = LatencyFeatures(SPACE, simplify=False)
    config, tensors = old.fit(archs, additive(archs, simplify=False)).state()
    assert config.pop("used") is False
    loaded = LatencyPredictor.restore(SPACE, "latency_ms@old", config, tensors)
    assert np.array_equal(loaded.predict(others).mean, old.predict(others).mean)
    new = LatencyPredictor(SPACE, "latency_ms@new", simplify=False).fit(archs, additive(archs))
    with pytest.raises(ArchgenError, match="latency_ms@new has other features than latency_ms@old"):
        LatencyPredictor(SPACE, simplify=False, sources=[loaded, new])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda config, tensors: tensors.pop("1.coefficients"),
        lambda config, tensors: tensors.update({"0.coefficients": torch.zeros(3)}),
        lambda config, tensors: tensors.update({"weights": torch.ones(3)}),
        lambda config, tensors: config.update(members=["ms", "cm"]),
        lambda config, tensors: config.pop("simplify"),
    ],
    ids=["missing", "shape", "weights", "member", "config"],
)
def test_a_damaged_checkpoint_is_refused(tmp_path, noisy, spoil, monkeypatch):
    config, tensors = noisy[0].state()
    spoil(config, tensors)
    damaged = LatencyPredictor(SPACE)
    monkeypatch.setattr(damaged, "state", lambda: (config, tensors))
    save_predictor(damaged, "latency", tmp_path, "card")
    with pytest.raises(InvalidCheckpoint, match="not a whole latency checkpoint"):
        load_predictor(tmp_path, SPACE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0] * 9, "as many values"),
        ([1.0] * 9 + [np.nan], "NaN"),
        ([1.0] * 9 + [0.0], "above 0 ms, got 1"),
        ([-1.0] * 10, "above 0 ms, got 10"),
    ],
)
def test_values_that_are_no_latencies_are_refused_in_one_line(values, message):
    with pytest.raises(ArchgenError, match=message) as caught:
        LatencyPredictor(SPACE).fit(draw(10, 0), np.array(values))
    assert "\n" not in str(caught.value)


def test_too_few_measurements_and_impossible_levels_are_refused(noisy):
    archs = draw(6, 0)
    with pytest.raises(ArchgenError, match="at least 5"):
        LatencyPredictor(SPACE).fit(archs[:4], np.ones(4))
    with pytest.raises(ArchgenError, match="measure more"):
        LatencyPredictor(SPACE).holdout(archs, np.ones(6), seed=0, fraction=0.5)
    with pytest.raises(ArchgenError, match="between 0 and 1"):
        noisy[0].interval(archs, level=1.0)
    with pytest.raises(ArchgenError, match="between 0 and 1"):
        noisy[0].limit(archs, at_most("latency_ms", 1.0), 1.0)
    with pytest.raises(ArchgenError, match="not fitted"):
        _ = LatencyPredictor(SPACE).sigma_log


def test_equal_latencies_are_predicted_and_have_no_rank():
    archs = draw(20, 0)
    fitted = LatencyPredictor(SPACE).fit(archs, np.full(20, 2.5))
    assert fitted.predict(archs).mean == pytest.approx(np.full(20, 2.5))
    assert np.isnan(fitted.holdout(archs, np.full(20, 2.5), seed=0)["rho"])


def test_no_architecture_is_no_prediction(noisy):
    assert noisy[0].predict([]).mean.shape == (0,)
    assert [bound.shape for bound in noisy[0].interval([])] == [(0,), (0,)]


@pytest.mark.parametrize(
    ("device", "n", "least"),
    [
        ("pixel3", 40, 0.82),
        ("raspi4", 40, 0.82),
        ("titan_rtx_1", 40, 0.93),
        ("eyeriss", 40, 0.97),
        ("pixel3", 300, 0.9),
    ],
)
def test_published_latencies_are_ranked_from_few_measurements(device, n, least):
    folder = data_dir()
    if folder is None:
        pytest.skip("the benchmark tables are absent: set ARCHGEN_DATA")
    table = pd.read_parquet(folder / "nasbench201" / "latency_ms.parquet", columns=["arch", device])
    drawn = table.sample(n + 1000, random_state=0)
    archs, y = [SPACE.parse(text) for text in drawn["arch"]], drawn[device].to_numpy()
    predictor = LatencyPredictor(SPACE, device, simplify=False).fit(archs[:n], y[:n])
    low, high = predictor.interval(archs[n:])
    assert spearmanr(predictor.predict(archs[n:]).mean, y[n:]).statistic > least
    # 40 measurements: coverage varies with a standard deviation of 5 % from one draw of them to the next.
    assert np.mean((low <= y[n:]) & (y[n:] <= high)) > 0.65


def test_a_device_like_others_is_learnt_from_fewer_measurements_with_them():
    rng = np.random.default_rng(4)

    def device(factor, archs):
        cost = {op: value * factor.get(op, 1.0) for op, value in COST.items()}
        built = [SPACE.simplify(arch) for arch in archs]
        return np.array([0.7 + sum(cost.get(op, 0.0) for op in arch.ops) for arch in built])

    known = draw(200, 5)
    sources = []
    for _ in range(4):
        factor = {op: float(np.exp(0.5 * rng.standard_normal())) for op in COST}
        sources.append(LatencyPredictor(SPACE, "latency_ms@source").fit(known, device(factor, known)))
    factor = {op: float(np.exp(0.5 * rng.standard_normal())) for op in COST}
    archs, others = draw(6, 1), draw(500, 2)
    y, truth = (device(factor, a) * np.exp(0.03 * rng.standard_normal(len(a))) for a in (archs, others))
    error = [
        np.abs(LatencyPredictor(SPACE, sources=given).fit(archs, y).predict(others).mean / truth - 1).mean()
        for given in ((), sources)
    ]
    assert error[1] < 0.8 * error[0]


def test_sources_that_mislead_hardly_hurt():
    rng = np.random.default_rng(4)
    known, archs, others = draw(200, 5), draw(20, 1), draw(500, 2)
    noise = [LatencyPredictor(SPACE).fit(known, np.exp(rng.standard_normal(200))) for _ in range(3)]
    error = [
        np.abs(
            LatencyPredictor(SPACE, sources=given).fit(archs, additive(archs)).predict(others).mean / additive(others)
            - 1
        ).mean()
        for given in ((), noise)
    ]
    assert error[1] < 1.2 * error[0] + 0.005


def test_a_source_that_tells_nothing_apart_is_refused():
    archs = draw(20, 1)
    source = LatencyPredictor(SPACE, "latency_ms@still").fit(archs, np.full(20, 2.0))
    with pytest.raises(ArchgenError, match="latency_ms@still tells no architectures apart"):
        LatencyPredictor(SPACE, sources=[source]).fit(archs, additive(archs))


def test_a_source_of_another_kind_is_refused(noisy):
    for source in (LatencyPredictor(SPACE), noisy[0]):
        with pytest.raises(ArchgenError, match="a source of latency_ms@new must be fitted"):
            LatencyPredictor(SPACE, "latency_ms@new", simplify=False, sources=[source])


def test_left_out_errors_are_those_of_predictions_of_others():
    """5 % noise: what is left out is predicted worse than what is fitted, as an unseen architecture is."""
    rng = np.random.default_rng(4)
    archs = draw(40, 5)
    y = additive(archs) * np.exp(0.05 * rng.standard_normal(40))
    predictor = LatencyPredictor(SPACE).fit(archs, y)
    errors = predictor.left_out_errors
    fitted = np.log(y / predictor.predict(archs).mean)
    assert errors.shape == (40,)
    assert np.corrcoef(errors, fitted)[0, 1] > 0.8
    assert 0.04 < errors.std() < 0.12
    assert errors.std() > fitted.std()
    _, high = predictor.interval(archs)
    middle = y / np.exp(errors)
    factor = high[0] / predictor.predict(archs).mean[0]
    assert np.mean((middle / factor <= y) & (y <= middle * factor)) >= 0.9
