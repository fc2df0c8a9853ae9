"""What all figures share: colours, names of metrics, axes, legends, and how a figure becomes a file.

Figures are `matplotlib.figure.Figure` objects of their own on an Agg canvas; pyplot and its global state are never
touched, so they can be drawn in any thread and without a display. Colours are those of Okabe and Ito, which stay
apart for colour-blind readers.
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from archgen.artifacts import write_atomic

BLUE, SKY, GREEN, ORANGE, RED, PURPLE = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
INK, GREY, FAINT, PALE = "#1f2933", "#8a949e", "#b8c0c8", "#e4e7eb"
BEHIND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.2}
"""A box behind a text, which stays text in SVG."""

_NAMES = {
    "val_acc": ("validation accuracy", "%"),
    "test_acc": ("test accuracy", "%"),
    "inherited_val_acc": ("inherited accuracy", "%"),
    "val_loss": ("validation loss", ""),
    "memory_mb": ("memory", "MB"),
    "latency_ms": ("latency", "ms"),
    "energy_mj": ("energy", "mJ"),
    "params": ("parameters", ""),
    "flops": ("FLOPs", ""),
}


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


def new_figure(width: float, height: float) -> Figure:
    """An empty figure whose parts make room for each other; inches."""
    fig = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(fig)
    fig.get_layout_engine().set(w_pad=0.08, h_pad=0.06)  # type: ignore[union-attr,call-arg]
    return fig


def one_axes(
    width: float, height: float, x: tuple[str, str], y: tuple[str, str] | None, pad: float = 1.02
) -> tuple[Figure, Axes]:
    """A figure with one plain axes.

    Args:
        width, height: Of the figure, in inches.
        x, y: Name and unit of what the axes show; None for bars that have names instead.
        pad: Height of the y label, in axes.
    """
    fig = new_figure(width, height)
    room = 0.0 if y is None else 0.13  # inches; the engine does not see a label above the axis
    fig.get_layout_engine().set(rect=(0, 0, 1, 1 - room / height))  # type: ignore[union-attr,call-arg]
    ax = fig.add_subplot()
    plain_axes(ax, titled(x), None if y is None else titled(y), pad)
    return fig, ax


def plain_axes(ax: Axes, x: str, y: str | None, pad: float = 1.02) -> None:
    """Give an axes a light grid, no box, and the y label level above it, so that it reads easily."""
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(GREY)
    ax.grid(color=PALE, lw=0.8, zorder=0)
    ax.set_axisbelow(True)
    ax.tick_params(colors=INK, labelsize=10, length=3, color=GREY)
    ax.set_xlabel(x, fontsize=10.5, color=INK, parse_math=False)
    if y is not None:
        ax.set_ylabel(y, fontsize=10.5, color=INK, rotation=0, ha="left", va="bottom", parse_math=False)
        ax.yaxis.set_label_coords(0.0, pad)
        ax.tick_params(axis="y", length=0)


def titled(name: tuple[str, str]) -> str:
    """A name and its unit, as an axis is labelled: `latency (ms)`."""
    return f"{name[0]} ({name[1]})" if name[1] else name[0]


def plain(text: str) -> str:
    """Text for tick labels and legends, which would read `$` as the start of a formula."""
    return text.replace("$", r"\$")


def legend(fig: Figure, *axes: Axes) -> None:
    """One legend below the axes, where it hides nothing, no wider than the figure; an entry a distinct label."""
    entries: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(plain(label), handle)
    for columns in range(min(len(entries), 4), 0, -1):
        made = fig.legend(
            list(entries.values()),
            list(entries),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=9.5,
            handletextpad=0.3,
            columnspacing=1.1,
        )
        if columns == 1 or made.get_window_extent().width <= fig.bbox.width:
            return
        made.remove()
