"""Graphs of modules: pruning, the published hash, and how many there are."""

import hashlib
import itertools
import os

import networkx as nx
import pytest
import torch
from torch import Tensor

from archgen.graph import canonical_form
from archgen.spaces.module_graphs import (
    compact,
    distinct_modules,
    in_order,
    live_vertices,
    module_hash,
    pairs_of,
    prune,
    prune_raw,
    within,
)

Edges = list[tuple[int, int]]


def matrices(n: int, *graphs: Edges) -> Tensor:
    """Adjacency of graphs of `n` vertices."""
    adjacency = torch.zeros(len(graphs), n, n, dtype=torch.bool)
    for b, edges in enumerate(graphs):
        for i, j in edges:
            adjacency[b, i, j] = True
    return adjacency


def every_graph(n: int) -> list[Edges]:
    pairs = list(itertools.combinations(range(n), 2))
    return [
        [pair for pair, s in zip(pairs, states, strict=True) if s]
        for states in itertools.product([0, 1], repeat=len(pairs))
    ]


def on_paths(n: int, edges: Edges) -> set[int]:
    """Vertices between the first and the last one, by definition."""
    graph = nx.DiGraph(edges)
    graph.add_nodes_from(range(n))
    return (nx.descendants(graph, 0) | {0}) & (nx.ancestors(graph, n - 1) | {n - 1})


# -- pruning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 4])
def test_live_vertices_are_those_on_a_path_from_the_first_to_the_last(n: int) -> None:
    graphs = every_graph(n)
    live = live_vertices(matrices(n, *graphs))
    for edges, row in zip(graphs, live, strict=True):
        assert set(row.nonzero().flatten().tolist()) == on_paths(n, edges)


def test_pruning_leaves_the_edges_between_live_vertices() -> None:
    graphs = every_graph(4)
    for edges, row in zip(graphs, prune(matrices(4, *graphs)), strict=True):
        live = on_paths(4, edges)
        assert [tuple(edge) for edge in row.nonzero().tolist()] == [(i, j) for i, j in edges if {i, j} <= live]


def test_only_edges_on_a_path_count_for_the_limit() -> None:
    loose = [(0, 1), (1, 3), (0, 2)]  # vertex 2 leads nowhere
    adjacency = matrices(4, loose, [(0, 1), (2, 3)], [], [(0, 3)])
    assert within(adjacency, 2).tolist() == [True, False, False, True]
    assert within(adjacency, 1).tolist() == [False, False, False, True]


def test_compact_moves_live_vertices_to_the_front_in_their_order() -> None:
    edges = [(0, 2), (2, 3), (3, 4), (0, 1), (2, 4)]  # vertex 1 leads nowhere
    graphs, labels = compact(matrices(5, edges, [(0, 4), (1, 2)]), torch.tensor([[7, 8, 9], [7, 8, 9]]))
    assert labels.tolist() == [[8, 9, 0], [0, 0, 0]]
    assert graphs[0].nonzero().tolist() == [[0, 1], [1, 2], [1, 4], [2, 4]]
    assert graphs[1].nonzero().tolist() == [[0, 4]]


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_in_order_are_the_graphs_that_compact_leaves_as_they_are(n: int) -> None:
    graphs = matrices(n, *every_graph(n))
    compacted, _ = compact(graphs, torch.zeros(len(graphs), n - 2, dtype=torch.long))
    same = (compacted == graphs).flatten(1).all(1)
    assert torch.equal(in_order(graphs), same)
    assert 0 < int(same.sum()) <= len(graphs)


def test_dead_edges_and_gaps_between_live_vertices_are_not_in_order() -> None:
    chain = [(0, 1), (1, 2), (2, 4)]  # vertex 3 is free
    graphs = matrices(5, chain, [*chain, (1, 3)], [*chain, (3, 4)], [(0, 2), (2, 4)], [(0, 1), (1, 3), (3, 4)], [])
    assert in_order(graphs).tolist() == [True, False, False, False, False, True]


def test_raw_modules_that_prune_to_the_same_one_share_it() -> None:
    through, direct = [(0, 1), (1, 3)], [(0, 3)]
    graphs = [through, [(0, 2), (2, 3)], [*through, (0, 2)], direct, [*direct, (1, 2)], [(0, 1)], direct]
    labels = torch.tensor([[1, 0], [0, 1], [1, 1], [0, 0], [1, 1], [1, 0], [0, 0]])
    refused = torch.tensor([False] * 6 + [True])
    modules, which = prune_raw(matrices(4, *graphs), labels, refused, 2, 6)
    assert modules[-1] is None
    assert sorted(module for module in modules if module) == [([], ((0, 1),)), ([1], ((0, 1), (1, 2)))]
    found = [modules[i] for i in which]
    assert found[:3] == [([1], ((0, 1), (1, 2)))] * 3
    assert found[3:5] == [([], ((0, 1),))] * 2
    assert found[5:] == [None, None]  # not connected, and refused


def test_raw_modules_with_other_labels_or_too_many_edges_are_told_apart() -> None:
    chain, full = [(0, 1), (1, 2), (2, 3)], [(i, j) for i in range(4) for j in range(i + 1, 4)]
    labels = torch.tensor([[0, 1], [1, 0], [0, 1]])
    modules, which = prune_raw(matrices(4, chain, chain, full), labels, torch.zeros(3, dtype=torch.bool), 2, 5)
    assert [modules[i] for i in which] == [([0, 1], tuple(chain)), ([1, 0], tuple(chain)), None]


