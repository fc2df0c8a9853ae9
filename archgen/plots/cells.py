"""Drawings of architectures: cells in layers from left to right, chains in rows, several cells one below another."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve

from archgen.graph import Architecture
from archgen.layout import layered
from archgen.plots.figure import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY

_BOX, _END, _HEIGHT = 0.94, 0.68, 0.5  # inches: width of an operation, of an input or output; height of both
_GAP = 0.58  # between layers
_STEP, _TURN, _ROUND = 0.32, 0.42, 0.2  # between the boxes of a chain, between its rows, and beside them for arrows
_MARGIN, _HEADING, _TITLE = 0.12, 0.3, 0.35
_SHORT, _PER_ROW = 6, 8  # nodes of a chain that is drawn as any cell, and of a row of a longer one
_ENDS = re.compile(r"input|output|c_\{.*\}")
# The first pattern found in an operation's name decides its colour, so that a colour means the same in every plot.
_COLOURS = (
    ("none|zero|skip|identity", GREY),
    ("pool|^mlp|^ff", ORANGE),
    ("1x1|^(width|hidden|r)[0-9]", SKY),
    ("3x3|(^|_)k3|^heads|^sa-", BLUE),
    ("5x5|(^|_)k5|^l-", GREEN),
    ("7x7|(^|_)k7|^c-", PURPLE),
)

Point = tuple[float, float]
Edge = tuple[int, int]


@dataclass(frozen=True)
class _Drawing:
    """Where the nodes of one part of an architecture stand, in inches, the upper edge at 0 and the left one at 0.

    Args:
        size: Width and height.
        boxes: Middle of each node's box.
        arrows: Points of each edge's way, level at each of them.
        turns: Edges of a chain that go round to the next row.
    """

    size: Point
    boxes: dict[int, Point]
    arrows: dict[Edge, list[Point]]
    turns: frozenset[Edge] = frozenset()


def cell_plot(arch: Architecture, title: str | None = None) -> Figure:
    """Draw a labelled DAG.

    Nodes run from left to right, each in the layer of its longest path from the input. Edges that skip layers get
    lanes of their own there, so no arrow runs through a box. A long chain is folded into rows of at most eight, each
    read from left to right. Nodes with labels such as `normal:conv` and `reduce:conv` belong to cells called
    `normal` and `reduce`, which are drawn one below the other, each with the inputs that it reads. An edge that the
    graph lists `m` times is drawn once, labelled `×m`.

    Args:
        arch: Any labelled DAG: a point of a space, or what `space.computation(arch)` leaves of it.
        title: A line above the drawing.
    """
    parts = _parts(arch)
    drawings = [_rows(ops) if _is_chain(ops, edges) else _layers(ops, edges) for _, _, ops, edges in parts]
    width = max(drawing.size[0] for drawing in drawings)
    headings = [_HEADING if name else 0.0 for name, *_ in parts]
    height = sum(drawing.size[1] for drawing in drawings) + sum(headings) + (_TITLE if title else 0.0)
    fig = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(fig)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(-height, 0))
    ax.axis("off")
    top = 0.0
    if title:
        fig.text(0.5, 1 - _MARGIN / height, title, ha="center", va="top", fontsize=11.5, parse_math=False)
        top -= _TITLE
    for (name, nodes, ops, edges), drawing, heading in zip(parts, drawings, headings, strict=True):
        if name:
            ax.text(_MARGIN, top - _MARGIN, f"{name} cell", va="top", fontsize=10.5, color=INK, parse_math=False)
        top -= heading
        _paint(ax, drawing, ops, Counter(edges), top, [f"{name}.{i}" if name else str(i) for i in nodes])
        top -= drawing.size[1]
    if not arch.edges:
        middle: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9.5, "color": GREY, "style": "italic"}
        ax.text(width / 2, drawings[-1].size[1] / 2 - height, "no path", **middle)
    return fig


# -- placing --------------------------------------------------------------------------------------------------------

Part = tuple[str | None, list[int], tuple[str, ...], tuple[Edge, ...]]
"""Name, nodes of the architecture, their labels, edges between them."""


def _parts(arch: Architecture) -> list[Part]:
    """The cells of an architecture: one without a name, or those whose names stand before a colon in the labels."""
    names = [op.partition(":")[0] if ":" in op else None for op in arch.ops]
    parts: list[Part] = []
    for name in dict.fromkeys(filter(None, names)):
        inside = [edge for edge in arch.edges if name in (names[edge[0]], names[edge[1]])]
        nodes = sorted({i for edge in inside for i in edge} | {i for i, other in enumerate(names) if other == name})
        if not parts:  # what runs past all cells is drawn in the first
            inside += [(i, j) for i, j in arch.edges if names[i] is names[j] is None and {i, j} <= set(nodes)]
        place = {i: k for k, i in enumerate(nodes)}
        ops = tuple(arch.ops[i].removeprefix(f"{name}:") for i in nodes)
        parts.append((name, nodes, ops, tuple((place[i], place[j]) for i, j in inside)))
    return parts or [(None, list(range(len(arch.ops))), arch.ops, arch.edges)]


def _is_chain(ops: tuple[str, ...], edges: tuple[Edge, ...]) -> bool:
    return len(ops) > _SHORT and sorted(edges) == list(pairwise(range(len(ops))))


def _width(op: str) -> float:
    return _END if _ENDS.fullmatch(op) else _BOX


def _rows(ops: tuple[str, ...]) -> _Drawing:
    """A chain in rows of nearly equal length."""
    rows = -(-len(ops) // _PER_ROW)
    per_row = -(-len(ops) // rows)
    side = _MARGIN / 2 + _ROUND
    boxes = {
        i: (side + _BOX / 2 + (i % per_row) * (_BOX + _STEP), -_MARGIN - _HEIGHT / 2 - i // per_row * (_HEIGHT + _TURN))
        for i in range(len(ops))
    }
    arrows = {}
    for i, j in pairwise(range(len(ops))):
        (x0, y0), (x1, y1) = boxes[i], boxes[j]
        arrows[(i, j)] = [(x0 + _width(ops[i]) / 2, y0), (x1 - _width(ops[j]) / 2, y1)]
    size = (2 * side + per_row * (_BOX + _STEP) - _STEP, 2 * _MARGIN + rows * (_HEIGHT + _TURN) - _TURN)
    return _Drawing(size, boxes, arrows, frozenset(edge for edge in arrows if edge[1] % per_row == 0))


def _layers(ops: tuple[str, ...], edges: tuple[Edge, ...]) -> _Drawing:
    """A DAG in layers, by the layout of Sugiyama."""
    layout = layered(Architecture("", ops, edges), node_height=_HEIGHT)
    layer, reach = layout.layer, [(y, _HEIGHT / 2 if len(v) == 1 else 0.0) for v, y in layout.height.items()]
    top = _MARGIN + max(y + half for y, half in reach)
    height = {v: y - top for v, y in layout.height.items()}
    first = min(layer.values())
    centre = [0.02 + _BOX / 2 + (k - first) * (_BOX + _GAP) for k in range(max(layer.values()) + 1)]
    arrows = {}
    for (i, j), route in layout.routes.items():
        points = [(centre[layer[(i,)]] + _width(ops[i]) / 2, layout.leaves[(i, j)] - top)]
        for v in route[1:-1]:
            points += [(centre[layer[v]] - _BOX / 2, height[v]), (centre[layer[v]] + _BOX / 2, height[v])]
        points.append((centre[layer[(j,)]] - _width(ops[j]) / 2, layout.enters[(i, j)] - top))
        arrows[(i, j)] = points
    boxes = {i: (centre[layer[(i,)]], height[(i,)]) for i in range(len(ops))}
    size = (centre[-1] + _BOX / 2 + 0.02, top + _MARGIN - min(y - half for y, half in reach))
    return _Drawing(size, boxes, arrows)


# -- painting -------------------------------------------------------------------------------------------------------


def _paint(
    ax: Axes, drawing: _Drawing, ops: tuple[str, ...], times: Counter[Edge], top: float, names: list[str]
) -> None:
    for (i, j), way in sorted(drawing.arrows.items()):
        points = [(x, y + top) for x, y in way]
        curve = _turn(points[0], points[-1]) if (i, j) in drawing.turns else _curve(points)
        style: dict[str, Any] = {"arrowstyle": "-|>,head_length=0.45,head_width=0.2", "mutation_scale": 12}
        style |= {"color": "#52606d", "lw": 1.25, "fill": True, "zorder": 1}
        ax.add_patch(FancyArrowPatch(path=curve, gid=f"edge-{names[i]}-{names[j]}", **style))
        if times[(i, j)] > 1:
            (x0, y0), (x1, y1) = points[-3:-1] if len(points) > 2 else points  # in its lane, where it has one
            box = {"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none"}
            text: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9, "color": INK, "bbox": box}
            ax.text((x0 + x1) / 2, (y0 + y1) / 2, f"×{times[(i, j)]}", zorder=2, **text)
    for i, (x, y) in drawing.boxes.items():
        _box(ax, x, y + top, ops[i], f"node-{names[i]}")


def _curve(points: list[Point]) -> Curve:
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
    return Curve(vertices, codes)


def _turn(start: Point, end: Point, radius: float = 0.09) -> Curve:
    """From the end of a row, between the rows, to the start of the next, with round corners."""
    (x0, y0), (x1, y1) = start, end
    right, left, middle = x0 + _ROUND, x1 - _ROUND, (y0 + y1) / 2
    corners = [(right, y0), (right, middle), (left, middle), (left, y1)]
    vertices, codes = [start], [Curve.MOVETO]
    for before, corner, after in zip([start, *corners], corners, [*corners[1:], end], strict=False):
        near = [_towards(corner, other, radius) for other in (before, after)]
        vertices += [near[0], corner, near[1]]
        codes += [Curve.LINETO, Curve.CURVE3, Curve.CURVE3]
    return Curve([*vertices, end], [*codes, Curve.LINETO])


def _towards(point: Point, other: Point, distance: float) -> Point:
    length = abs(point[0] - other[0]) + abs(point[1] - other[1])  # all lines are level or upright
    share = distance / max(length, distance)
    return point[0] + share * (other[0] - point[0]), point[1] + share * (other[1] - point[1])


def _box(ax: Axes, x: float, y: float, op: str, gid: str) -> None:
    end = _ENDS.fullmatch(op) is not None
    named = [colour for pattern, colour in _COLOURS if re.search(pattern, op)]
    colour = INK if end else (named or [(RED, PURPLE, GREEN)[zlib.crc32(op.encode()) % 3]])[0]
    fill = colour if end else tuple(0.82 + 0.18 * channel for channel in to_rgb(colour))
    width, height = _width(op), _HEIGHT - 0.1 if end else _HEIGHT
    shape = f"round,pad=0,rounding_size={_HEIGHT / 2 - 0.05 if end else 0.1}"
    corner = (x - width / 2, y - height / 2)
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=shape, fc=fill, ec=colour, lw=1.4, zorder=3, gid=gid))
    words = _folded(op)
    size = min(9.5, 9.5 * 11 / max(len(line) for line in words.split("\n")))
    style: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 4, "linespacing": 1.1, "parse_math": False}
    ax.text(x, y, words, fontsize=size, color="white" if end else INK, **style)


def _folded(op: str) -> str:
    """A long name in two lines: at its last underscore, else at the hyphen that is nearest the middle."""
    head, _, tail = op.rpartition("_")
    if len(op) <= 9 or _ENDS.fullmatch(op):
        return op
    if head:
        return f"{head}\n{tail}"
    hyphens = [k for k, letter in enumerate(op[:-1], 1) if letter == "-"]
    cut = min(hyphens, key=lambda k: abs(k - len(op) / 2), default=len(op))
    return f"{op[:cut]}\n{op[cut:]}" if hyphens else op
