"""Figures: accuracy against latency, cells, progress, cost, the latency predictor's fit.

Every function returns a `matplotlib.figure.Figure` of its own on an Agg canvas; pyplot and its global state are
never touched, so figures can be drawn in any thread and without a display. Colours are those of Okabe and Ito,
which stay apart for colour-blind readers.
"""

from __future__ import annotations

import io
import zlib
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve
from numpy.typing import ArrayLike, NDArray

from archgen.artifacts import write_atomic
from archgen.errors import ArchgenError, UnknownMetric
from archgen.graph import Architecture
from archgen.layout import layered
from archgen.metrics import pareto_front

BLUE, SKY, GREEN, ORANGE, RED, PURPLE = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
INK, GREY, FAINT, PALE = "#1f2933", "#8a949e", "#b8c0c8", "#e4e7eb"

_NAMES = {
    "val_acc": ("validation accuracy", "%"),
    "test_acc": ("test accuracy", "%"),
    "latency_ms": ("latency", "ms"),
    "energy_mj": ("energy", "mJ"),
    "params": ("parameters", ""),
    "flops": ("FLOPs", ""),
}
_BEHIND = {
    "facecolor": "white",
    "edgecolor": "none",
    "alpha": 0.75,
    "pad": 1.2,
}  # a box, so that text stays text in SVG
# The first word that an operation's name contains decides its colour, so that a colour means the same in every plot.
_OPERATION_COLOURS = (
    ("none", GREY),
    ("zero", GREY),
    ("skip", GREY),
    ("identity", GREY),
    ("pool", ORANGE),
    ("1x1", SKY),
    ("3x3", BLUE),
    ("5x5", GREEN),
    ("7x7", PURPLE),
)


def metric_name(metric: str) -> tuple[str, str]:
    """A metric's name in words and its unit (possibly empty): `latency_ms@pixel3` is (`latency on pixel3`, `ms`)."""
    base, _, device = metric.partition("@")
    words, unit = _NAMES.get(base, (base, ""))
    return (f"{words} on {device}" if device else words), unit


def with_unit(value: float, metric: str) -> str:
    """A value in words: `97.8 %`, `0.131 ms`, `73,306`."""
    unit = metric_name(metric)[1]
    digits = f"{value:.1f}" if unit == "%" else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{digits} {unit}".rstrip()


