"""Grouped regression against refits, against scipy's Gaussian densities, and on data of a known law."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from archgen.predictors.grouped_regression import fit_groups


@pytest.fixture(params=[50, 4], ids=["more features", "more values"])
def data(request):
    """Two groups of which the first alone matters, values, and noise of two sizes."""
    rng = np.random.default_rng(0)
    groups = [rng.standard_normal((30, 3)), rng.standard_normal((30, request.param))]
    noise = np.where(np.arange(30) % 2, 0.1, 0.4)
    y = 5 + groups[0] @ np.array([1.0, -2.0, 0.5]) + noise * rng.standard_normal(30)
    return groups, y, noise


def covariance(groups, fit, noise, n):
    prior = sum(s * g @ g.T / g.shape[1] for s, g in zip(fit.scales, groups, strict=True))
    return prior + np.ones((n, n)) + fit.noise * np.diag(noise**2 / np.exp(np.log(noise**2).mean()))


def test_left_out_values_are_those_of_a_regression_without_them(data):
    groups, y, noise = data
    fit = fit_groups(groups, y, noise)
    z, k = (y - y.mean()) / y.std(), covariance(groups, fit, noise, 30)
    for i in range(30):
        keep = np.arange(30) != i
        refit = k[i, keep] @ np.linalg.solve(k[np.ix_(keep, keep)], z[keep])
        assert fit.left_out[i] == pytest.approx(y.mean() + y.std() * refit, abs=1e-5)


def test_the_line_is_the_posterior_mean(data):
    groups, y, noise = data
    fit = fit_groups(groups, y, noise)
    new = [np.random.default_rng(1).standard_normal((5, g.shape[1])) for g in groups]
    z, k = (y - y.mean()) / y.std(), covariance(groups, fit, noise, 30)
    cross = 1 + sum(s * a @ g.T / g.shape[1] for s, a, g in zip(fit.scales, new, groups, strict=True))
    expected = y.mean() + y.std() * cross @ np.linalg.solve(k, z)
    assert fit.intercept + np.hstack(new) @ fit.coefficients == pytest.approx(expected, abs=1e-5)


def test_no_other_scales_are_more_probable(data):
    groups, y, noise = data
    fit = fit_groups(groups, y, noise)
    z = (y - y.mean()) / y.std()

    def log_posterior(scales, variance):
        at = replace(fit, scales=scales, noise=variance)
        prior = norm.logpdf(np.log(scales), -np.log(2), 2.0).sum() + norm.logpdf(np.log(variance), -3.0, 2.0)
        return multivariate_normal.logpdf(z, cov=covariance(groups, at, noise, 30)) + prior

    best = log_posterior(fit.scales, fit.noise)
    for factor in (0.8, 1.25):
        assert log_posterior(fit.scales * [factor, 1], fit.noise) < best
        assert log_posterior(fit.scales * [1, factor], fit.noise) < best
        assert log_posterior(fit.scales, fit.noise * factor) < best


def test_a_group_that_says_nothing_is_left_aside(data):
    groups, y, noise = data
    fit = fit_groups(groups, y, noise)
    assert fit.scales[0] > 20 * fit.scales[1]
    assert fit.coefficients[:3] == pytest.approx([1.0, -2.0, 0.5], abs=0.2)
    assert np.abs(fit.coefficients[3:]).max() < 0.1


@pytest.mark.parametrize("n", [1, 8])
def test_equal_values_give_a_constant(n):
    fit = fit_groups([np.random.default_rng(0).standard_normal((n, 2))], np.full(n, 3.0))
    assert fit.intercept == 3.0
    assert not fit.coefficients.any()
    assert (fit.left_out == 3.0).all()


def test_tails_without_end_are_gaussian(data):
    groups, y, noise = data
    gaussian, student = fit_groups(groups, y, noise), fit_groups(groups, y, noise, tails=1e7)
    assert student.coefficients == pytest.approx(gaussian.coefficients, abs=1e-4)
    assert student.left_out == pytest.approx(gaussian.left_out, abs=1e-4)
    assert student.left_out_density == pytest.approx(gaussian.left_out_density, abs=1e-3)


def test_a_value_that_went_wrong_rules_a_gaussian_fit_but_not_one_with_tails(data):
    groups, y, noise = data
    clean = fit_groups(groups, y, noise).coefficients
    spoiled = y.copy()
    spoiled[4] += 20.0
    off = [np.abs(fit_groups(groups, spoiled, noise, tails=tails).coefficients - clean).max() for tails in (None, 2.0)]
    assert off[1] < 0.15
    assert off[0] > 3 * off[1]
    left_out = fit_groups(groups, spoiled, noise, tails=2.0).left_out[4]
    assert left_out == pytest.approx(y[4], abs=1.5), "it is told from the others, not from what went wrong"


def test_of_two_groups_that_say_the_same_the_expected_one_is_taken():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 2))
    y = x @ np.array([1.0, -1.0]) + 0.1 * rng.standard_normal(12)
    for expected, share in (([(0.0, 1.0), (-6.0, 1.0)], 0.9), ([(-6.0, 1.0), (0.0, 1.0)], 0.1)):
        fit = fit_groups([x, x], y, expected=expected)
        assert fit.coefficients[0] / (fit.coefficients[0] + fit.coefficients[2]) == pytest.approx(share, abs=0.1)
