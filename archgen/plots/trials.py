"""Figures of trials: accuracy against cost, progress, what a run cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from archgen.errors import ArchgenError, UnknownMetric
from archgen.metrics import pareto_front
from archgen.plots.figure import (
    BEHIND,
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    RED,
    legend,
    metric_name,
    one_axes,
    plain,
    with_unit,
)

WITHIN, BEYOND, BELOW = "points-within", "points-beyond", "points-below"
"""Identifiers of the groups of marks of `pareto_plot`."""


def pareto_plot(
    trials: pd.DataFrame,
    x: str = "latency_ms",
    y: str = "val_acc",
    bound: float | None = None,
    winner: object | None = None,
    front: bool = True,
    others: Sequence[object] = (),
) -> Figure:
    """Every evaluated architecture, cost `x` (less is better) against `y` (more is better).

    Args:
        trials: One row an architecture with columns `x` and `y`; rows without finite values are left out. Where
            `latency_low` and `latency_high` exist and `x` is a latency, they are drawn as error bars.
        x: Column of the cost.
        y: Column of the value.
        bound: Largest `x` that is allowed, in its unit.
        winner: Label (in `trials.index`) of the row to mark with a star.
        front: Whether to draw the Pareto front of all rows.
        others: Labels of rows that are handed over beside the winner, to mark with smaller stars.

    Raises:
        UnknownMetric: `trials` has no such column.
        ArchgenError: `winner`, or one of `others`, is not in `trials.index`.
    """
    xs, ys = _column(trials, x), _column(trials, y)
    for label in [*([] if winner is None else [winner]), *others]:
        if label not in trials.index:
            raise ArchgenError(f"the winner must be a label of the table's index, got {label!r}")
    finite = np.isfinite(xs) & np.isfinite(ys)
    fig, ax = one_axes(5.7, 4.1, metric_name(x), metric_name(y), pad=1.075)
    floor = _floor(ys[finite])
    shown, groups = np.maximum(ys, floor), pareto_groups(trials, x, y, bound)
    if {"latency_low", "latency_high"} <= set(trials.columns) and x.startswith("latency_ms"):
        low, high = _column(trials, "latency_low"), _column(trials, "latency_high")
        bars = finite & np.isfinite(low) & np.isfinite(high)
        reach = np.maximum([xs - low, high - xs], 0.0)[:, bars]
        ax.errorbar(xs[bars], shown[bars], xerr=reach, fmt="none", ecolor=GREY, elinewidth=0.9, capsize=1.5, zorder=2)
    for gid, colour, label in (
        (WITHIN, BLUE, "evaluated" if bound is None else "within the bound"),
        (BEYOND, FAINT, "breaks the bound"),
    ):
        if (rows := groups[gid]).size:
            style: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.6, "zorder": 3, "label": label, "gid": gid}
            ax.scatter(xs[rows], ys[rows], 26, colour, **style)
    _mark_floor(ax, xs[groups[BELOW]], floor, metric_name(y)[1])
    _limits(ax, xs[finite], shown[finite], bound)
    if front and finite.any():
        rows = np.flatnonzero(finite)
        rows = rows[pareto_front(np.column_stack([xs[rows], ys[rows]]), (-1, 1))]
        rows = rows[np.argsort(xs[rows])]
        steps = np.append(xs[rows], ax.get_xlim()[1]), np.append(shown[rows], shown[rows[-1]])
        ax.step(*steps, where="post", color=INK, lw=1.3, zorder=2.5, label="Pareto front", gid="front")
    if bound is not None:
        _mark_bound(ax, bound, f"at most {with_unit(bound, x)}")
    handed = np.flatnonzero(trials.index.isin(list(others)) & finite)
    if handed.size:
        place: dict[str, Any] = {"s": 90, "marker": "*", "edgecolors": INK, "linewidths": 0.7, "zorder": 5}
        ax.scatter(xs[handed], shown[handed], color=ORANGE, label="also handed over", gid="others", **place)
    if winner is not None:
        k = int(np.flatnonzero(trials.index == winner)[0])
        if finite[k]:
            _mark_winner(ax, xs[k], shown[k], f"winner: {with_unit(ys[k], y)}, {with_unit(xs[k], x)}")
    legend(fig, ax)
    return fig


def pareto_groups(
    trials: pd.DataFrame, x: str = "latency_ms", y: str = "val_acc", bound: float | None = None
) -> dict[str, NDArray[np.intp]]:
    """Rows of the marks of `pareto_plot`, in the order drawn, by the identifier of their group; arguments as there."""
    xs, ys = _column(trials, x), _column(trials, y)
    finite = np.isfinite(xs) & np.isfinite(ys)
    floor = _floor(ys[finite])
    beyond = np.zeros(len(xs), dtype=bool) if bound is None else xs > bound
    drawn = finite & (ys >= floor)
    masks = {WITHIN: drawn & ~beyond, BEYOND: drawn & beyond, BELOW: finite & (ys < floor)}
    return {gid: np.flatnonzero(mask) for gid, mask in masks.items()}


def progress_plot(trials: pd.DataFrame, metric: str = "val_acc", feasible: ArrayLike | None = None) -> Figure:
    """Value of each trial and the best so far.

    Args:
        trials: One row a trial in the order evaluated. Column `trial` (else the row number) is the x axis; column
            `origin` (`random`, `generated`, ...) decides the marker where it exists.
        metric: Column to draw; more is better.
        feasible: Whether each row meets the bounds; only those count for the best so far. None: all do.

    Raises:
        UnknownMetric: `trials` has no such column.
        ArchgenError: `feasible` has another length.
    """
    ys = _column(trials, metric)
    within = np.ones(len(ys), dtype=bool) if feasible is None else np.asarray(feasible, dtype=bool)
    if within.shape != ys.shape:
        raise ArchgenError(f"expected one feasible flag for each of {len(ys)} trials, got shape {within.shape}")
    number = _column(trials, "trial") if "trial" in trials.columns else np.arange(len(ys), dtype=np.float64)
    origins = trials["origin"].fillna("unknown").astype(str).to_numpy() if "origin" in trials.columns else None
    fig, ax = one_axes(5.7, 3.2, ("trial", ""), metric_name(metric))
    finite = np.isfinite(ys) & np.isfinite(number)
    floor = _floor(ys[finite])
    shown = np.maximum(ys, floor)
    kinds = ["evaluated"] if origins is None else sorted(set(origins), key=lambda o: (o != "random", o))
    styles = [("o", BLUE), ("D", GREEN), ("s", PURPLE), ("^", ORANGE)]
    if origins is not None and "random" in kinds:
        styles.insert(0, ("o", "white"))
    for k, kind in enumerate(kinds):
        marker, fill = styles[k % len(styles)]
        mask = finite & within & (ys >= floor) & (True if origins is None else origins == kind)
        if mask.any():
            edge = BLUE if fill == "white" else "white"
            kw: dict[str, Any] = {
                "s": 26,
                "marker": marker,
                "edgecolors": edge,
                "linewidths": 1.1 if fill == "white" else 0.6,
            }
            ax.scatter(number[mask], shown[mask], color=fill, label=kind, gid=f"trials-{k}", zorder=3, **kw)
    beyond = finite & ~within & (ys >= floor)
    if beyond.any():
        kw = {"s": 20, "marker": "x", "linewidths": 1.0, "zorder": 2, "gid": "trials-beyond"}
        ax.scatter(number[beyond], shown[beyond], color=FAINT, label="breaks a bound", **kw)
    _mark_floor(ax, number[finite & (ys < floor)], floor, metric_name(metric)[1])
    _limits(ax, number[finite], shown[finite], None)
    rows = np.flatnonzero(finite & within)
    if rows.size:
        best = np.maximum.accumulate(ys[rows])
        steps = np.append(number[rows], number[finite].max()), np.append(best, best[-1])
        ax.step(*steps, where="post", color=RED, lw=1.6, zorder=2.5, label="best so far", gid="best")
    legend(fig, ax)
    return fig


def cost_plot(seconds: Mapping[str, float]) -> Figure:
    """Seconds of each stage as horizontal bars, in the order given; `total` is not a stage and is left out."""
    stages = {name: float(value) for name, value in seconds.items() if name != "total"}
    fig, ax = one_axes(5.7, 0.75 + 0.34 * max(len(stages), 1), ("seconds", ""), None)
    values, whole = list(stages.values()), sum(stages.values()) or 1.0
    ax.barh(range(len(stages)), values, color=BLUE, height=0.62, zorder=2)
    for k, value in enumerate(values):
        words = f"{value:.1f} s · {100 * value / whole:.0f} %"
        place: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
        ax.annotate(words, (value, k), color=INK, fontsize=10, **place)
    ax.set_yticks(range(len(stages)), [plain(name) for name in stages], fontsize=10.5)
    ax.set_ylim(len(stages) - 0.4, -0.6)
    ax.set_xlim(0, 1.32 * max(values, default=1.0) or 1.0)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    return fig


def _column(trials: pd.DataFrame, name: str) -> NDArray[np.float64]:
    if name not in trials.columns:
        raise UnknownMetric(name, [str(column) for column in trials.columns])
    return np.asarray(pd.to_numeric(trials[name], errors="coerce"), dtype=np.float64)


def _floor(values: NDArray[np.float64]) -> float:
    """Lower end of the y axis: far outliers (a cell cut off from its input) would squeeze all the rest."""
    if values.size == 0:
        return -np.inf
    low, high = np.quantile(values, [0.25, 0.75])
    fence = low - 3.0 * (high - low)
    return float(values[values >= fence].min()) if high > low else float(values.min())


def _mark_floor(ax: Axes, xs: NDArray[np.float64], floor: float, unit: str) -> None:
    """Say how many points lie below the axis, and at which x."""
    if xs.size:
        ax.scatter(xs, np.full(xs.size, floor), s=34, marker="v", color=GREY, zorder=4, gid=BELOW)
        words = f"▾ {xs.size} below {floor:.1f} {unit}".rstrip()
        ax.text(0.99, 0.035, words, transform=ax.transAxes, ha="right", fontsize=9.5, color=INK, bbox=BEHIND)


def _limits(ax: Axes, xs: NDArray[np.float64], ys: NDArray[np.float64], bound: float | None) -> None:
    """Limits with room for the winner's label above; a bound far from every point does not squeeze them."""
    ends = np.append(xs, [] if bound is None else [bound])
    if xs.size and bound is not None and not xs.min() - np.ptp(xs) <= bound <= xs.max() + np.ptp(xs) + 0.1 * xs.max():
        ends = xs
    if ends.size:
        pad = 0.05 * np.ptp(ends) or 0.1 * abs(ends.max()) or 1.0
        ax.set_xlim(ends.min() - pad, ends.max() + pad)
    if ys.size:
        tall = np.ptp(ys) or 1.0
        ax.set_ylim(ys.min() - 0.06 * tall, ys.max() + 0.15 * tall)