def to_svg(fig: Figure) -> str:
    """The figure as an SVG document; the same figure gives the same text, without date or version."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "archgen", "svg.fonttype": "none"}):
        fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    return buffer.getvalue()


def save_png(fig: Figure, path: Path, dpi: int = 160) -> None:
    """Write the figure as a PNG, atomically.

    Raises:
        OSError: The folder can not be written or the disk is full; `path` is as it was before.
    """
    write_atomic(path, lambda beside: fig.savefig(beside, format="png", dpi=dpi, metadata={"Software": None}))


def pareto_plot(
    trials: pd.DataFrame,
    x: str = "latency_ms",
    y: str = "val_acc",
    bound: float | None = None,
    winner: object | None = None,
    front: bool = True,
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

    Raises:
        UnknownMetric: `trials` has no such column.
        ArchgenError: `winner` is not in `trials.index`.
    """
    xs, ys = _column(trials, x), _column(trials, y)
    if winner is not None and winner not in trials.index:
        raise ArchgenError(f"the winner must be a label of the table's index, got {winner!r}")
    finite = np.isfinite(xs) & np.isfinite(ys)
    fig, ax = _figure(5.7, 4.1, metric_name(x), metric_name(y), pad=1.075)
    floor = _floor(ys[finite])
    shown, drawn = np.maximum(ys, floor), finite & (ys >= floor)
    if {"latency_low", "latency_high"} <= set(trials.columns) and x.startswith("latency_ms"):
        low, high = _column(trials, "latency_low"), _column(trials, "latency_high")
        bars = finite & np.isfinite(low) & np.isfinite(high)
        reach = np.maximum([xs - low, high - xs], 0.0)[:, bars]
        ax.errorbar(xs[bars], shown[bars], xerr=reach, fmt="none", ecolor=GREY, elinewidth=0.9, capsize=1.5, zorder=2)
    beyond = np.zeros(len(xs), dtype=bool) if bound is None else xs > bound
    for mask, colour, label, gid in (
        (drawn & ~beyond, BLUE, "evaluated" if bound is None else "within the bound", "points-within"),
        (drawn & beyond, FAINT, "breaks the bound", "points-beyond"),
    ):
        if mask.any():
            style: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.6, "zorder": 3, "label": label, "gid": gid}
            ax.scatter(xs[mask], ys[mask], 26, colour, **style)
    _mark_floor(ax, xs[finite & (ys < floor)], floor, metric_name(y)[1])
    _limits(ax, xs[finite], shown[finite], bound)
    if front and finite.any():
        rows = np.flatnonzero(finite)
        rows = rows[pareto_front(np.column_stack([xs[rows], ys[rows]]), (-1, 1))]
        rows = rows[np.argsort(xs[rows])]
        steps = np.append(xs[rows], ax.get_xlim()[1]), np.append(shown[rows], shown[rows[-1]])
        ax.step(*steps, where="post", color=INK, lw=1.3, zorder=2.5, label="Pareto front", gid="front")
    if bound is not None:
        _mark_bound(ax, bound, f"at most {with_unit(bound, x)}")
    if winner is not None:
        k = int(np.flatnonzero(trials.index == winner)[0])
        if finite[k]:
            _mark_winner(ax, xs[k], shown[k], f"winner: {with_unit(ys[k], y)}, {with_unit(xs[k], x)}")
    _legend(fig, ax)
    return fig


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
    fig, ax = _figure(5.7, 3.2, ("trial", ""), metric_name(metric))
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
    _legend(fig, ax)
    return fig


def cost_plot(seconds: Mapping[str, float]) -> Figure:
    """Seconds of each stage as horizontal bars, in the order given; `total` is not a stage and is left out."""
    stages = {name: float(value) for name, value in seconds.items() if name != "total"}
    fig, ax = _figure(5.7, 0.75 + 0.34 * max(len(stages), 1), ("seconds", ""), None)
    values, whole = list(stages.values()), sum(stages.values()) or 1.0
    ax.barh(range(len(stages)), values, color=BLUE, height=0.62, zorder=2)
    for k, value in enumerate(values):
        words = f"{value:.1f} s · {100 * value / whole:.0f} %"
        place: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
        ax.annotate(words, (value, k), color=INK, fontsize=10, **place)
    ax.set_yticks(range(len(stages)), [_plain(name) for name in stages], fontsize=10.5)
    ax.set_ylim(len(stages) - 0.4, -0.6)
    ax.set_xlim(0, 1.32 * max(values, default=1.0) or 1.0)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    return fig