# -- the published hash -----------------------------------------------------------------------------------------


def test_the_hash_is_the_key_of_the_published_table() -> None:
    """Its first row: 3x3, max-pooling, 3x3, 3x3, 1x1, which are operations 0, 2, 0, 0 and 1."""
    edges = ((0, 1), (0, 4), (0, 5), (1, 2), (2, 3), (2, 6), (3, 5), (4, 5), (5, 6))
    assert module_hash((-1, 0, 2, 0, 0, 1, -2), edges) == "00005c142e6f48ac74fdcf73e3439874"


def test_the_hash_of_two_vertices_in_closed_form() -> None:
    """Out-degree, in-degree and label; then two rounds of sources, targets and own hash; then all, sorted."""

    def md5(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    first, last = md5("(1, 0, -1)"), md5("(0, 1, -2)")
    for _ in range(2):
        first, last = md5(f"|{last}|{first}"), md5(f"{first}||{last}")
    assert module_hash((-1, -2), ((0, 1),)) == md5(str(sorted([first, last])))


def test_isomorphic_modules_have_one_hash() -> None:
    labels, edges = (-1, 0, 1, 2, -2), [(0, 1), (0, 2), (1, 3), (2, 3), (2, 4), (3, 4)]
    hashes = set()
    for order in itertools.permutations(range(1, 4)):
        place = (0, *order, 4)
        moved = dict(zip(place, labels, strict=True))
        hashes.add(module_hash(tuple(moved[v] for v in range(5)), tuple((place[i], place[j]) for i, j in edges)))
    assert len(hashes) == 1
    assert module_hash((-1, 1, 0, 2, -2), tuple(edges)) not in hashes  # only the labels of two vertices exchanged


def hashes_of(vertices: int) -> list[str]:
    """Of every module of the published space with at most so many vertices."""
    found = []
    for m, graphs, labels in distinct_modules(vertices, 3, 9):
        pairs = pairs_of(m)
        for graph, row in zip(graphs.tolist(), labels.tolist(), strict=True):
            edges = tuple(pair for e, pair in enumerate(pairs) if graph >> e & 1)
            found.append(module_hash((-1, *row, -2), edges))
    return found


def test_the_hash_tells_all_modules_of_five_vertices_apart() -> None:
    assert len(set(hashes_of(5))) == 2_532


@pytest.mark.skipif(not os.environ.get("ARCHGEN_SLOW"), reason="hashes every module, two minutes: set ARCHGEN_SLOW=1")
def test_the_published_hash_tells_all_modules_apart() -> None:
    hashes = hashes_of(7)
    assert len(set(hashes)) == len(hashes) == 423_624


# -- how many there are -----------------------------------------------------------------------------------------


def brute_force(vertices: int, max_edges: int, operations: int) -> list[tuple[tuple[int, ...], Edges]]:
    """Every labelled module of exactly so many vertices, by definition: each vertex is on a path."""
    found = []
    for edges in every_graph(vertices):
        if len(edges) <= max_edges and len(on_paths(vertices, edges)) == vertices:
            found += [(labels, edges) for labels in itertools.product(range(operations), repeat=vertices - 2)]
    return found


def test_counts_of_small_modules_are_those_of_networkx() -> None:
    for vertices, max_edges, operations in [(3, 3, 3), (4, 6, 3), (4, 4, 2)]:
        total = 0
        for m in range(2, vertices + 1):
            classes: list[nx.DiGraph] = []
            for labels, edges in brute_force(m, max_edges, operations):
                graph = nx.DiGraph(edges)
                graph.add_nodes_from((v, {"op": op}) for v, op in enumerate((-1, *labels, -2)))
                if not any(nx.is_isomorphic(graph, g, node_match=lambda a, b: a["op"] == b["op"]) for g in classes):
                    classes.append(graph)
            total += len(classes)
        assert sum(len(graphs) for _, graphs, _ in distinct_modules(vertices, operations, max_edges)) == total


def test_counts_of_five_vertices_are_those_of_an_exact_canonical_form() -> None:
    found = brute_force(5, 9, 3)
    classes = {canonical_form([-1, *labels, -2], dict.fromkeys(edges)) for labels, edges in found}
    counts = {m: len(graphs) for m, graphs, _ in distinct_modules(7, 3, 9)}
    assert counts == {2: 1, 3: 6, 4: 84, 5: len(classes), 6: 62_010, 7: 359_082}
    assert sum(counts[m] for m in range(2, 6)) == 2_532


def test_modules_of_three_vertices_one_by_one() -> None:
    """Bits 0, 1 and 2 are the edges (0, 1), (0, 2) and (1, 2); the chain comes without the direct edge and with it."""
    assert pairs_of(3) == [(0, 1), (0, 2), (1, 2)]
    (two, three) = distinct_modules(3, 2, 3)
    assert (two[0], two[1].tolist(), two[2].shape) == (2, [1], (1, 0))
    assert (three[0], three[1].tolist(), three[2].tolist()) == (3, [5, 5, 7, 7], [[0], [1], [0], [1]])


def test_the_limit_of_edges_leaves_modules_out() -> None:
    assert [(m, graphs.tolist()) for m, graphs, _ in distinct_modules(3, 1, 2)] == [(2, [1]), (3, [5])]
    assert [(m, graphs.tolist()) for m, graphs, _ in distinct_modules(3, 1, 1)] == [(2, [1])]
