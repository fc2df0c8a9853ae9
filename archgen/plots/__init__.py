"""Figures: trials, cells and lines; every function returns a `matplotlib.figure.Figure` of its own."""

from archgen.plots.cells import cell_plot
from archgen.plots.figure import metric_name, save_png, to_svg, with_unit
from archgen.plots.latency_fit import latency_fit_plot
from archgen.plots.lines import Panel, line_panels, line_plot
from archgen.plots.trials import cost_plot, pareto_groups, pareto_plot, progress_plot

__all__ = [
    "Panel",
    "cell_plot",
    "cost_plot",
    "latency_fit_plot",
    "line_panels",
    "line_plot",
    "metric_name",
    "pareto_groups",
    "pareto_plot",
    "progress_plot",
    "save_png",
    "to_svg",
    "with_unit",
]
