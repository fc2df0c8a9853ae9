"""Predicted against measured latency, with what is not known of both."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from archgen import plots
from archgen.errors import ArchgenError


def artists(fig: Figure) -> dict[str, object]:
    return {a.get_gid(): a for a in fig.axes[0].get_children() if a.get_gid()}


def test_every_pair_the_diagonal_and_rho_are_drawn() -> None:
    fig = plots.latency_fit_plot([1.0, 2.0, 3.0], [1.1, 1.9, 3.2], 0.974)
    assert artists(fig).keys() == {"fit", "diagonal"}
    assert len(artists(fig)["fit"].get_offsets()) == 3  # type: ignore[attr-defined]
    assert [t.get_text() for t in fig.axes[0].texts] == ["held-out ρ = 0.974"]
    plots.to_svg(plots.latency_fit_plot([], [], low=[], high=[], factor=1.1))
    with pytest.raises(ArchgenError, match="as many"):
        plots.latency_fit_plot([1.0], [1.0, 2.0])
    with pytest.raises(ArchgenError, match="as many"):
        plots.latency_fit_plot([1.0], [1.0], low=[0.9, 1.0], high=[1.0])


def test_measured_intervals_are_bars_and_the_predictors_a_band() -> None:
    low, high = [0.9, 1.7, np.nan], [1.2, 2.1, 3.1]
    fig = plots.latency_fit_plot([1.0, 2.0, 3.0], [1.1, 1.9, 3.2], low=low, high=high, factor=1.25)
    found = artists(fig)
    segments = found["intervals"].get_segments()  # type: ignore[attr-defined]
    assert [np.round(s[:, 0], 9).tolist() for s in segments] == [[0.9, 1.2], [1.7, 2.1]]
    (path,) = found["band"].get_paths()  # type: ignore[attr-defined]
    ratios = {round(y / x, 9) for x, y in path.vertices if x > 0}
    assert ratios <= {0.8, 1.25}
    assert len(ratios) == 2
    assert len(fig.legends[0].get_texts()) == 2
