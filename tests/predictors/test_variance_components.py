"""Variance components against plain linear algebra and scipy's densities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from archgen.predictors.variance_components import condition, fit_variances

N = 25


@pytest.fixture
def data(rng):
    """Two kernels of which the first alone matters, values, and noise known beforehand."""
    features = [rng.standard_normal((N, 2)), rng.standard_normal((N, 4))]
    grams = np.stack([f @ f.T for f in features])
    extra = np.where(np.arange(N) % 2, 0.0, 0.3)
    z = features[0] @ [1.0, -2.0] + np.sqrt(0.05 + extra) * rng.standard_normal(N)
    return features, grams, z, extra


def test_the_posterior_is_the_textbook_one(data, rng):
    features, grams, z, extra = data
    variances = np.array([2.0, 0.3, 0.1])
    new = [rng.standard_normal((6, f.shape[1])) for f in features]
    crosses = np.stack([a @ f.T for a, f in zip(new, features, strict=True)])
    own = np.stack([(a**2).sum(1) for a in new])
    covariance, cross = (np.tensordot(variances[:-1], kernels, 1) for kernels in (grams, crosses))
    mean, variance = condition(covariance, z, extra, variances).predict(cross, variances[:-1] @ own)
    k = 2.0 * grams[0] + 0.3 * grams[1] + np.diag(0.1 + extra)
    assert mean == pytest.approx(cross @ np.linalg.solve(k, z), abs=1e-5)
    expected = 2.0 * own[0] + 0.3 * own[1] - np.diag(cross @ np.linalg.solve(k, cross.T))
    assert variance == pytest.approx(expected, abs=1e-5)


def test_no_other_variances_are_more_probable(data):
    _, grams, z, extra = data
    modes = np.array([1.0, 1.0, 0.05])
    found = fit_variances(grams, z, extra, modes)

    def log_posterior(variances):
        k = np.tensordot(variances[:-1], grams, 1) + np.diag(variances[-1] + extra)
        return multivariate_normal.logpdf(z, cov=k) + norm.logpdf(np.log(variances), np.log(modes), 2.0).sum()

    best = log_posterior(found)
    for i in range(3):
        for factor in (0.8, 1.25):
            assert log_posterior(found * np.where(np.arange(3) == i, factor, 1.0)) < best
    assert found[0] > 20 * found[1]  # the second kernel says nothing


def test_of_no_values_the_modes_remain():
    modes = np.array([0.5, 0.2, 0.1])
    found = fit_variances(np.zeros((2, 0, 0)), np.zeros(0), np.zeros(0), modes)
    posterior = condition(np.zeros((0, 0)), np.zeros(0), np.zeros(0), found)
    mean, variance = posterior.predict(np.zeros((3, 0)), np.full(3, 0.7))
    assert not mean.any()
    assert variance == pytest.approx(0.7)
    assert posterior.noise == 0.1
