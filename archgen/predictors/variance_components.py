"""Exact Gaussian regression on a sum of fixed kernels, each with a variance of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from archgen.predictors.base import Floats

_BROAD = 2.0
"""Standard deviation of the hyperpriors, in log variance: a factor of about 50 either way within two of them."""
_REACH = 9.0
"""How far from its mode a log variance may go."""
_JITTER = 1e-8
_FITTED = 512
"""Most values that the variances are fitted to; the cost is their number cubed."""


@dataclass(frozen=True)
class VarianceComponents:
    r"""Posterior of :math:`z = \sum_g h_g + \epsilon`, :math:`h_g \sim N(0, v_g K_g)`, `epsilon_i ~ N(0, v + d_i)`.

    Args:
        variances: Of each of `g` kernels.
        noise: Variance `v` of the noise.
        root: Lower Cholesky factor of the covariance of the `n` values.
        alpha: Inverse covariance times the values, `n`.
    """

    variances: Floats
    noise: float
    root: Floats
    alpha: Floats

    def predict(self, crosses: Floats, own: Floats) -> tuple[Floats, Floats]:
        """Mean and variance of the sum, noise left out, at `b` points (Rasmussen and Williams, algorithm 2.1).

        Args:
            crosses: Kernels between the points and the values, `g x b x n`.
            own: Kernels of each point with itself, `g x b`.
        """
        cross = np.tensordot(self.variances, crosses, 1)
        explained = (solve_triangular(self.root, cross.T, lower=True) ** 2).sum(0)
        return cross @ self.alpha, np.maximum(self.variances @ own - explained, 0.0)


def fit_variances(grams: Floats, z: Floats, extra: Floats, modes: Floats) -> VarianceComponents:
    """Variances of the greatest marginal likelihood times log-normal hyperpriors, then the exact posterior.

    The hyperpriors keep a few values from deciding the variances alone; of none the modes remain (the likelihood is
    that of Rasmussen and Williams, "Gaussian Processes for Machine Learning", equations 5.8 and 5.9). The variances
    are fitted to at most 512 of the values; the posterior is of all.

    Args:
        grams: Kernels `K_g` between the values, `g x n x n`.
        z: Values, `n`, of mean zero a priori.
        extra: Known variance of the noise of each value beyond the common one, `n`.
        modes: Mode of each variance's hyperprior, that of the noise last, `g + 1`.
    """
    if not len(z):
        return VarianceComponents(modes[:-1], float(modes[-1]), np.zeros((0, 0)), np.zeros(0))
    centre = np.log(modes)
    rows = np.sort(np.random.default_rng(0).permutation(len(z))[:_FITTED])
    some = np.concatenate([grams[:, rows][:, :, rows], np.eye(len(rows))[None]])
    some_extra, some_z = np.diag(extra[rows] + _JITTER), z[rows]

    def loss(log_variances: Floats) -> tuple[float, Floats]:
        variances = np.exp(log_variances)
        factor = cho_factor(np.tensordot(variances, some, 1) + some_extra, lower=True)
        inverse = cho_solve(factor, np.eye(len(some_z)))
        alpha = inverse @ some_z
        off = (log_variances - centre) / _BROAD
        value = 0.5 * some_z @ alpha + np.log(np.diag(factor[0])).sum() + 0.5 * off @ off
        slope = 0.5 * np.tensordot(some, inverse - np.outer(alpha, alpha), 2) * variances + off / _BROAD
        return float(value), slope

    bounds = [(c - _REACH, c + _REACH) for c in centre]
    variances = np.exp(minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds).x)
    return condition(grams, z, extra, variances)


def condition(grams: Floats, z: Floats, extra: Floats, variances: Floats) -> VarianceComponents:
    """The posterior with given variances, that of the noise last; other arguments as for `fit_variances`."""
    noisy = np.tensordot(variances[:-1], grams, 1) + np.diag(extra + variances[-1] + _JITTER)
    root: Floats = cholesky(noisy, lower=True)
    alpha: Floats = cho_solve((root, True), z)
    return VarianceComponents(variances[:-1], float(variances[-1]), root, alpha)
