"""How well a latency predictor does: predicted against measured latency, with the intervals of both."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from archgen.errors import ArchgenError
from archgen.plots.figure import BEHIND, BLUE, GREY, INK, SKY, legend, one_axes


def latency_fit_plot(
    measured: ArrayLike,
    predicted: ArrayLike,
    held_out_rho: float | None = None,
    *,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    factor: float | None = None,
) -> Figure:
    """Predicted against measured latency, with the diagonal.

    Args:
        measured: `n` measured latencies, ms.
        predicted: `n` predicted latencies, ms.
        held_out_rho: Spearman's ρ on held-out architectures, written into the plot.
        low, high: Ends of the intervals of the measurements, `n` each, ms: bars. None draws none.
        factor: By which predictions, times and divided, hold the measurements in 90 % of cases, at least 1: a band
            around the diagonal.

    Raises:
        ArchgenError: The lengths differ.
    """
    xs, ys = np.asarray(measured, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    ends = [xs if end is None else np.asarray(end, dtype=np.float64) for end in (low, high)]
    if xs.ndim != 1 or any(other.shape != xs.shape for other in (ys, *ends)):
        shapes = ", ".join(str(other.shape) for other in (ys, *ends))
        raise ArchgenError(f"expected as many predicted latencies, and ends, as measured {xs.shape}, got {shapes}")
    fig, ax = one_axes(4.4, 4.2, ("measured latency", "ms"), ("predicted latency", "ms"))
    finite = np.isfinite([xs, ys, *ends]).all(0)
    xs, ys, (lows, highs) = xs[finite], ys[finite], (end[finite] for end in ends)
    both = np.concatenate([xs, ys, lows, highs])
    least, most = (both.min(), both.max()) if both.size else (0.0, 1.0)
    pad = 0.06 * (most - least) or 0.1 * abs(most) or 1.0
    line = np.array([least - pad, most + pad])
    if factor is not None:
        ax.fill_between(
            line, line / factor, line * factor, color=SKY, alpha=0.25, lw=0, zorder=0.5, gid="band", label="90 % band"
        )
    ax.plot(line, line, color=GREY, lw=1.2, ls=(0, (5, 2)), zorder=1, gid="diagonal")
    if low is not None or high is not None:
        reach = np.maximum([xs - lows, highs - xs], 0.0)
        bars = ax.errorbar(xs, ys, xerr=reach, fmt="none", ecolor=INK, elinewidth=0.9, capsize=1.5, zorder=2)
        bars.lines[2][0].set_gid("intervals")
        bars.set_label("interval of the measurement")
    ax.scatter(xs, ys, s=16, color=BLUE, edgecolors="white", linewidths=0.6, zorder=3, gid="fit")
    ax.set(xlim=line, ylim=line, aspect="equal")
    if held_out_rho is not None:
        words = f"held-out ρ = {held_out_rho:.3f}"
        ax.text(0.04, 0.955, words, transform=ax.transAxes, va="top", fontsize=10.5, color=INK, bbox=BEHIND)
    if ax.get_legend_handles_labels()[0]:
        legend(fig, ax)
    return fig
