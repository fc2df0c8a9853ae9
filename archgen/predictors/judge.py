"""How good a fitted predictor is on architectures that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import kendalltau, spearmanr

from archgen.graph import Architecture
from archgen.objectives import at_least, at_most
from archgen.predictors.base import Floats, Predictor


def judge(predictor: Predictor, archs: Sequence[Architecture], y: Floats) -> dict[str, float]:
    """Compare predictions with the truth.

    Args:
        predictor: Fitted on others.
        archs: `b` architectures.
        y: Their values, `b`, not all equal.

    Returns:
        `kendall_tau` and `spearman_rho`, in [-1, 1], 0 where all predictions are equal; `mae`, in the metric's unit;
        `median_relative_error`, percent; `coverage_90`, percent of the values between the predictor's two one-sided
        95 % limits.
    """
    mean = predictor.predict(archs).mean
    low = predictor.limit(archs, at_least(predictor.metric, 0.0), 0.95)
    high = predictor.limit(archs, at_most(predictor.metric, 0.0), 0.95)
    ranked = np.ptp(mean) > 0
    return {
        "kendall_tau": float(kendalltau(mean, y).statistic) if ranked else 0.0,
        "spearman_rho": float(spearmanr(mean, y).statistic) if ranked else 0.0,
        "mae": float(np.abs(mean - y).mean()),
        "median_relative_error": 100 * float(np.median(np.abs(mean - y) / np.maximum(np.abs(y), 1e-12))),
        "coverage_90": 100 * float(np.mean((low <= y) & (y <= high))),
    }
