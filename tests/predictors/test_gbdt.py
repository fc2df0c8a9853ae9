"""Boosted trees: exact SHAP values, calibrated intervals, checkpoints to the bit, few labels and many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kendalltau, norm

from archgen.errors import ArchgenError, InvalidCheckpoint
from archgen.graph import Architecture
from archgen.objectives import at_least, at_most
from archgen.predictors import FreeLabels, GradientBoosting, judge, load_predictor, save_predictor
from archgen.predictors.base import Floats
from archgen.predictors.gbdt import boost, calibrated_std, shap_values
from archgen.spaces import SearchSpace


def law(space: SearchSpace, archs: list[Architecture], noise: float = 0.3) -> Floats:
    """A skewed metric of what an architecture computes, with noise of the measurement."""
    ops = [space.computation(arch).ops for arch in archs]
    strength = np.array(
        [2.0 * op.count("nor_conv_3x3") + op.count("nor_conv_1x1") - 0.5 * op.count("avg_pool_3x3") for op in ops]
    )
    return 90 - 30 * np.exp(-(strength + np.random.default_rng(9).normal(0, noise, len(archs))) / 3)


@pytest.fixture(scope="module")
def fitted(space: SearchSpace) -> GradientBoosting:
    archs = space.sample(120, np.random.default_rng(0))
    return GradientBoosting(space, "acc").fit(archs, law(space, archs))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 9, 30, 700])
def test_any_number_of_labels_gives_finite_predictions(space: SearchSpace, n: int) -> None:
    archs = space.sample(n, np.random.default_rng(1))
    y = law(space, archs)
    mean, std = GradientBoosting(space, "acc").fit(archs, y).predict(space.sample(50, np.random.default_rng(2)))
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
    assert (std > 0).all()
    if n == 1:
        assert (mean == y[0]).all()


def test_five_labels_already_rank_better_than_chance(space: SearchSpace) -> None:
    """Mean over 12 draws: by chance it would be 0 with a standard error below 0.1."""
    archs = space.sample(400, np.random.default_rng(3))
    y, found = law(space, archs), []
    for i in range(12):
        few = slice(5 * i, 5 * i + 5)
        mean = GradientBoosting(space, "acc").fit(archs[few], y[few]).predict(archs[60:]).mean
        found.append(kendalltau(mean, y[60:]).statistic if np.ptp(mean) else 0.0)
    assert np.mean(found) > 0.25


def test_equal_labels_are_predicted_as_they_are(space: SearchSpace, rng: np.random.Generator) -> None:
    archs = space.sample(10, rng)
    predictor = GradientBoosting(space, "acc").fit(archs, np.full(10, 3.5))
    assert predictor.predict(archs).mean == pytest.approx([3.5] * 10)
    assert predictor.members == []


def test_shap_values_add_up_to_the_prediction(fitted: GradientBoosting, space: SearchSpace) -> None:
    archs = space.sample(60, np.random.default_rng(4))
    contributions = fitted.contributions(archs)
    assert contributions.shape == (10, 60, fitted.encode(archs).shape[1] + 1)
    mean, _ = fitted.predict_scores(archs)
    assert contributions.sum(-1).mean(0) == pytest.approx(mean)


def test_shap_values_of_two_features_are_those_worked_out_by_hand() -> None:
    """Shapley's formula over both features, an absent one averaged over the rows that reach its split."""
    rows = np.array([[i % 2, i // 2 % 2, 0.0] for i in range(400)], dtype=float)
    target = 2.0 * rows[:, 0] - rows[:, 1] + 3.0 * rows[:, 0] * rows[:, 1]
    member = boost(rows, target, seed=0)
    found = shap_values(member, rows[:4])
    value = dict(zip([(0, 0), (1, 0), (0, 1), (1, 1)], member.predict(rows[:4]), strict=True))
    mean = np.mean(list(value.values()))
    for (a, b), row in zip(value, found, strict=True):
        only_a, only_b = (value[a, 0] + value[a, 1]) / 2, (value[0, b] + value[1, b]) / 2
        first = (only_a - mean + value[a, b] - only_b) / 2
        second = (only_b - mean + value[a, b] - only_a) / 2
        assert row == pytest.approx([first, second, 0, mean], abs=1e-9)


def test_the_same_seed_gives_the_same_predictor_to_the_bit(space: SearchSpace, fitted: GradientBoosting) -> None:
    archs = space.sample(120, np.random.default_rng(0))
    others = space.sample(200, np.random.default_rng(6))
    again = GradientBoosting(space, "acc").fit(archs, law(space, archs))
    other = GradientBoosting(space, "acc", seed=1).fit(archs, law(space, archs))
    assert (again.predict(others).mean == fitted.predict(others).mean).all()
    assert (again.predict(others).std == fitted.predict(others).std).all()
    assert (other.predict(others).mean != fitted.predict(others).mean).any()


def test_a_checkpoint_predicts_the_same_to_the_bit(
    space: SearchSpace, fitted: GradientBoosting, tmp_path: Path
) -> None:
    save_predictor(fitted, "gbdt", tmp_path, "# card\n")
    restored = load_predictor(tmp_path, space)
    assert isinstance(restored, GradientBoosting)
    others = space.sample(200, np.random.default_rng(7))
    for before, after in zip(fitted.predict(others), restored.predict(others), strict=True):
        assert (before == after).all()
    assert (restored.contributions(others[:5]) == fitted.contributions(others[:5])).all()


def test_broken_members_of_a_checkpoint_are_refused_in_words(
    space: SearchSpace, fitted: GradientBoosting, tmp_path: Path
) -> None:
    config, tensors = fitted.state()
    with pytest.raises(ValueError, match="member 0 reads 77 features, nasbench201 has 30"):
        GradientBoosting.restore(space, "acc", {**config, "features": "choices"}, tensors)
    save_predictor(fitted, "gbdt", tmp_path, "# card\n")
    (tmp_path / "config.json").write_text(
        (tmp_path / "config.json").read_text().replace('"members": 10', '"members": 11')
    )
    with pytest.raises(InvalidCheckpoint, match=r"not a whole gbdt checkpoint .*member\.10"):
        load_predictor(tmp_path, space)


def test_free_labels_are_features_and_part_of_the_checkpoint(space: SearchSpace, tmp_path: Path) -> None:
    archs = space.sample(200, np.random.default_rng(8))
    flops = [space.count(arch)["flops"] for arch in archs]
    free = FreeLabels(space, width=16, members=1).fit(archs, {"flops": flops}, steps=150)
    y = np.log(np.array(flops))
    plain = GradientBoosting(space, "acc", features="choices").fit(archs[:30], y[:30])
    with_free = GradientBoosting(space, "acc", features="choices", free_labels=free).fit(archs[:30], y[:30])
    assert with_free.encode(archs).shape == (200, 31)
    taus = [kendalltau(p.predict(archs[30:]).mean, y[30:]).statistic for p in (plain, with_free)]
    assert taus[1] > taus[0] + 0.05
    save_predictor(with_free, "gbdt", tmp_path, "# card\n")
    restored = load_predictor(tmp_path, space)
    assert (restored.predict(archs).mean == with_free.predict(archs).mean).all()


def test_the_std_is_that_of_the_conformal_interval() -> None:
    residuals = np.arange(1, 20) * np.resize([1, -1], 19)  # rank 0.9 x 20 = 18
    assert calibrated_std(residuals) * norm.ppf(0.95) == pytest.approx(18)
    # of two residuals Student's interval with one degree of freedom: 6.314 x 1 x sqrt(1.5)
    assert calibrated_std(np.array([1.0, -1.0])) * norm.ppf(0.95) == pytest.approx(6.3138 * 1.5**0.5, rel=1e-4)


def test_intervals_hold_about_ninety_percent_of_what_was_not_seen(space: SearchSpace) -> None:
    """With 100 labels conformal coverage has a standard deviation of 3 % a draw: the mean of 8 is within 5 %."""
    covered = []
    for seed in range(8):
        archs = space.sample(500, np.random.default_rng(seed))
        y = law(space, archs, noise=1.0)
        covered.append(
            judge(GradientBoosting(space, "acc").fit(archs[:100], y[:100]), archs[100:], y[100:])["coverage_90"]
        )
    assert 85 < np.mean(covered) < 96


def test_limits_and_probabilities_agree(fitted: GradientBoosting, space: SearchSpace) -> None:
    archs = space.sample(20, np.random.default_rng(10))
    for wish in (at_least, at_most):
        limits = fitted.limit(archs, wish("acc", 0.0), 0.8)
        p = [fitted.log_probability([arch], wish("acc", limit))[0] for arch, limit in zip(archs, limits, strict=True)]
        assert np.exp(p) == pytest.approx(0.8, abs=1e-6)


def test_unknown_features_and_an_unfitted_predictor_are_refused(space: SearchSpace) -> None:
    with pytest.raises(ArchgenError, match="must be 'paths' or 'choices', got 'path'"):
        GradientBoosting(space, "acc", features="path")  # type: ignore[arg-type]
    with pytest.raises(ArchgenError, match="call fit first"):
        GradientBoosting(space, "acc").predict([])


def test_fitting_leaves_the_global_generators_alone(space: SearchSpace) -> None:
    archs = space.sample(20, np.random.default_rng(11))
    before = torch.get_rng_state()
    GradientBoosting(space, "acc").fit(archs, law(space, archs))
    assert torch.equal(torch.get_rng_state(), before)


def test_accuracies_of_nasbench201_are_ranked_from_156_labels(tables: Path, space: SearchSpace) -> None:
    frame = pd.read_parquet(tables / "nasbench201" / "accuracy.parquet", columns=["arch", "cifar10_val_acc"])
    frame = frame.iloc[np.random.default_rng(100).permutation(len(frame))[:3000]]
    archs, y = [space.parse(text) for text in frame["arch"]], frame["cifar10_val_acc"].to_numpy()
    figures = judge(GradientBoosting(space, "acc").fit(archs[:156], y[:156]), archs[156:], y[156:])
    assert figures["kendall_tau"] > 0.76
    assert 83 < figures["coverage_90"] < 97
