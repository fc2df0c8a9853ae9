"""How good a predictor is from few labels: fit on some rows of a table, judge on all others."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.objectives import at_least, at_most
from archgen.predictors import LatencyPredictor, Predictor
from archgen.spaces import SearchSpace

KNOWN = 800
"""Most rows that a source device's predictor is fitted to, as in the published few-shot tasks."""


def evaluate_predictor(
    predictor: Predictor, archs: Sequence[Architecture], y: NDArray[np.float64], *, n: int, seed: int
) -> dict[str, float]:
    """Fit on `n` random architectures and judge on those that were not used.

    Args:
        predictor: Not fitted yet.
        archs: `b` distinct architectures.
        y: Their values, `b`.
        n: Rows to fit on, 1 to `b - 2`.
        seed: Draws the rows.

    Returns:
        `kendall_tau`, `spearman_rho`, `mae` (in the metric's unit), `median_relative_error` (percent), `coverage_90`
        (percent of the values inside the two-sided 90 % interval), `n`, `unseen`, and `seconds` of fit and prediction.

    Raises:
        ArchgenError: Too few rows, or all values are equal, so that nothing can be ranked.
    """
    if not 1 <= n <= len(y) - 2:
        raise ArchgenError(
            f"{predictor.metric}: {n} rows to fit on and at least 2 to judge on were asked for, the table has {len(y)} "
            f"architectures; give n from 1 to {max(len(y) - 2, 1)}"
        )
    order = np.random.default_rng(seed).permutation(len(y))
    used, rest = order[:n], order[n:]
    if np.ptp(y[rest]) == 0 or (n > 1 and np.ptp(y[used]) == 0):
        raise ArchgenError(f"{predictor.metric} has the same value, {y[used][0]:g}, everywhere; nothing can be ranked")
    others, truth = [archs[i] for i in rest], y[rest]
    start = time.perf_counter()
    mean = predictor.fit([archs[i] for i in used], y[used]).predict(others).mean
    seconds = time.perf_counter() - start
    low = predictor.limit(others, at_least(predictor.metric, 0.0), 0.95)
    high = predictor.limit(others, at_most(predictor.metric, 0.0), 0.95)
    ranked = np.ptp(mean) > 0
    return {
        "kendall_tau": float(kendalltau(mean, truth).statistic) if ranked else 0.0,
        "spearman_rho": float(spearmanr(mean, truth).statistic) if ranked else 0.0,
        "mae": float(np.abs(mean - truth).mean()),
        "median_relative_error": 100 * float(np.median(np.abs(mean - truth) / np.maximum(np.abs(truth), 1e-12))),
        "coverage_90": 100 * float(np.mean((low <= truth) & (truth <= high))),
        "n": float(n),
        "unseen": float(len(rest)),
        "seconds": seconds,
    }


def fit_sources(
    space: SearchSpace,
    archs: Sequence[Architecture],
    latencies: dict[str, NDArray[np.float64]],
    *,
    simplify: bool,
    seed: int,
) -> list[LatencyPredictor]:
    """A latency predictor of each source device, from at most `KNOWN` random rows.

    Args:
        space: The space.
        archs: `b` architectures.
        latencies: By device, ms, `b`.
        simplify: As in `LatencyPredictor`.
        seed: Draws the rows.
    """
    rows = np.random.default_rng(seed).permutation(len(archs))[:KNOWN]
    known = [archs[i] for i in rows]
    return [LatencyPredictor(space, f"latency_ms@{d}", simplify).fit(known, y[rows]) for d, y in latencies.items()]
