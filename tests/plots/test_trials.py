"""Figures of trials hold what they are said to hold."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from archgen import plots
from archgen.errors import ArchgenError, UnknownMetric


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


def test_others_that_are_handed_over_have_stars_of_their_own(trials: pd.DataFrame) -> None:
    fig = plots.pareto_plot(trials, winner=1, others=[4, 7])
    assert count(fig, "others") == 2
    assert count(fig, "winner") == 1
    with pytest.raises(ArchgenError, match="winner"):
        plots.pareto_plot(trials, others=[999])
