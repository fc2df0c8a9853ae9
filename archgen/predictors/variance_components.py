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


@dataclass(frozen=True)
class VarianceComponents:
    r"""Posterior of :math:`z = \sum_g h_g + \epsilon` with :math:`h_g \sim N(0, v_g K_g)`; the noise is independent.

    Args:
        variances: `v`, of each of `g` kernels, and of the noise last.
        root: Lower Cholesky factor of the covariance of the `n` values, noise included.
        alpha: Inverse covariance times the values, `n`.
    """

    variances: Floats
    root: Floats
    alpha: Floats

    @property
    def noise(self) -> float:
        """Variance of the noise."""
        return float(self.variances[-1])

    def predict(self, cross: Floats, own: Floats) -> tuple[Floats, Floats]:
        """Mean and variance of the sum, noise left out, at `b` points (Rasmussen and Williams, algorithm 2.1).

        Args:
            cross: Covariance of the points and the values, the sum of `v_g K_g`, `b x n`.
            own: Variance of each point a priori, `b`.
        """
        explained = (solve_triangular(self.root, cross.T, lower=True) ** 2).sum(0)
        return cross @ self.alpha, np.maximum(own - explained, 0.0)


def fit_variances(grams: Floats, z: Floats, extra: Floats, modes: Floats) -> Floats:
    """Variances of the greatest marginal likelihood times log-normal hyperpriors, `g + 1`, that of the noise last.

    The hyperpriors keep a few values from deciding the variances alone; of none the modes remain. The likelihood is
    that of Rasmussen and Williams, "Gaussian Processes for Machine Learning", equations 5.8 and 5.9.

    Args:
        grams: Kernels `K_g` between the values, `g x n x n`.
        z: Values, `n`, of mean zero a priori.
        extra: Known variance of the noise of each value beyond the common one, `n`.
        modes: Mode of each variance's hyperprior, `g + 1`.
    """
    if not len(z):
        return modes
    centre, kernels = np.log(modes), np.concatenate([grams, np.eye(len(z))[None]])
    fixed = np.diag(extra + _JITTER)

    def loss(log_variances: Floats) -> tuple[float, Floats]:
        variances = np.exp(log_variances)
        factor = cho_factor(np.tensordot(variances, kernels, 1) + fixed, lower=True)
        inverse = cho_solve(factor, np.eye(len(z)))
        alpha = inverse @ z
        off = (log_variances - centre) / _BROAD
        value = 0.5 * z @ alpha + np.log(np.diag(factor[0])).sum() + 0.5 * off @ off
        slope = 0.5 * np.tensordot(kernels, inverse - np.outer(alpha, alpha), 2) * variances + off / _BROAD
        return float(value), slope

    bounds = [(c - _REACH, c + _REACH) for c in centre]
    variances: Floats = np.exp(minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds).x)
    return variances


def condition(covariance: Floats, z: Floats, extra: Floats, variances: Floats) -> VarianceComponents:
    """The posterior given the variances.

    Args:
        covariance: Of the values without noise, the sum of `v_g K_g`, `n x n`.
        z: Values, `n`, of mean zero a priori.
        extra: Known variance of the noise of each value beyond the common one, `n`.
        variances: `v`, `g + 1`.
    """
    if not len(z):
        return VarianceComponents(variances, np.zeros((0, 0)), np.zeros(0))
    root: Floats = cholesky(covariance + np.diag(extra + variances[-1] + _JITTER), lower=True)
    alpha: Floats = cho_solve((root, True), z)
    return VarianceComponents(variances, root, alpha)
