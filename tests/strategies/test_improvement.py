"""Improvements in closed form against quadrature, Monte Carlo and BoTorch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from botorch.acquisition.multi_objective.analytic import ExpectedHypervolumeImprovement
from botorch.models.deterministic import GenericDeterministicModel
from botorch.posteriors import GPyTorchPosterior
from botorch.utils.multi_objective.box_decompositions import NondominatedPartitioning
from gpytorch.distributions import MultitaskMultivariateNormal
from scipy.integrate import quad
from scipy.stats import norm

from archgen.pareto import hypervolume
from archgen.strategies.improvement import expected_hypervolume_improvement, log_expected_improvement


@pytest.mark.parametrize("z", [-6.0, -2.0, -1.001, -0.999, 0.0, 1.5, 8.0])
def test_log_expected_improvement_is_the_logarithm_of_the_integral(z: float) -> None:
    std, best = 0.7, 1.3
    mean = best + z * std
    expected, _ = quad(lambda y: (y - best) * norm.pdf(y, mean, std), best, max(best, mean) + 12 * std, epsabs=1e-15)
    found = log_expected_improvement(np.array([mean]), np.array([std]), best)
    assert np.exp(found[0]) == pytest.approx(expected, rel=1e-6)


def test_log_expected_improvement_goes_on_where_the_improvement_underflows() -> None:
    """Far below, log EI(z) = log phi(z) - 2 log |z| up to 3 / z^2; it never stops rising."""
    z = np.array([-1e7, -1e6, -99_999.0, -1e4, -60.0, -40.0])
    found = log_expected_improvement(z, np.ones(6), 0.0)
    assert found == pytest.approx(norm.logpdf(z) - 2 * np.log(-z), abs=3e-3)
    grid = log_expected_improvement(np.linspace(-1e3, 40, 20_001), np.ones(20_001), 0.0)
    assert (np.diff(grid) > 0).all()


def random_front(rng: np.random.Generator, m: int) -> np.ndarray:
    return rng.normal(size=(7, m))


@pytest.mark.parametrize("m", [2, 3])
def test_expected_hypervolume_improvement_is_the_mean_of_what_draws_add(m: int) -> None:
    """500 draws: five standard errors, so that a right formula fails with a probability below 1e-6 each."""
    rng = np.random.default_rng(m)
    front, reference = random_front(rng, m), np.full(m, -1.5)
    mean, std = rng.uniform(0.5, 1.5, (4, m)), rng.uniform(0.3, 1.0, (4, m))  # near the front: most draws add
    found = expected_hypervolume_improvement(mean, std, front, reference)
    known = hypervolume(front, reference)
    for i in range(4):
        draws = rng.normal(mean[i], std[i], (500, m))
        added = np.array([hypervolume(np.vstack([front, draw]), reference) - known for draw in draws])
        assert abs(found[i] - added.mean()) < 5 * added.std() / np.sqrt(len(added)) + 1e-9


def test_expected_hypervolume_improvement_is_that_of_botorch() -> None:
    rng = np.random.default_rng(0)
    front, reference = random_front(rng, 2), np.array([-2.0, -1.0])
    mean, std = rng.normal(size=(50, 2)), rng.uniform(0.1, 1.5, (50, 2))

    class Known(GenericDeterministicModel):
        def posterior(self, X: torch.Tensor, *args: object, **kwargs: object) -> GPyTorchPosterior:
            row = X[..., 0, 0].long()
            means = torch.from_numpy(mean)[row][:, None]
            covariance = torch.diag_embed(torch.from_numpy(std**2)[row])
            return GPyTorchPosterior(MultitaskMultivariateNormal(means, covariance))

    inside = torch.from_numpy(front[(front > reference).all(1)])
    expected = ExpectedHypervolumeImprovement(
        Known(lambda X: X, 2), reference.tolist(), NondominatedPartitioning(torch.from_numpy(reference), inside)
    )(torch.arange(50).double()[:, None, None])
    found = expected_hypervolume_improvement(mean, std, front, reference)
    assert found == pytest.approx(expected.numpy(), rel=1e-6)


def test_without_a_front_everything_above_the_reference_is_won() -> None:
    """One Gaussian far above the reference: the mean of a product of independent values."""
    mean, std = np.array([[5.0, 7.0]]), np.array([[0.1, 0.1]])
    found = expected_hypervolume_improvement(mean, std, np.empty((0, 2)), np.zeros(2))
    assert found[0] == pytest.approx(35.0)
    below = expected_hypervolume_improvement(mean, std, np.array([[-1.0, 9.0]]), np.zeros(2))
    assert below[0] == pytest.approx(35.0)


def test_a_hypervolume_in_other_units_is_a_quadrature_over_the_beliefs() -> None:
    """In the same units it is the closed form; in exponential ones the mean of draws, by five standard errors."""
    rng = np.random.default_rng(3)
    front, reference = random_front(rng, 2), np.full(2, -1.5)
    mean, std = rng.uniform(0.5, 1.5, (5, 2)), rng.uniform(0.3, 1.0, (5, 2))
    closed = expected_hypervolume_improvement(mean, std, front, reference)
    same = expected_hypervolume_improvement(mean, std, front, reference, [lambda s: s, lambda s: s])
    assert same == pytest.approx(closed, rel=0.03)
    units = [np.exp, lambda s: 3.0 * s + 1.0]
    there = [np.stack([unit(x[..., j]) for j, unit in enumerate(units)], -1) for x in (front, reference)]
    found = expected_hypervolume_improvement(mean, std, there[0], there[1], units)
    known = hypervolume(there[0], there[1])
    for i in range(5):
        draws = rng.normal(mean[i], std[i], (500, 2))
        points = np.stack([unit(draws[:, j]) for j, unit in enumerate(units)], -1)
        added = np.array([hypervolume(np.vstack([there[0], p]), there[1]) - known for p in points])
        assert abs(found[i] - added.mean()) < 5 * added.std() / np.sqrt(len(added)) + 0.03 * found[i]