def latency_fit_plot(measured: ArrayLike, predicted: ArrayLike, held_out_rho: float | None = None) -> Figure:
    """Predicted against measured latency, with the diagonal.

    Args:
        measured: `n` measured latencies, ms.
        predicted: `n` predicted latencies, ms.
        held_out_rho: Spearman's ρ on held-out architectures, written into the plot.

    Raises:
        ArchgenError: The lengths differ.
    """
    xs, ys = np.asarray(measured, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if xs.shape != ys.shape or xs.ndim != 1:
        raise ArchgenError(f"expected as many predicted as measured latencies, got {ys.shape} and {xs.shape}")
    fig, ax = _figure(4.4, 4.2, ("measured latency", "ms"), ("predicted latency", "ms"))
    finite = np.isfinite(xs) & np.isfinite(ys)
    both = np.concatenate([xs[finite], ys[finite]])
    low, high = (both.min(), both.max()) if both.size else (0.0, 1.0)
    pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    ends = (low - pad, high + pad)
    ax.plot(ends, ends, color=GREY, lw=1.2, ls=(0, (5, 2)), zorder=1, gid="diagonal")
    ax.scatter(xs[finite], ys[finite], s=28, color=BLUE, edgecolors="white", linewidths=0.6, zorder=3, gid="fit")
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    if held_out_rho is not None:
        words = f"held-out ρ = {held_out_rho:.3f}"
        ax.text(0.04, 0.955, words, transform=ax.transAxes, va="top", fontsize=10.5, color=INK, bbox=_BEHIND)
    return fig


# -- cells ------------------------------------------------------------------------------------------------------

_BOX, _HEIGHT, _GAP = 0.94, 0.5, 0.58  # inches
_END = 0.68  # width of the input and output boxes


def cell_plot(arch: Architecture, title: str | None = None) -> Figure:
    """Draw a labelled DAG from left to right, each node in the layer of its longest path from the input.

    Edges that skip layers get lanes of their own there, so no arrow runs through a box. An edge that the graph
    lists `m` times is drawn once, labelled `×m`.

    Args:
        arch: Any labelled DAG: a point of a space, or what `space.computation(arch)` leaves of it.
        title: A line above the drawing.
    """
    layout = layered(arch, node_height=_HEIGHT)
    layer, heights = layout.layer, layout.height
    centres = [k * (_BOX + _GAP) for k in range(max(layer.values(), default=0) + 1)]
    widths = {i: _END if op in ("input", "output") else _BOX for i, op in enumerate(arch.ops)}
    low, high = min(heights.values()) - _HEIGHT / 2 - 0.12, max(heights.values()) + _HEIGHT / 2 + 0.12
    left, right = -_BOX / 2 - 0.02, centres[-1] + _BOX / 2 + 0.02
    fig = Figure(figsize=(right - left, high - low + (0.35 if title else 0.0)), facecolor="white")
    FigureCanvasAgg(fig)
    ax = fig.add_axes((0, 0, 1, (high - low) / float(fig.get_figheight())))
    ax.set(xlim=(left, right), ylim=(low, high))
    ax.axis("off")
    if title:
        fig.text(0.5, 1 - 0.12 / fig.get_figheight(), title, ha="center", va="top", fontsize=11.5, parse_math=False)
    for (i, j), times in sorted(Counter(arch.edges).items()):
        points = [(centres[layer[(i,)]] + widths[i] / 2, layout.leaves[(i, j)])]
        for v in layout.routes[(i, j)][1:-1]:
            points += [(centres[layer[v]] - _BOX / 2, heights[v]), (centres[layer[v]] + _BOX / 2, heights[v])]
        points.append((centres[layer[(j,)]] - widths[j] / 2, layout.enters[(i, j)]))
        _arrow(ax, points, times, f"edge-{i}-{j}")
    for i, op in enumerate(arch.ops):
        _box(ax, centres[layer[(i,)]], heights[(i,)], widths[i], op, f"node-{i}")
    if not arch.edges:
        ax.text((left + right) / 2, 0, "no path", ha="center", va="center", fontsize=9.5, color=GREY, style="italic")
    return fig


def _arrow(ax: Axes, points: list[tuple[float, float]], times: int, gid: str) -> None:
    """A curve that is level at every point: across gaps (even segments) an S, along lanes (odd ones) a line."""
    vertices, codes = [points[0]], [Curve.MOVETO]
    for k, ((x0, y0), (x1, y1)) in enumerate(pairwise(points)):
        if k % 2:
            vertices.append((x1, y1))
            codes.append(Curve.LINETO)
        else:
            middle = (x0 + x1) / 2
            vertices += [(middle, y0), (middle, y1), (x1, y1)]
            codes += [Curve.CURVE4] * 3
    style: dict[str, Any] = {"arrowstyle": "-|>,head_length=0.45,head_width=0.2", "mutation_scale": 12, "gid": gid}
    patch = FancyArrowPatch(path=Curve(vertices, codes), color="#52606d", lw=1.25, fill=True, zorder=1, **style)
    ax.add_patch(patch)
    if times > 1:
        (x0, y0), (x1, y1) = points[-2:]
        box = {"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none"}
        where = ((x0 + x1) / 2, (y0 + y1) / 2)
        ax.text(*where, f"×{times}", ha="center", va="center", fontsize=9, color=INK, bbox=box, zorder=2)


def _box(ax: Axes, x: float, y: float, width: float, op: str, gid: str) -> None:
    end = op in ("input", "output")
    named = [colour for word, colour in _OPERATION_COLOURS if word in op]
    colour = INK if end else (named or [(RED, PURPLE, GREEN)[zlib.crc32(op.encode()) % 3]])[0]
    fill = colour if end else tuple(0.82 + 0.18 * channel for channel in to_rgb(colour))
    shape = f"round,pad=0,rounding_size={_HEIGHT / 2 - 0.05 if end else 0.1}"
    height = _HEIGHT - 0.1 if end else _HEIGHT
    corner = (x - width / 2, y - height / 2)
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=shape, fc=fill, ec=colour, lw=1.4, zorder=3, gid=gid))
    head, _, tail = op.rpartition("_")
    words = f"{head}\n{tail}" if head and len(op) > 9 else op
    size = min(9.5, 9.5 * 11 / max(len(line) for line in words.split("\n")))
    style: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 4, "linespacing": 1.1, "parse_math": False}
    ax.text(x, y, words, fontsize=size, color="white" if end else INK, **style)


