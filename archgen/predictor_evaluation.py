"""How good a predictor is from few labels: fit on some rows of a table, judge on all others."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.predictors import LatencyPredictor, Predictor, judge
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
        n: Rows to fit on, 2 to `b - 2`; 0 or 1 too where the predictor needs no labels (`needs_labels`).
        seed: Draws the rows.

    Returns:
        The figures of `judge`; `n`, `unseen`, and `seconds` of fit and judgement.

    Raises:
        ArchgenError: Too few rows, or all values are equal, so that nothing can be ranked.
    """
    fewest = 2 if predictor.needs_labels else 0  # of a single one nothing says how sure a predictor may be
    if not fewest <= n <= len(y) - 2:
        raise ArchgenError(
            f"{predictor.metric}: {n} rows to fit on and at least 2 to judge on were asked for, the table has {len(y)} "
            f"architectures; " + (f"give n from {fewest} to {len(y) - 2}" if len(y) >= fewest + 2 else "add some")
        )
    order = np.random.default_rng(seed).permutation(len(y))
    used, rest = order[:n], order[n:]
    if np.ptp(y[rest]) == 0 or (n > 1 and np.ptp(y[used]) == 0):
        raise ArchgenError(f"{predictor.metric} has the same value, {y[order[0]]:g}, everywhere; nothing can be ranked")
    others = [archs[i] for i in rest]
    start = time.perf_counter()
    figures = judge(predictor.fit([archs[i] for i in used], y[used]), others, y[rest])
    seconds = time.perf_counter() - start
    return {**figures, "n": float(n), "unseen": float(len(rest)), "seconds": seconds}


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
    rows = np.random.default_rng(seed).choice(len(archs), min(KNOWN, len(archs)), replace=False)
    known = [archs[i] for i in rows]
    return [LatencyPredictor(space, f"latency_ms@{d}", simplify).fit(known, y[rows]) for d, y in latencies.items()]
