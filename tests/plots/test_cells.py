"""Drawings of architectures: every node a box, every edge an arrow, and no arrow runs through a box."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from archgen import plots
from archgen.graph import Architecture
from archgen.layout import layered
from archgen.spaces import available, load


def texts(fig: Figure) -> list[str]:
    return [t.get_text() for t in fig.axes[0].texts]


def boxes(fig: Figure) -> dict[str, FancyBboxPatch]:
    return {str(p.get_gid()): p for p in fig.axes[0].patches if isinstance(p, FancyBboxPatch)}


def arrows(fig: Figure) -> dict[str, FancyArrowPatch]:
    return {str(p.get_gid()): p for p in fig.axes[0].patches if isinstance(p, FancyArrowPatch)}


def check_drawing(fig: Figure) -> None:
    """No arrow runs through a box that it does not join, no two boxes overlap, and every name fits into its box."""
    fig.canvas.draw()
    whole = fig.bbox
    for name, box in boxes(fig).items():
        shape = box.get_path().transformed(box.get_transform())
        inner = shape.get_extents().padded(-1.0)
        assert whole.contains(*inner.min), f"{name} leaves the figure"
        assert whole.contains(*inner.max), f"{name} leaves the figure"
        inside = [t for t in fig.axes[0].texts if inner.contains(*t.get_transform().transform(t.get_position()))]
        (text,) = inside
        extent = text.get_window_extent()
        assert inner.x0 < extent.x0 < extent.x1 < inner.x1, f"'{text.get_text()}' is wider than its box"
        assert inner.y0 < extent.y0 < extent.y1 < inner.y1, f"'{text.get_text()}' is higher than its box"
        for edge, arrow in arrows(fig).items():
            curve = arrow.get_path().interpolated(1).transformed(arrow.get_transform())
            points = np.concatenate(curve.to_polygons(closed_only=False))
            dense = np.concatenate([np.linspace(a, b, 20) for a, b in itertools.pairwise(points)])
            assert all(whole.contains(*point) for point in dense[::10]), f"{edge} leaves the figure"
            if name.split("-")[1] not in edge.split("-")[1:]:
                assert not inner.count_contains(dense), f"{edge} runs through {name}"
    for a, b in itertools.combinations(boxes(fig).values(), 2):
        assert not a.get_window_extent().overlaps(b.get_window_extent())


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
    assert boxes(fig).keys() == {f"node-{i}" for i in range(len(arch.ops))}
    assert arrows(fig).keys() == {f"edge-{i}-{j}" for i, j in arch.edges}
    check_drawing(fig)


@pytest.mark.parametrize("name", available())
def test_every_space_is_drawn_so_that_it_can_be_read(name: str) -> None:
    """11.7 inches, the width of a sheet of A4 turned, keep the letters above 9 pixels on a page of 1,000."""
    space = load(name)
    arch = space.computation(space.sample(2, np.random.default_rng(2))[1])
    fig = plots.cell_plot(arch)
    check_drawing(fig)
    assert fig.get_figwidth() <= 11.7
    assert len(boxes(fig)) >= sum(op not in ("input", "output") for op in arch.ops)


def chain(n: int) -> Architecture:
    ops = ("input", *(f"k{3 + 2 * (i % 3)}_e{i}" for i in range(n - 2)), "output")
    return Architecture("s", ops, tuple(itertools.pairwise(range(n))))


@pytest.mark.parametrize(("n", "rows"), [(7, 1), (8, 1), (9, 2), (23, 3), (48, 6)])
def test_a_long_chain_is_folded_into_rows_that_are_read_from_left_to_right(n: int, rows: int) -> None:
    fig = plots.cell_plot(chain(n), title="a chain")
    check_drawing(fig)
    places = [boxes(fig)[f"node-{i}"].get_window_extent() for i in range(n)]
    heights = [round(box.y0 + box.y1) for box in places]
    assert len(set(heights)) == rows
    assert heights == sorted(heights, reverse=True)
    for a, b in itertools.pairwise(range(n)):
        assert (places[a].x0 < places[b].x0) == (heights[a] == heights[b])
    assert arrows(fig).keys() == {f"edge-{i}-{i + 1}" for i in range(n - 1)}
    lengths = [heights.count(height) for height in dict.fromkeys(heights)]
    assert max(lengths) <= 8
    assert len(set(lengths[:-1])) <= 1


def test_two_cells_in_one_graph_are_drawn_one_below_the_other_with_their_inputs() -> None:
    ops = ("input", "c_{k-2}", "c_{k-1}", "normal:sep_conv_3x3", "reduce:max_pool_3x3", "reduce:skip_connect", "output")
    edges = ((0, 1), (0, 2), (1, 3), (2, 4), (2, 5), (3, 6), (4, 6), (5, 6), (1, 6))
    fig = plots.cell_plot(Architecture("s", ops, edges), title="two")
    check_drawing(fig)
    normal, reduce = {"node-normal.1", "node-normal.3", "node-normal.6"}, {f"node-reduce.{i}" for i in (2, 4, 5, 6)}
    assert boxes(fig).keys() == normal | reduce
    assert (
        arrows(fig).keys()
        == {
            "edge-normal.1-normal.3",
            "edge-normal.3-normal.6",
            "edge-normal.1-normal.6",  # what runs past every operation is in the first cell, once
            *(f"edge-reduce.{i}-reduce.{j}" for i, j in edges[3:5]),
            *(f"edge-reduce.{i}-reduce.{j}" for i, j in edges[6:8]),
        }
    )
    assert {"normal cell", "reduce cell", "sep_conv\n3x3", "max_pool\n3x3"} <= set(texts(fig))
    low = min(boxes(fig)[name].get_window_extent().y0 for name in normal)
    assert all(boxes(fig)[name].get_window_extent().y1 < low for name in reduce)


def test_an_operation_without_edges_is_drawn_too() -> None:
    fig = plots.cell_plot(Architecture("s", ("input", "a:conv", "a:dead", "output"), ((0, 1), (1, 3))))
    assert "node-a.2" in boxes(fig)


@pytest.mark.parametrize(
    ("ops", "same"),
    [
        (("nor_conv_3x3", "conv3x3-bn-relu", "sep_conv_3x3", "k3_e6", "mb6_k3"), True),
        (("none", "skip_connect", "skip", "identity"), True),
        (("k3_e6", "k5_e6"), False),
        (("k5_e6", "k7_e6"), False),
        (("heads3", "mlp4.0"), False),
        (("avg_pool_3x3", "nor_conv_3x3"), False),
    ],
)
def test_a_colour_means_the_same_operation_in_every_space(ops: tuple[str, ...], same: bool) -> None:
    n = len(ops)
    arch = Architecture("s", ("input", *ops, "output"), tuple(itertools.pairwise(range(n + 2))))
    drawn = boxes(plots.cell_plot(arch))
    colours = {drawn[f"node-{i + 1}"].get_edgecolor() for i in range(n)}
    assert len(colours) == (1 if same else n)


def test_the_six_operation_cell_is_drawn_without_crossings() -> None:
    space = load("nasbench201")
    layout = layered(space.computation(space.enumerate()[3 * 5**5 + 3 * 5**4 + 3 * 5**3 + 3 * 5**2 + 3 * 5 + 3]))
    links = [link for route in layout.routes.values() for link in itertools.pairwise(route)]
    for (a, b), (c, d) in itertools.combinations(links, 2):
        if layout.layer[a] == layout.layer[c]:
            assert (layout.height[a] - layout.height[c]) * (layout.height[b] - layout.height[d]) >= 0


def test_an_edge_listed_twice_is_drawn_once_with_its_count() -> None:
    fig = plots.cell_plot(Architecture("s", ("input", "conv", "output"), ((0, 1), (0, 1), (1, 2))), title="a $b$")
    assert len(arrows(fig)) == 2
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
