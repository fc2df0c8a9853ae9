"""Layered layout of a labelled DAG, after Sugiyama, Tagawa and Toda (1981): layers, lanes, order, heights, ports."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from archgen.graph import Architecture

Edge = tuple[int, int]
Vertex = tuple[int, ...]
"""`(i,)` is node `i`; `(i, j, layer)` is the lane of the edge `i -> j` in a layer that it skips."""


@dataclass(frozen=True)
class Layout:
    """Where the nodes of a DAG stand and how its edges run.

    Args:
        layer: Column of each vertex, counted from the left.
        height: Height of each vertex's middle, in the unit of `node_height`.
        routes: For each distinct edge the vertices it passes, both ends included.
        leaves: Height at which each edge leaves its source.
        enters: Height at which each edge enters its target.
    """

    layer: dict[Vertex, int]
    height: dict[Vertex, float]
    routes: dict[Edge, list[Vertex]]
    leaves: dict[Edge, float]
    enters: dict[Edge, float]


def layered(arch: Architecture, node_height: float = 0.5, gap: float = 0.24, lane: float = 0.2) -> Layout:
    """Lay a DAG out from left to right, each node in the layer of its longest path from the input.

    `output` nodes stand alone in the last layer. Edges that skip layers get lanes of their own there, so that no
    edge runs through a node.

    Args:
        arch: Any labelled DAG.
        node_height: Height of a node.
        gap: Least room between two nodes of a layer.
        lane: Height of a lane.
    """
    columns, routes = _layers(arch)
    columns = _ordered(columns, routes)
    height = _heights(columns, routes, {1: node_height + gap, 3: lane})
    layer = {v: k for k, column in enumerate(columns) for v in column}
    return Layout(
        layer, height, routes, _ports(routes, height, 0, node_height), _ports(routes, height, -1, node_height)
    )


def _layers(arch: Architecture) -> tuple[list[list[Vertex]], dict[Edge, list[Vertex]]]:
    edges = sorted(set(arch.edges))
    depth = [0] * len(arch.ops)
    for j, op in enumerate(arch.ops):
        depth[j] = 0 if op == "input" else 1 + max((depth[i] for i, k in edges if k == j), default=0)
    last = max((d for d, op in zip(depth, arch.ops, strict=True) if op != "output"), default=0) + 1
    depth = [last if op == "output" else d for d, op in zip(depth, arch.ops, strict=True)]
    columns: list[list[Vertex]] = [[] for _ in range(max(depth, default=0) + 1)]
    for i, d in enumerate(depth):
        columns[d].append((i,))
    routes: dict[Edge, list[Vertex]] = {}
    for i, j in edges:
        lanes: list[Vertex] = [(i, j, d) for d in range(depth[i] + 1, depth[j])]
        for v in lanes:
            columns[v[2]].append(v)
        routes[(i, j)] = [(i,), *lanes, (j,)]
    return columns, routes


def _links(routes: Mapping[Edge, Sequence[Vertex]]) -> list[tuple[Vertex, Vertex]]:
    return [link for route in routes.values() for link in itertools.pairwise(route)]


def _neighbours(routes: Mapping[Edge, Sequence[Vertex]]) -> dict[Vertex, list[Vertex]]:
    near: dict[Vertex, list[Vertex]] = {}
    for a, b in _links(routes):
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    return near


def _ordered(columns: list[list[Vertex]], routes: Mapping[Edge, Sequence[Vertex]]) -> list[list[Vertex]]:
    """The order of each column with the fewest crossings, then the least total rise.

    Small graphs are searched in full. Of others the columns are sorted by the barycentre of their neighbours, to and
    fro, and neighbours swapped where that helps.
    """
    if math.prod(math.factorial(len(column)) for column in columns) <= 2000:
        permuted = [[list(order) for order in itertools.permutations(column)] for column in columns]
        return min(map(list, itertools.product(*permuted)), key=lambda order: _tangle(order, routes))
    near = _neighbours(routes)
    best, least = columns, _tangle(columns, routes)
    for sweep in range(12):
        columns = [list(column) for column in columns]
        back = 1 if sweep % 2 == 0 else -1
        for k in range(1, len(columns)) if back == 1 else range(len(columns) - 2, -1, -1):
            at, beside = _middles(columns), set(columns[k - back])
            pull = {v: [at[u] for u in near.get(v, []) if u in beside] or [at[v]] for v in columns[k]}
            columns[k] = sorted(columns[k], key=lambda v, pull=pull: sum(pull[v]) / len(pull[v]))  # type: ignore[misc]
        now = _tangle(columns, routes)
        for column in columns:
            for k in range(len(column) - 1):
                column[k : k + 2] = column[k + 1], column[k]
                swapped = _tangle(columns, routes)
                if swapped < now:
                    now = swapped
                else:
                    column[k : k + 2] = column[k + 1], column[k]
        if now < least:
            best, least = columns, now
    return best


def _middles(columns: Sequence[Sequence[Vertex]]) -> dict[Vertex, float]:
    return {v: k - (len(column) - 1) / 2 for column in columns for k, v in enumerate(column)}


def _tangle(columns: Sequence[Sequence[Vertex]], routes: Mapping[Edge, Sequence[Vertex]]) -> tuple[int, float]:
    """Number of crossings, then the total rise of the edges."""
    at, side = _middles(columns), {v: k for k, column in enumerate(columns) for v in column}
    links = _links(routes)
    crossings = sum(
        side[a] == side[c] and (at[a] - at[c]) * (at[b] - at[d]) < 0
        for n, (a, b) in enumerate(links)
        for c, d in links[:n]
    )
    return crossings, sum(abs(at[a] - at[b]) for a, b in links)


def _heights(
    columns: Sequence[Sequence[Vertex]], routes: Mapping[Edge, Sequence[Vertex]], room: Mapping[int, float]
) -> dict[Vertex, float]:
    """Pull each vertex to its neighbours while the order and the room (by length of the vertex) are kept.

    The nearest heights under given distances are an isotonic regression; links between lanes weigh more, which
    makes long edges straight.
    """
    near = _neighbours(routes)
    height = {v: middle * max(room.values()) for v, middle in _middles(columns).items()}
    for _ in range(300):
        for column in columns:
            steps = [(room[len(a)] + room[len(b)]) / 2 for a, b in itertools.pairwise(column)]
            offset = np.concatenate([[0.0], np.cumsum(steps)])
            wish, weight = np.empty(len(column)), np.empty(len(column))
            for k, v in enumerate(column):
                near_v = near.get(v, [])
                pull = np.array([40.0 if len(u) == len(v) == 3 else 1.0 for u in near_v] or [1.0])
                weight[k] = pull.sum()
                wish[k] = pull @ np.array([height[u] for u in near_v] or [height[v]]) / weight[k]
            fitted = isotonic_regression(wish - offset, weights=weight).x + offset
            height.update(zip(column, map(float, fitted), strict=True))
    return height


def _ports(
    routes: Mapping[Edge, Sequence[Vertex]], height: Mapping[Vertex, float], end: int, node_height: float
) -> dict[Edge, float]:
    """Height at which each edge leaves (`end` 0) or enters (-1) its node, in the order of where it goes."""
    beyond = 1 if end == 0 else -2
    ports: dict[Edge, float] = {}
    for node in {route[end] for route in routes.values()}:
        mine = [edge for edge, route in routes.items() if route[end] == node]
        mine.sort(key=lambda edge: height[routes[edge][beyond]])
        step = min(0.26, 0.7 / len(mine)) * node_height
        for k, edge in enumerate(mine):
            ports[edge] = height[node] + (k - (len(mine) - 1) / 2) * step
    return ports