# -- axes -------------------------------------------------------------------------------------------------------


def _figure(
    width: float, height: float, x: tuple[str, str], y: tuple[str, str] | None, pad: float = 1.02
) -> tuple[Figure, Axes]:
    """A figure with one plain axes: light grid, no box, the y label level above the axis so that it reads easily."""
    fig = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(fig)
    room = 0.0 if y is None else 0.13  # inches; the engine does not see a label above the axis
    fig.get_layout_engine().set(rect=(0, 0, 1, 1 - room / height), w_pad=0.08, h_pad=0.06)  # type: ignore[union-attr,call-arg]
    ax = fig.add_subplot()
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(GREY)
    ax.grid(color=PALE, lw=0.8, zorder=0)
    ax.set_axisbelow(True)
    ax.tick_params(colors=INK, labelsize=10, length=3, color=GREY)
    ax.set_xlabel(_titled(x), fontsize=10.5, color=INK, parse_math=False)
    if y is not None:
        ax.set_ylabel(_titled(y), fontsize=10.5, color=INK, rotation=0, ha="left", va="bottom", parse_math=False)
        ax.yaxis.set_label_coords(0.0, pad)
        ax.tick_params(axis="y", length=0)
    return fig, ax


def _titled(name: tuple[str, str]) -> str:
    return f"{name[0]} ({name[1]})" if name[1] else name[0]


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # tick labels would be read as formulas


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
        ax.scatter(xs, np.full(xs.size, floor), s=34, marker="v", color=GREY, zorder=4, gid="points-below")
        words = f"▾ {xs.size} below {floor:.1f} {unit}".rstrip()
        ax.text(0.99, 0.035, words, transform=ax.transAxes, ha="right", fontsize=9.5, color=INK, bbox=_BEHIND)


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
    ax.annotate(words, (x if fits else low, y), bbox=_BEHIND, parse_math=False, **place, **text)


def _legend(fig: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        fig.legend(
            handles,
            [_plain(label) for label in labels],
            loc="outside lower center",
            ncols=min(len(handles), 4),
            frameon=False,
            fontsize=9.5,
            handletextpad=0.3,
            columnspacing=1.1,
        )