def _mark_bound(ax: Axes, bound: float, words: str) -> None:
    """A labelled line and the shaded side that is forbidden; an arrow where the bound lies off the axis."""
    left, right = ax.get_xlim()
    if bound < right:
        ax.axvspan(max(bound, left), right, color=RED, alpha=0.07, lw=0, zorder=0, gid="forbidden")
    ax.axvline(bound, color=RED, lw=1.4, ls=(0, (5, 2)), zorder=2, gid="bound")
    place = min(max((bound - left) / (right - left), 0.0), 1.0)
    side = "left" if place < 0.12 else "right" if place > 0.88 else "center"
    words = f"{words} →" if bound > right else f"← {words}" if bound < left else words
    ax.text(place, 1.015, words, color=RED, ha=side, va="bottom", transform=ax.transAxes, fontsize=10)
    ax.set_xlim(left, right)


def _mark_winner(ax: Axes, x: float, y: float, words: str) -> None:
    """A star and its label up and to the left, where nothing can lie that is better and cheaper."""
    star: dict[str, Any] = {"s": 210, "marker": "*", "color": ORANGE, "edgecolors": INK, "linewidths": 0.9, "zorder": 6}
    ax.scatter([x], [y], label="winner", gid="winner", **star)
    low, high = ax.get_xlim()
    fits = (x - low) / (high - low) > 0.017 * len(words)  # the width of a bold letter, in axes
    place: dict[str, Any] = {"xytext": (4, 10), "textcoords": "offset points", "ha": "right" if fits else "left"}
    text: dict[str, Any] = {"va": "bottom", "fontsize": 10.5, "weight": "bold", "color": INK, "zorder": 7}
    ax.annotate(words, (x if fits else low, y), bbox=BEHIND, parse_math=False, **place, **text)
