"""Lines: how something grows or falls with something else, one line a series, one or more axes side by side."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from archgen.errors import ArchgenError
from archgen.plots.figure import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    legend,
    metric_name,
    new_figure,
    plain,
    plain_axes,
    titled,
)

_COLOURS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)
_MARKERS = ("o", "s", "^", "D", "v", "p")
_LINES = ("-", (0, (5, 2)), (0, (1, 1.5)))
_LETTERS = 20  # of a line of a mark's name
_WIDTH, _HEIGHT = 5.4, 3.7  # inches

Series = Mapping[str, tuple[ArrayLike, ArrayLike]]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """One axes of `line_panels`; the arguments are those of `line_plot`."""

    series: Series
    _: KW_ONLY
    x: str
    y: str
    log: bool = True
    bands: Series | None = None
    title: str | None = None
    marks: Mapping[str, float] | None = None


def line_plot(
    series: Series,
    *,
    x: str,
    y: str,
    log: bool = True,
    bands: Series | None = None,
    title: str | None = None,
    marks: Mapping[str, float] | None = None,
) -> Figure:
    """A line with markers for each series.

    Args:
        series: For each name as many x as y values. Points that are not finite, or not positive on a log scale,
            are left out.
        x, y: What the axes show, with the unit: `seconds`, `memory (MB)`; or a metric, such as `latency_ms`.
        log: Whether both axes are logarithmic.
        bands: Lower and upper end of a shaded band around a series, as many as it has points.
        title: A line above.
        marks: Named heights, drawn as level lines that are named beside the axes.

    Raises:
        ArchgenError: No series, lengths that differ, a band of an unknown series, or a mark that the axis can not show.

    Example:
        >>> figure = line_plot({"flow": ([8, 16, 32], [0.1, 0.4, 1.7])}, x="nodes", y="seconds")
    """
    return line_panels([Panel(series, x=x, y=y, log=log, bands=bands, title=title, marks=marks)])


def line_panels(panels: Sequence[Panel], columns: int = 2) -> Figure:
    """Several axes of lines side by side, with one legend; a series keeps its colour from panel to panel.

    Args:
        panels: What each axes shows, row by row.
        columns: How many stand side by side.

    Raises:
        ArchgenError: As `line_plot`; or no panel, or no column.
    """
    if not panels or columns < 1:
        raise ArchgenError(f"expected at least one panel and one column, got {len(panels)} and {columns}")
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    fig = new_figure(columns * _WIDTH, rows * _HEIGHT)
    styles = {name: k for k, name in enumerate(dict.fromkeys(name for panel in panels for name in panel.series))}
    axes = [fig.add_subplot(rows, columns, k + 1) for k in range(len(panels))]
    for ax, panel in zip(axes, panels, strict=True):
        _draw(ax, panel, styles)
    legend(fig, *axes)
    return fig


def _draw(ax: Axes, panel: Panel, styles: Mapping[str, int]) -> None:
    plain_axes(ax, titled(metric_name(panel.x)), titled(metric_name(panel.y)))
    # the engine does not see the y label above the axis, but it sees a title, an empty one too
    ax.set_title(plain(panel.title or " "), loc="left", pad=22 if panel.title else 8, fontsize=11.5, color=INK)
    if not panel.series:
        raise ArchgenError("expected at least one series of x and y values, got none")
    unknown = [name for name in panel.bands or {} if name not in panel.series]
    if unknown:
        raise ArchgenError(f"a band belongs to no series: '{unknown[0]}'; known are: {', '.join(panel.series)}")
    if panel.log:
        ax.set(xscale="log", yscale="log")
    whole = True
    for name, (x, y) in panel.series.items():
        band = (panel.bands or {}).get(name, ())
        xs, ys, *ends = _columns(name, [x, y, *band], panel.log)
        whole &= bool((np.mod(xs, 1) == 0).all())
        k = styles[name]
        colour = _COLOURS[k % len(_COLOURS)]
        if ends:
            ax.fill_between(xs, ends[0], ends[1], color=colour, alpha=0.16, lw=0, zorder=1.5, gid=f"band-{k}")
        ax.plot(
            xs,
            ys,
            color=colour,
            marker=_MARKERS[(k + k // len(_COLOURS)) % len(_MARKERS)],  # a colour that comes again has another
            ls=_LINES[k // len(_COLOURS) % len(_LINES)],
            lw=1.7,
            ms=5.5,
            mec="white",
            mew=0.6,
            zorder=3,
            label=name,
            gid=f"line-{k}",
        )
    for name, height in (panel.marks or {}).items():
        if not math.isfinite(height) or (panel.log and height <= 0):
            raise ArchgenError(f"the mark '{name}' lies at {height:g}, which the axis can not show; choose another")
        ax.axhline(height, color=GREY, lw=1.2, ls=(0, (5, 2)), zorder=1, gid=f"mark-{name}")
    ax.autoscale_view()
    if panel.log:
        _log_ticks(ax.xaxis, *ax.get_xlim(), whole=whole)
        _log_ticks(ax.yaxis, *ax.get_ylim())
        ax.tick_params(axis="y", which="minor", length=0)
    elif whole:
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    _name_marks(ax, panel.marks or {})


def _columns(name: str, values: Sequence[ArrayLike], log: bool) -> list[Floats]:
    """Columns of the rows that can be drawn; raises `ArchgenError` when their lengths differ."""
    columns = [np.asarray(column, dtype=np.float64) for column in values]
    if any(column.ndim != 1 or column.shape != columns[0].shape for column in columns):
        shapes = ", ".join(str(column.shape) for column in columns)
        raise ArchgenError(f"series '{name}': expected as many y values (and ends of the band) as x, got {shapes}")
    drawn = np.isfinite(columns).all(0)
    if log:
        drawn &= (np.array(columns[:2]) > 0).all(0)
    xs, ys, *ends = (column[drawn] for column in columns)
    if log and ys.size:  # a band down to zero has no lower end there: it is cut a decade below its series
        ends = [np.where(end > 0, end, ys.min() / 10) for end in ends]
    return [xs, ys, *ends]


def _log_ticks(axis: Axis, low: float, high: float, whole: bool = False) -> None:
    """Plain numbers where a log axis spans few decades, as many as are needed to read it; powers of ten beyond."""
    decades = math.log10(high / low)
    if decades < 0.8:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=whole))
    else:
        axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if decades < 1.8 else (1.0,), numticks=9))
    axis.set_minor_locator(NullLocator() if decades < 0.8 else LogLocator(10, subs=range(2, 10), numticks=99))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))


def _number(value: float) -> str:
    if value <= 0:  # the locator looks a step beyond the axis
        return ""
    power = math.floor(math.log10(value) + 1e-9)
    if -4 < power < 6:
        return f"{value:,.6g}"
    digits = f"{value / 10.0**power:.3g}"
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if digits == "1" else f"{digits}·10{raised}"


def _name_marks(ax: Axes, marks: Mapping[str, float]) -> None:
    """Names to the right of the axes, beside their lines but never on each other."""
    if not marks:
        return
    ax.set_ylim(ax.get_ylim())
    figure = ax.get_figure(root=True)
    height = ax.get_position().height * (figure.get_figheight() if figure else _HEIGHT)
    names = sorted(marks, key=lambda name: marks[name])
    texts = [textwrap.fill(name, _LETTERS) for name in names]
    room = [(0.17 * (text.count("\n") + 1) + 0.02) / height for text in texts]  # of a line of text, in axes
    offset = np.concatenate([[0.0], np.cumsum([(a + b) / 2 for a, b in pairwise(room)])])
    ends = ax.transAxes.inverted().transform(ax.transData.transform([(ax.get_xlim()[0], marks[n]) for n in names]))
    places = isotonic_regression(ends[:, 1] - offset).x + offset
    for text, place in zip(texts, places, strict=True):
        style: dict[str, Any] = {"va": "center", "fontsize": 9.5, "color": INK, "linespacing": 1.1, "parse_math": False}
        ax.text(1.015, float(place), text, transform=ax.transAxes, **style)
