"""How well inherited accuracies rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from archgen.graph import Architecture
from archgen.inheritance.request import TrainedSupernet
from archgen.progress import Progress
from archgen.proxies import Proxy, az_nas

TOP = 0.1
"""Share of the best architectures that are judged apart."""


def rank(
    trained: TrainedSupernet,
    archs: Sequence[Architecture],
    y: NDArray[np.float64],
    progress: Progress,
    proxies: Sequence[Proxy] = (),
) -> dict[str, Any]:
    """How well inherited accuracies order architectures whose true values are known.

    Args:
        trained: The supernet.
        archs: `b` architectures, at least 3.
        y: Their values, larger is better, not all equal.
        progress: Shows how far it is.
        proxies: Measured on the inherited weights, to join with the inherited loss.

    Returns:
        `kendall_tau`, `spearman_rho`, `kendall_tau_top`, that within the best tenth by `y`, `n`, `seconds` an
        architecture, and the inherited accuracies in percent, `val_acc`. None where fewer than 3, or equal values, have
        no order. With proxies also `kendall_tau_joined` and `kendall_tau_joined_top` of the score `joined`, the sum of
        the logarithms of the ranks by minus the inherited loss and by each proxy (`archgen.proxies.az_nas`).
    """
    evaluator, rows, seconds = trained.evaluator_with(proxies), [], 0.0
    with progress.bar("scoring by inherited weights", len(archs)) as bar:
        for arch in archs:
            (measured,) = evaluator.evaluate([arch], seed=0)
            rows.append(measured.values)
            seconds += measured.cost_seconds
            bar.update(1)
    measures = pd.DataFrame(rows, columns=evaluator.metrics, dtype=float)
    x = measures["val_acc"].to_numpy()
    top = np.argsort(-y, kind="stable")[: max(int(TOP * len(y)), 1)]
    found = {
        "kendall_tau": _correlation(kendalltau, x, y),
        "spearman_rho": _correlation(spearmanr, x, y),
        "kendall_tau_top": _correlation(kendalltau, x[top], y[top]),
        "n": len(archs),
        "seconds": seconds / len(archs),
        "val_acc": x.tolist(),
    }
    if proxies:
        names = [name for name in evaluator.metrics if name != "val_acc"]
        joined = az_nas(measures.assign(val_loss=-measures["val_loss"]), names).to_numpy()
        found["kendall_tau_joined"] = _correlation(kendalltau, joined, y)
        found["kendall_tau_joined_top"] = _correlation(kendalltau, joined[top], y[top])
        found["joined"] = joined.tolist()
    return found


def _correlation(of: Callable[..., Any], x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    value = of(x, y).statistic if len(y) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0 else np.nan
    return float(value) if np.isfinite(value) else None
