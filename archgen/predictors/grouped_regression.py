"""Bayesian linear regression whose groups of features each have a prior variance of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.stats import norm, t

Floats = NDArray[np.float64]

BROAD = 2.0
"""Standard deviation of the hyperpriors, in log variance: a factor of about 50 either way within two of them."""
_NOISE = -3.0
"""Mode of the noise's hyperprior: log variance of a value's noise over the variance of all values."""
_RANGE = (-16.0, 6.0)
_ROUNDS = 4
"""Of weighing the values; what they change after these is far below what a draw of a dozen values changes."""
_JITTER = 1e-8


@dataclass(frozen=True)
class GroupedFit:
    """A fitted regression.

    Args:
        intercept: In the unit of the values.
        coefficients: One a feature, `p`.
        left_out: What the regression predicts of each of the `n` values without having seen it.
        scales: Prior variance of each group over that of the values.
        noise: Squared scale of the noise of a value of relative noise 1, over the variance of the values.
        left_out_density: Log density of each value given the others, `n`; in the unit of the values.
    """

    intercept: float
    coefficients: Floats
    left_out: Floats
    scales: Floats
    noise: float
    left_out_density: Floats


def fit_groups(
    groups: Sequence[Floats],
    y: Floats,
    relative_noise: Floats | None = None,
    tails: float | None = None,
    expected: Sequence[tuple[float, float]] | None = None,
) -> GroupedFit:
    r"""Fit :math:`y = a + \sum_g X_g w_g + \epsilon` with :math:`w_g \sim N(0, s_g I / p_g)` and a broad prior on `a`.

    The variances :math:`s_g` and that of the noise maximise the marginal likelihood (Rasmussen and Williams, "Gaussian
    Processes for Machine Learning", equations 5.8 and 5.9) times log-normal hyperpriors, which keep a dozen values from
    deciding them alone. Left-out predictions are those of equation 5.12,
    :math:`y_i - [K^{-1} y]_i / [K^{-1}]_{ii}`. All of it is exact. With more values than features the covariance
    :math:`K = \sum_g s_g X_g X_g^T / p_g + \ldots` is only needed inside the span of the features, so the cost of a
    step is the cube of the smaller number.

    With `tails` the noise follows Student's t, so that a few values that went wrong do not rule the fit: a Gaussian
    whose variance is divided by a weight of each value, found by four rounds of expectation maximisation (Lange, Little
    and Taylor, JASA 1989, section 3), :math:`u_i = (\nu + 1) / (\nu + E[\epsilon_i^2] / \sigma_i^2)`, each followed
    by the fit above. Left-out predictions are given the weights of the others.

    Args:
        groups: Features of each group, `n x p_g`, of a scale such that all groups may matter alike: the mean squared
            norm of a row over the population is `p_g`.
        y: Values, `n`.
        relative_noise: Scale of the noise of each value up to a common factor; None: all alike.
        tails: Degrees of freedom of the noise; None: Gaussian.
        expected: Mode and width of the hyperprior of each group's log variance, over that of the values; None: all
            groups share alike, and `BROAD`.

    Returns:
        The fit; of equal values a constant.
    """
    n = len(y)
    middle, spread = float(y.mean()), float(y.std())
    width = sum(group.shape[1] for group in groups)
    if spread <= 1e-12 * abs(middle) or n < 2:
        return GroupedFit(middle, np.zeros(width), np.full(n, middle), np.zeros(len(groups)), 0.0, np.zeros(n))
    root = np.ones(n) if relative_noise is None else relative_noise / np.exp(np.log(relative_noise).mean())
    z = (y - middle) / spread
    columns = [group / np.sqrt(max(group.shape[1], 1)) for group in groups]
    if expected is None:
        expected = [(-np.log(max(len(groups), 1)), BROAD)] * len(groups)
    prior = np.array([*expected, (_NOISE, BROAD)]).T
    weights, log_scales = np.ones(n), prior[0]
    for _ in range(1 if tails is None else _ROUNDS):
        size = root / np.sqrt(weights)  # divided by it, noise is equal
        log_scales, alpha, diagonal = _solve(columns, z, size, prior, log_scales)
        noise = np.exp(log_scales[-1])
        left_out, variance = z - size * alpha / diagonal, size**2 / diagonal
        without = variance + noise * (root**2 - size**2)  # of noise of weight 1: its own weight has seen the value
        if tails is not None:
            error = noise * alpha**2 + np.maximum(1 - noise * diagonal, 0.0)  # expected square over its variance
            weights = (tails + 1) / (tails + error / weights)
    scale = np.sqrt(np.maximum(without, 1e-300))
    law = norm if tails is None else t(tails)
    density = law.logpdf((z - left_out) / scale) - np.log(spread * scale)
    scales = np.exp(log_scales)
    slopes = [
        s * (c.T @ (alpha / size)) / np.sqrt(max(c.shape[1], 1)) for s, c in zip(scales[:-1], columns, strict=True)
    ]
    intercept = middle + spread * float((alpha / size).sum())
    left_out = middle + spread * left_out
    return GroupedFit(intercept, spread * np.concatenate(slopes), left_out, scales[:-1], float(scales[-1]), density)


def _solve(
    columns: Sequence[Floats], z: Floats, size: Floats, prior: Floats, start: Floats
) -> tuple[Floats, Floats, Floats]:
    """Most probable log variances, `K^-1 z` and the diagonal of `K^-1`, of values and features divided by `size`.

    Args:
        columns: Features of each group over the root of their number, `n x p_g`.
        z: Values over their standard deviation, `n`.
        size: Standard deviation of the noise of each value up to a common factor, `n`.
        prior: Mode and width of the log variance of each group, and last of the noise, `2 x (g + 1)`.
        start: Log variances to start from.
    """
    # the intercept is the last group; its prior has the variance of the values
    likelihood = _MarginalLikelihood([*(c / size[:, None] for c in columns), 1 / size[:, None]], z / size)
    modes, widths = prior

    def loss(log_scales: Floats) -> tuple[float, Floats]:
        off = (log_scales - modes) / widths
        value, slope = likelihood.loss(np.exp(log_scales))
        return value + 0.5 * float(off @ off), slope * np.exp(log_scales) + off / widths

    log_scales = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[_RANGE] * len(modes)).x
    return log_scales, *likelihood.solve(np.exp(log_scales))


class _MarginalLikelihood:
    """Marginal likelihood of the variances, inside the span of the features where they are fewer than the values.

    Args:
        columns: Features of each group, the last being the intercept's, `n x p_g`.
        z: Values, `n`.
    """

    def __init__(self, columns: Sequence[Floats], z: Floats) -> None:
        n, width = len(z), sum(c.shape[1] for c in columns)
        self.z = z
        together = np.hstack(columns)
        self.basis: Floats = np.eye(n)
        if n > width:
            self.basis, together = np.linalg.qr(together)
        parts = np.split(together, np.cumsum([c.shape[1] for c in columns])[:-1], axis=1)
        self.target = self.basis.T @ z
        self.spare = n - len(self.target)
        self.spare_squares = max(float(z @ z - self.target @ self.target), 0.0)
        grams = [part @ part.T for part in parts]
        self.fixed = grams[-1] + _JITTER * np.eye(len(self.target))
        self.grams = np.stack([*grams[:-1], np.eye(len(self.target))])

    def loss(self, scales: Floats) -> tuple[float, Floats]:
        """Negative log marginal likelihood without its constant, and its slope by each variance."""
        factor = cho_factor(np.tensordot(scales, self.grams, 1) + self.fixed, lower=True)
        inverse = cho_solve(factor, np.eye(len(self.target)))
        alpha = inverse @ self.target
        noise = scales[-1] + _JITTER
        value = 0.5 * self.target @ alpha + np.log(np.diag(factor[0])).sum()
        value += 0.5 * (self.spare_squares / noise + self.spare * np.log(noise))
        slope = 0.5 * np.tensordot(self.grams, inverse - np.outer(alpha, alpha), ([1, 2], [0, 1]))
        slope[-1] += 0.5 * (self.spare / noise - self.spare_squares / noise**2)
        return float(value), slope

    def solve(self, scales: Floats) -> tuple[Floats, Floats]:
        """`K^-1 z` and the diagonal of `K^-1`, `n` each."""
        inverse = np.linalg.inv(np.tensordot(scales, self.grams, 1) + self.fixed)
        turned = self.basis @ inverse
        noise = scales[-1] + _JITTER
        alpha = turned @ self.target
        diagonal = (turned * self.basis).sum(1)
        if self.spare:
            alpha = alpha + (self.z - self.basis @ self.target) / noise
            diagonal = diagonal + (1 - (self.basis**2).sum(1)) / noise
        return alpha, diagonal
