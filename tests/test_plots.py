"""Figures hold what they are said to hold, and no arrow runs through a box."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from archgen import plots
from archgen.errors import ArchgenError, UnknownMetric
from archgen.graph import Architecture
from archgen.layout import layered
from archgen.spaces.base import load


@pytest.fixture
def trials() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    latency = rng.uniform(0.08, 0.3, 40)
    return pd.DataFrame(
        {
            "trial": np.arange(40),
            "val_acc": 90 + 25 * latency + rng.normal(0, 0.5, 40),
            "latency_ms": latency,
            "origin": ["random"] * 15 + ["generated"] * 25,
        }
    )


def artists(fig: Figure) -> dict[str, object]:
    return {a.get_gid(): a for a in fig.axes[0].get_children() if a.get_gid()}


def count(fig: Figure, gid: str) -> int:
    found = artists(fig).get(gid)
    return 0 if found is None else len(found.get_offsets())  # type: ignore[attr-defined]


def texts(fig: Figure) -> list[str]:
    return [t.get_text() for t in fig.axes[0].texts]


def test_pareto_plot_greys_what_breaks_the_bound_and_marks_bound_and_winner(trials: pd.DataFrame) -> None:
    winner = trials[trials.latency_ms <= 0.16].val_acc.idxmax()
    fig = plots.pareto_plot(trials, bound=0.16, winner=winner)
    found = artists(fig)
    assert count(fig, "points-within") == (trials.latency_ms <= 0.16).sum()
    assert count(fig, "points-beyond") == (trials.latency_ms > 0.16).sum()
    assert found["bound"].get_xdata() == [0.16, 0.16]  # type: ignore[attr-defined]
    assert found["forbidden"].get_x() == 0.16  # type: ignore[attr-defined]
    assert found["winner"].get_offsets().tolist() == [list(trials.loc[winner, ["latency_ms", "val_acc"]])]  # type: ignore[attr-defined]
    assert "at most 0.16 ms" in texts(fig)
    assert any(t.startswith("winner: ") for t in texts(fig))
    assert fig.axes[0].get_xlabel() == "latency (ms)"
    assert fig.axes[0].get_ylabel() == "validation accuracy (%)"


def test_pareto_plot_without_bound_or_front_has_neither(trials: pd.DataFrame) -> None:
    fig = plots.pareto_plot(trials, front=False)
    assert not {"bound", "forbidden", "front", "winner", "points-beyond"} & artists(fig).keys()
    assert count(fig, "points-within") == len(trials)


def test_pareto_front_line_passes_through_the_points_that_none_beats() -> None:
    table = pd.DataFrame({"latency_ms": [3.0, 1.0, 2.0, 2.5], "val_acc": [95.0, 90.0, 94.0, 93.0]})
    line = artists(plots.pareto_plot(table))["front"]
    assert line.get_xdata()[:-1].tolist() == [1.0, 2.0, 3.0]  # type: ignore[attr-defined]
    assert line.get_ydata()[:-1].tolist() == [90.0, 94.0, 95.0]  # type: ignore[attr-defined]


def test_failed_trials_are_left_out_and_far_outliers_counted_at_the_edge(trials: pd.DataFrame) -> None:
    trials.loc[0, "val_acc"] = np.nan
    trials.loc[1, "val_acc"] = 10.0
    fig = plots.pareto_plot(trials)
    assert count(fig, "points-within") == 38
    assert count(fig, "points-below") == 1
    assert fig.axes[0].get_ylim()[0] > 80
    assert any("1 below" in t for t in texts(fig))


def test_measured_intervals_are_error_bars_and_may_leave_the_value_out(trials: pd.DataFrame) -> None:
    plain = len(plots.pareto_plot(trials).axes[0].containers)
    trials["latency_low"] = np.where(trials.index < 3, trials.latency_ms + 0.001, np.nan)
    trials["latency_high"] = trials.latency_ms + 0.01
    containers = plots.pareto_plot(trials).axes[0].containers
    assert plain == 0
    assert len(containers[0].lines[2][0].get_segments()) == 3  # type: ignore[attr-defined]


def test_a_bound_far_away_does_not_squeeze_the_points_but_is_named(trials: pd.DataFrame) -> None:
    fig = plots.pareto_plot(trials, bound=40.0)
    assert fig.axes[0].get_xlim()[1] < 1
    assert "at most 40 ms →" in texts(fig)


def test_a_bound_below_everything_still_gives_a_figure(trials: pd.DataFrame) -> None:
    fig = plots.pareto_plot(trials, bound=0.0001)
    assert count(fig, "points-beyond") == len(trials)
    plots.to_svg(fig)


def test_tables_without_rows_or_without_the_column_are_handled(trials: pd.DataFrame) -> None:
    plots.to_svg(plots.pareto_plot(trials.iloc[:0], bound=0.1))
    plots.to_svg(plots.progress_plot(trials.iloc[:0]))
    with pytest.raises(UnknownMetric, match="latency_ms"):
        plots.pareto_plot(trials, x="latency_mss")
    with pytest.raises(ArchgenError, match="winner"):
        plots.pareto_plot(trials, winner=999)


def test_progress_follows_the_best_within_the_bounds_only() -> None:
    table = pd.DataFrame({"val_acc": [91.0, 99.0, 92.0, 91.5], "origin": ["random", "random", "generated", None]})
    fig = plots.progress_plot(table, "val_acc", feasible=[True, False, True, True])
    assert artists(fig)["best"].get_ydata().tolist() == [91.0, 92.0, 92.0, 92.0]  # type: ignore[attr-defined]
    assert count(fig, "trials-beyond") == 1
    names = [t.get_text() for t in fig.legends[0].get_texts()]
    assert names == ["random", "generated", "unknown", "breaks a bound", "best so far"]
    with pytest.raises(ArchgenError, match="4 trials"):
        plots.progress_plot(table, "val_acc", feasible=[True])


def test_cost_plot_has_a_bar_for_each_stage_but_the_total() -> None:
    fig = plots.cost_plot({"data": 1.0, "search $x$": 3.0, "total": 4.0})
    assert [bar.get_width() for bar in fig.axes[0].patches] == [1.0, 3.0]
    assert "3.0 s · 75 %" in texts(fig)
    plots.to_svg(plots.cost_plot({}))
    plots.to_svg(plots.cost_plot({"data": 0.0}))


def test_latency_fit_shows_every_pair_the_diagonal_and_rho() -> None:
    fig = plots.latency_fit_plot([1.0, 2.0, 3.0], [1.1, 1.9, 3.2], 0.974)
    assert count(fig, "fit") == 3
    assert "diagonal" in artists(fig)
    assert texts(fig) == ["held-out ρ = 0.974"]
    plots.to_svg(plots.latency_fit_plot([], []))
    with pytest.raises(ArchgenError, match="as many"):
        plots.latency_fit_plot([1.0], [1.0, 2.0])


def test_svg_is_the_same_each_time_and_carries_no_date_or_version(trials: pd.DataFrame) -> None:
    first, second = (plots.to_svg(plots.pareto_plot(trials, bound=0.16, winner=0)) for _ in range(2))
    assert first == second
    assert "<dc:" not in first
    assert "Matplotlib" not in first


def test_png_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fig = plots.cost_plot({"data": 1.0})
    target = tmp_path / "cost.png"
    plots.save_png(fig, target)
    whole = target.read_bytes()
    assert whole.startswith(b"\x89PNG")

    def full(path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fig, "savefig", full)
    with pytest.raises(OSError, match="No space"):
        plots.save_png(fig, target)
    assert target.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [target]


def test_figures_do_not_load_pyplot(trials: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def guarded(name: str, *args: object, **kwargs: object) -> object:
        assert name != "matplotlib.pyplot", "pyplot holds global state"
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", guarded)
    plots.to_svg(plots.pareto_plot(trials, bound=0.16))


def test_metric_names_have_words_units_and_the_device() -> None:
    assert plots.metric_name("latency_ms@pixel3") == ("latency on pixel3", "ms")
    assert plots.metric_name("cifar10") == ("cifar10", "")
    assert plots.with_unit(97.777, "val_acc") == "97.8 %"
    assert plots.with_unit(0.13149, "latency_ms") == "0.131 ms"
    assert plots.with_unit(73306, "params") == "73,306"


# -- cells --------------------------------------------------------------------------------------------------------


def cells() -> list[Architecture]:
    space = load("nasbench201")
    drawn = [space.computation(arch) for arch in space.sample(12, np.random.default_rng(5))]
    whole = space.parse(
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|nor_conv_1x1~2|"
    )
    return [*drawn, space.computation(whole), whole]


@pytest.mark.parametrize("arch", cells(), ids=lambda arch: "-".join(arch.ops))
def test_every_node_is_a_box_every_edge_an_arrow_and_none_runs_through_a_box(arch: Architecture) -> None:
    fig = plots.cell_plot(arch)
    patches = fig.axes[0].patches
    boxes = {p.get_gid(): p for p in patches if isinstance(p, FancyBboxPatch)}
    arrows = {p.get_gid(): p for p in patches if isinstance(p, FancyArrowPatch)}
    assert boxes.keys() == {f"node-{i}" for i in range(len(arch.ops))}
    assert arrows.keys() == {f"edge-{i}-{j}" for i, j in arch.edges}
    fig.canvas.draw()
    for name, box in boxes.items():
        shape = box.get_path().transformed(box.get_transform())
        inner = shape.get_extents().padded(-1.0)
        for edge, arrow in arrows.items():
            if name.split("-")[1] not in edge.split("-")[1:]:
                curve = arrow.get_path().interpolated(1).transformed(arrow.get_transform())
                points = np.concatenate(curve.to_polygons(closed_only=False))
                dense = np.concatenate([np.linspace(a, b, 20) for a, b in itertools.pairwise(points)])
                assert not inner.count_contains(dense), f"{edge} runs through {name}"
    for a, b in itertools.combinations(boxes.values(), 2):
        assert not a.get_window_extent().overlaps(b.get_window_extent())


def test_the_six_operation_cell_is_drawn_without_crossings() -> None:
    space = load("nasbench201")
    layout = layered(space.computation(space.enumerate()[3 * 5**5 + 3 * 5**4 + 3 * 5**3 + 3 * 5**2 + 3 * 5 + 3]))
    links = [link for route in layout.routes.values() for link in itertools.pairwise(route)]
    for (a, b), (c, d) in itertools.combinations(links, 2):
        if layout.layer[a] == layout.layer[c]:
            assert (layout.height[a] - layout.height[c]) * (layout.height[b] - layout.height[d]) >= 0


def test_an_edge_listed_twice_is_drawn_once_with_its_count() -> None:
    fig = plots.cell_plot(Architecture("s", ("input", "conv", "output"), ((0, 1), (0, 1), (1, 2))), title="a $b$")
    arrows = [p for p in fig.axes[0].patches if isinstance(p, FancyArrowPatch)]
    assert len(arrows) == 2
    assert "×2" in texts(fig)
    assert fig.texts[0].get_text() == "a $b$"


def test_a_cell_cut_off_from_its_input_says_so() -> None:
    fig = plots.cell_plot(Architecture("s", ("input", "output"), ()))
    assert "no path" in texts(fig)


def test_large_graphs_and_odd_names_are_laid_out() -> None:
    ops = ("input", *(f"op_{i} $<{i}>$" for i in range(14)), "output")
    edges = tuple((i, j) for i in range(15) for j in (i + 1, i + 3) if j < 16)
    svg = plots.to_svg(plots.cell_plot(Architecture("s", ops, edges)))
    assert "&lt;3&gt;" in svg
