"""Lines hold their series, bands and marks, and nothing is hidden or drawn over."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from archgen import plots
from archgen.errors import ArchgenError
from archgen.plots import Panel

SIZES = np.array([8, 16, 32, 64, 128])
TIMES = {"flow": (SIZES, 0.01 * SIZES**2), "one step": (SIZES, 0.02 * SIZES)}


def artists(ax: Axes) -> dict[str, Any]:
    return {str(a.get_gid()): a for a in ax.get_children() if a.get_gid()}


def entries(fig: Figure) -> list[str]:
    return [text.get_text() for text in fig.legends[0].get_texts()]


def ticks(ax: Axes, axis: str) -> list[str]:
    low, high = ax.get_xlim() if axis == "x" else ax.get_ylim()
    drawn = (ax.xaxis if axis == "x" else ax.yaxis).get_major_ticks()
    return [tick.label1.get_text() for tick in drawn if low <= tick.get_loc() <= high]


def test_each_series_is_a_line_with_markers_and_an_entry_below_the_axes() -> None:
    fig = plots.line_plot(TIMES, x="nodes", y="seconds for 256 graphs", title="growth of $n$")
    (ax,) = fig.axes
    lines = artists(ax)
    for k, (x, y) in enumerate(TIMES.values()):
        assert lines[f"line-{k}"].get_xdata().tolist() == x.tolist()
        assert lines[f"line-{k}"].get_ydata().tolist() == y.tolist()
        assert lines[f"line-{k}"].get_marker() in "os"
    assert entries(fig) == list(TIMES)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("nodes", "seconds for 256 graphs")
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    fig.canvas.draw()
    assert fig.legends[0].get_window_extent().y1 <= ax.get_tightbbox().y0, "the legend hides something"
    assert "growth of $n$" in plots.to_svg(fig)


def test_many_series_differ_in_colour_or_marker_which_a_legend_shows() -> None:
    (ax,) = plots.line_plot({f"series {k}": ([1, 2], [k + 1, k + 2]) for k in range(18)}, x="n", y="s").axes
    assert len({(line.get_color(), line.get_marker()) for line in ax.lines}) == 18


@pytest.mark.parametrize("length", [4, 22, 60])
def test_a_legend_is_not_wider_than_the_figure(length: int) -> None:
    fig = plots.line_plot({f"{k:x}" * length: ([1, 2], [k + 1, k + 2]) for k in range(12)}, x="n", y="s")
    fig.canvas.draw()
    box = fig.legends[0].get_window_extent()
    assert len(fig.legends) == 1
    assert box.x0 >= 0
    assert box.x1 <= fig.bbox.width


def test_a_metric_is_named_in_words_with_its_unit() -> None:
    ax = plots.line_plot(TIMES, x="latency_ms@pixel3", y="val_acc", log=False).axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("latency on pixel3 (ms)", "validation accuracy (%)")
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "linear")


def test_a_band_is_shaded_between_its_ends_in_the_colour_of_its_series() -> None:
    low, high = 0.01 * SIZES, 0.03 * SIZES
    found = artists(plots.line_plot(TIMES, x="nodes", y="seconds", bands={"one step": (low, high)}).axes[0])
    assert "band-0" not in found
    corners = found["band-1"].get_paths()[0].vertices
    assert set(map(tuple, np.column_stack([SIZES, low]))) <= set(map(tuple, corners))
    assert set(map(tuple, np.column_stack([SIZES, high]))) <= set(map(tuple, corners))
    assert found["band-1"].get_facecolor()[0, :3].tolist() == pytest.approx(_rgb(found["line-1"].get_color()))


def _rgb(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def test_names_of_marks_stand_beside_their_lines_and_never_on_each_other_or_the_axes() -> None:
    marks = {"the best of the whole table": 94.37, "random search": 94.2, "a regularised evolution": 94.1, "0": 10.0}
    panel = Panel({"flow": ([1, 2, 3], [91, 93, 94.0])}, x="trial", y="val_acc", log=False, marks=marks)
    for fig in (plots.line_panels([panel]), plots.line_panels([panel] * 4)):
        fig.canvas.draw()
        for ax in fig.axes:
            drawn = [t.get_window_extent() for t in ax.texts]
            assert len(drawn) == 4
            assert not any(a.overlaps(b) for a, b in itertools.combinations(drawn, 2))
            assert all(box.x0 > ax.get_window_extent().x1 for box in drawn)
            found = artists(ax)
            assert {name: found[f"mark-{name}"].get_ydata()[0] for name in marks} == marks
            others = [other.get_window_extent() for other in fig.axes if other is not ax]
            assert not any(box.overlaps(other) for box in drawn for other in others)


def test_panels_share_a_legend_and_a_series_keeps_its_colour() -> None:
    first, second = Panel(TIMES, x="nodes", y="seconds"), Panel({"one step": TIMES["one step"]}, x="nodes", y="MB")
    fig = plots.line_panels([first, second, first], columns=2)
    assert len(fig.axes) == 3
    assert entries(fig) == ["flow", "one step"]
    assert len(fig.legends) == 1
    colours = [artists(ax)["line-1"].get_color() for ax in fig.axes]
    assert len(set(colours)) == 1
    assert artists(fig.axes[0])["line-0"].get_color() != colours[0]
    fig.canvas.draw()
    for a, b in itertools.combinations([ax.get_tightbbox() for ax in fig.axes], 2):
        assert not a.overlaps(b)
    assert fig.axes[0].get_window_extent().y0 == pytest.approx(fig.axes[1].get_window_extent().y0, abs=1)


def test_many_series_differ_in_colour_marker_or_dashes() -> None:
    series = {f"series {i}": (SIZES, SIZES * (i + 1.0)) for i in range(14)}
    lines = [a for gid, a in artists(plots.line_plot(series, x="nodes", y="s").axes[0]).items() if "line" in gid]
    assert len({(a.get_color(), a.get_marker(), str(a._dash_pattern)) for a in lines}) == 14


def test_points_that_an_axis_can_not_show_are_left_out() -> None:
    x, y = [1.0, 2.0, 3.0, 4.0, np.inf], [1.0, np.nan, 0.0, 8.0, 9.0]
    log = artists(plots.line_plot({"a": (x, y)}, x="n", y="s").axes[0])["line-0"]
    linear = artists(plots.line_plot({"a": (x, y)}, x="n", y="s", log=False).axes[0])["line-0"]
    assert log.get_xdata().tolist() == [1, 4]
    assert linear.get_xdata().tolist() == [1, 3, 4]
    plots.to_svg(plots.line_plot({"a": ([], [])}, x="n", y="s"))
    plots.to_svg(plots.line_plot({"a": ([1.0], [2.0])}, x="n", y="s"))
    plots.to_svg(plots.line_plot({"a": (SIZES, SIZES)}, x="n", y="s", bands={"a": (0 * SIZES, 2 * SIZES)}))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ([100, 1000, 10_000, 100_000, 1_000_000], ["100", "1,000", "10,000", "100,000", "10⁶"]),
        ([8, 16, 32, 64, 128], ["10", "20", "50", "100"]),
        ([1, 2, 3, 4], ["1", "2", "3", "4"]),
        ([1e-7, 1e-6, 1e-5], ["10⁻⁷", "10⁻⁶", "10⁻⁵"]),
    ],
)
def test_a_log_axis_has_ticks_that_can_be_read_however_few_decades_it_spans(x: list[float], words: list[str]) -> None:
    fig = plots.line_plot({"a": (x, x)}, x="n", y="s")
    fig.canvas.draw()
    assert ticks(fig.axes[0], "x") == words
    assert len(ticks(fig.axes[0], "y")) >= 3


def test_whole_numbers_have_whole_ticks() -> None:
    fig = plots.line_plot({"a": ([1, 2, 3, 4, 5], [0.1, 0.2, 0.25, 0.3, 0.31])}, x="trial", y="s", log=False)
    fig.canvas.draw()
    assert ticks(fig.axes[0], "x") == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"series": {}}, "expected at least one series"),
        ({"series": {"a": ([1, 2], [1])}}, r"series 'a': expected as many y values .* as x, got \(2,\), \(1,\)"),
        ({"series": {"a": ([[1]], [[1]])}}, "series 'a'"),
        ({"bands": {"one step": ([1], [2])}}, "series 'one step'"),
        ({"bands": {"two steps": ([1], [2])}}, "no series: 'two steps'; known are: flow, one step"),
        ({"marks": {"nothing": 0.0}}, "the mark 'nothing' lies at 0"),
        ({"marks": {"lost": float("nan")}, "log": False}, "the mark 'lost' lies at nan"),
    ],
)
def test_what_can_not_be_drawn_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArchgenError, match=message):
        plots.line_plot(**{"series": TIMES, "x": "nodes", "y": "seconds", **arguments})


def test_no_panel_is_refused() -> None:
    with pytest.raises(ArchgenError, match="at least one panel and one column, got 0 and 2"):
        plots.line_panels([])
