"""Expected improvement of one value and of a hypervolume, in closed form, for whole lists of candidates.

BoTorch's acquisition functions are made for gradients and joint posteriors; a list of 15,625 candidates needs neither,
only their marginals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from botorch.utils.multi_objective.box_decompositions import FastNondominatedPartitioning
from scipy.special import erfcx, ndtr

from archgen.graph import Architecture
from archgen.pareto import Floats, corner_below, nondominated_fronts
from archgen.surrogates import Surrogate

TINY = 1e-300
NODES, SHARES = np.polynomial.hermite_e.hermegauss(32)
SHARES = SHARES / SHARES.sum()
"""Of a quadrature over a standard normal."""


def log_gain(
    surrogates: Sequence[Surrogate], archs: Sequence[Architecture], told: Floats, met: Sequence[bool]
) -> Floats:
    """Logarithm of the expected improvement of one value, or of the hypervolume of several, `b`.

    Of one value in the scale of the surrogate. A hypervolume is one in the metrics' units, so it is improved there; its
    reference point is below the worst that was told (`pareto.corner_below`).

    Args:
        surrogates: Of the `m` directions, fitted to values whose sign is such that more is better.
        archs: `b` candidates.
        told: Those values, `t x m`.
        met: Whether each of these meets every bound, `t`; where none does, anything improves.
    """
    beliefs = [surrogate.predict_normalised(archs) for surrogate in surrogates]
    mean, std = (np.stack(columns, 1) for columns in zip(*beliefs, strict=True))
    good = told[np.array(met, dtype=bool)]
    if len(surrogates) == 1:
        (best,) = surrogates[0].normalise([float(good.max() if len(good) else told.min())])
        return log_expected_improvement(mean[:, 0], std[:, 0], best)
    front = good[nondominated_fronts(good)[0]] if len(good) else good
    units = [surrogate.denormalise for surrogate in surrogates]
    gain: Floats = np.log(expected_hypervolume_improvement(mean, std, front, corner_below(told), units) + TINY)
    return gain


def log_expected_improvement(mean: Floats, std: Floats, best: float) -> Floats:
    r"""Logarithm of :math:`E[\max(y - y^*, 0)]`, which is there where the improvement itself underflows.

    Ament et al., "Unexpected Improvements to Expected Improvement for Bayesian Optimization" (arXiv 2310.20708),
    section 4.1.

    Args:
        mean: Of `b` Gaussian beliefs.
        std: Their standard deviations, `b`, positive.
        best: :math:`y^*`.
    """
    z = (mean - best) / std
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        near = np.log(_density(z) + z * ndtr(z))
        u = -z
        share = np.where(u < 1e5, np.log1p(-u * np.sqrt(np.pi / 2) * erfcx(u / np.sqrt(2))), -2 * np.log(u))
        far = -0.5 * z**2 - 0.5 * np.log(2 * np.pi) + share
    found: Floats = np.log(std) + np.where(z > -1, near, far)
    return found


def expected_hypervolume_improvement(
    mean: Floats,
    std: Floats,
    front: Floats,
    reference: Floats,
    units: Sequence[Callable[[Floats], Floats]] | None = None,
) -> Floats:
    r"""Expected volume that a candidate adds to what a front dominates, for independent Gaussian beliefs.

    The region above the reference point that the front does not dominate is cut into disjoint cells
    :math:`[l, u]`; a candidate adds :math:`\prod_j (\min(y_j, u_j) - l_j)_+` in each, of which the expectation is
    :math:`\prod_j (E (y_j - l_j)_+ - E (y_j - u_j)_+)` (Yang et al., "Efficient computation of expected hypervolume
    improvement using box decomposition algorithms", arXiv 1904.12672; cells by BoTorch). Where beliefs are in another
    scale than the volume, these expectations are Gauss-Hermite quadratures, else the closed form.

    Args:
        mean: `b x m`, larger is better, `m` at least 2.
        std: `b x m`, positive.
        front: Points that are known, `f x m`.
        reference: `m`.
        units: From the scale of the beliefs in each direction to that of front and reference, rising.
    """
    excess = [_Excess(mean[:, j], std[:, j], None if units is None else units[j]) for j in range(len(reference))]
    corner = torch.from_numpy(reference)
    above = front[(front > reference).all(1)]
    points = torch.from_numpy(above) if len(above) else corner[None]
    cells = FastNondominatedPartitioning(corner, points).get_hypercell_bounds()  # 2 x cells x m
    total = np.zeros(len(mean))
    for bottom, top in zip(*cells.tolist(), strict=True):
        part = np.ones(len(mean))
        for at_least, low, high in zip(excess, bottom, top, strict=True):
            part *= at_least(low) - at_least(high)
        total += part
    return np.maximum(total, 0.0)  # rounding


class _Excess:
    """`E (y - level)_+` of `b` Gaussian beliefs in one direction, each level computed once: cells share their sides."""

    def __init__(self, mean: Floats, std: Floats, unit: Callable[[Floats], Floats] | None) -> None:
        self._mean, self._std = mean, std
        self._values = None if unit is None else unit(mean[:, None] + std[:, None] * NODES)  # b x k
        self._known: dict[float, Floats] = {np.inf: np.zeros(len(mean))}

    def __call__(self, level: float) -> Floats:
        if level not in self._known:
            self._known[level] = self._of(level)
        return self._known[level]

    def _of(self, level: float) -> Floats:
        if self._values is not None:
            return np.asarray(np.maximum(self._values - level, 0.0) @ SHARES)
        z = (self._mean - level) / self._std
        return np.asarray(self._std * (_density(z) + z * ndtr(z)))


def _density(z: Floats) -> Floats:
    return np.asarray(np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))
