"""How well inherited accuracies rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from archgen.graph import Architecture
from archgen.inheritance.request import TrainedSupernet
from archgen.progress import Progress

TOP = 0.1
"""Share of the best architectures that are judged apart."""


def rank(
    trained: TrainedSupernet, archs: Sequence[Architecture], y: NDArray[np.float64], progress: Progress
) -> dict[str, Any]:
    """How well inherited accuracies order architectures whose true values are known.

    Args:
        trained: The supernet.
        archs: `b` architectures, at least 3.
        y: Their values, larger is better, not all equal.
        progress: Shows how far it is.

    Returns:
        `kendall_tau`, `spearman_rho`, `kendall_tau_top`, that within the best tenth by `y`, `n`, `seconds` an
        architecture, and the inherited accuracies in percent, `val_acc`. None where fewer than 3, or equal values, have
        no order.
    """
    evaluator, inherited, seconds = trained.evaluator, [], 0.0
    with progress.bar("scoring by inherited weights", len(archs)) as bar:
        for arch in archs:
            (measured,) = evaluator.evaluate([arch], seed=0)
            inherited.append(measured.values.get("val_acc", float("nan")))
            seconds += measured.cost_seconds
            bar.update(1)
    x = np.array(inherited)
    top = np.argsort(-y, kind="stable")[: max(int(TOP * len(y)), 1)]
    return {
        "kendall_tau": _correlation(kendalltau, x, y),
        "spearman_rho": _correlation(spearmanr, x, y),
        "kendall_tau_top": _correlation(kendalltau, x[top], y[top]),
        "n": len(archs),
        "seconds": seconds / len(archs),
        "val_acc": inherited,
    }


def _correlation(of: Callable[..., Any], x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    value = of(x, y).statistic if len(y) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0 else np.nan
    return float(value) if np.isfinite(value) else None
