"""What the check of generators watches with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from archgen.graph import GraphBatch
from archgen.spaces import SearchSpace
from archgen.testing.graphs import Discard, Forbid, Recorded, Silent, check_inside, forbid_common, rows, same

UNUSED = torch.Generator()
"""Nothing here draws from it."""


def graphs(labels: list[list[int]], edges: list[list[tuple[int, int]]]) -> GraphBatch:
    """Graphs of as many nodes as labels, of three kinds."""
    adjacency = torch.zeros(len(labels), len(labels[0]), len(labels[0]))
    for b, pairs in enumerate(edges):
        for i, j in pairs:
            adjacency[b, i, j] = 1.0
    ops = torch.nn.functional.one_hot(torch.tensor(labels), 3).float()
    return GraphBatch(ops, adjacency, torch.ones(len(labels), len(labels[0]), dtype=torch.bool))


def forbidden(
    batch: GraphBatch, *, label: tuple[int, int] | None = None, edge: tuple[int, int] | None = None
) -> Forbid:
    """Forbids a label of a node, or an edge."""
    ops, edges = torch.zeros_like(batch.ops[0]), torch.zeros_like(batch.edges[0])
    if label:
        ops[label] = 1.0
    if edge:
        edges[edge] = 1.0
    return Forbid(ops, edges)


BATCH = graphs([[0, 1], [0, 2], [1, 2]], [[(0, 1)], [], [(0, 1)]])


# -- guidance ---------------------------------------------------------------------------------------------------


def test_forbid_gives_no_weight_to_its_state_and_no_opinion_of_others() -> None:
    for forbid, hits in [
        (forbidden(BATCH, label=(1, 2)), [False, True, True]),
        (forbidden(BATCH, edge=(0, 1)), [True, False, True]),
    ]:
        assert forbid.hits(BATCH).tolist() == hits
        assert forbid.log_tilt(BATCH).tolist() == [-torch.inf if hit else 0.0 for hit in hits]


def test_the_state_to_forbid_is_the_most_frequent_label_that_half_of_the_graphs_avoid() -> None:
    """Seven of ten have label 0 at node 0, and five the edge; then label 2 at node 1 is the most frequent."""
    first, second = [0] * 7 + [1] * 2 + [2], [2] * 4 + [1] * 3 + [0] * 3
    drawn = graphs([list(pair) for pair in zip(first, second, strict=True)], [[(0, 1)]] * 5 + [[]] * 5)
    forbid = forbid_common(drawn)
    assert forbid.ops.nonzero().tolist() == [[1, 2]]
    assert not bool(forbid.edges.any())
    assert int(forbid.hits(drawn).sum()) == 4


def test_where_labels_are_fixed_an_edge_is_forbidden() -> None:
    drawn = graphs([[0, 1, 2]] * 4, [[(0, 1), (1, 2)], [(0, 1)], [(0, 1), (0, 2), (1, 2)], [(0, 1)]])
    forbid = forbid_common(drawn)
    assert not bool(forbid.ops.any())
    assert forbid.edges.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("count", [1, 5])
def test_graphs_that_are_all_alike_leave_nothing_to_forbid(count: int) -> None:
    with pytest.raises(AssertionError, match="there is nothing to forbid"):
        forbid_common(graphs([[0, 1]] * count, [[(0, 1)]] * count))


def test_discard_keeps_one_of_eight_particles_without_the_state_at_the_end() -> None:
    labels = [[0, 2]] * 16
    labels[3], labels[5], labels[15] = [1, 0], [1, 1], [2, 1]
    clean = graphs(labels, [[]] * 16)
    discard = Discard(forbidden(clean, label=(1, 2)))
    assert discard.population(2) == 16
    assert discard.resample(clean, 0.5, generator=UNUSED) is None
    assert discard.last is None
    chosen = discard.resample(clean, 0.0, generator=UNUSED)
    assert chosen is not None
    assert chosen.tolist() == [3, 15]
    assert discard.times == [0.5, 0.0]
    assert discard.last is not None
    assert same(discard.last, clean[torch.tensor([3, 15])])


def test_silent_asks_for_candidates_and_abstains() -> None:
    silent, t = Silent(), torch.zeros(3)
    assert silent.candidates > 1
    assert silent.population(5) == 5
    assert silent.log_tilt(BATCH) is None
    assert silent.changes(BATCH, t) is None
    assert silent.score(BATCH, t) is None
    assert silent.resample(BATCH, 0.0, generator=UNUSED) is None


# -- the projector that looks -----------------------------------------------------------------------------------


@pytest.fixture
def points(space: SearchSpace) -> GraphBatch:
    return space.encode(space.sample(4, np.random.default_rng(0)))


def test_the_projector_remembers_what_it_gave(space: SearchSpace, points: GraphBatch) -> None:
    recorded = Recorded(space)
    mended = recorded(points, points, generator=UNUSED)
    assert same(mended, points)  # a free space mends nothing
    assert recorded.calls == 1
    assert recorded.known == set(rows(points))
    recorded(points[:1], points[:1], generator=UNUSED)
    assert recorded.calls == 2
    assert recorded.known == set(rows(points))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: GraphBatch(p.ops, 2 * p.edges, p.node_mask), r"outside \[0, 1\]"),
        (lambda p: GraphBatch(p.ops, -p.edges, p.node_mask), r"outside \[0, 1\]"),
        (lambda p: GraphBatch(0.9 * p.ops, p.edges, p.node_mask), "do not add up to one"),
        (lambda p: GraphBatch(p.ops, p.edges.mT, p.node_mask), "not strictly upper triangular"),
        (lambda p: GraphBatch(p.ops, p.edges + 0.5 * torch.eye(8), p.node_mask), "not strictly upper triangular"),
    ],
)
def test_the_projector_refuses_what_are_no_probabilities(
    space: SearchSpace, points: GraphBatch, change: Callable[..., Any], message: str
) -> None:
    with pytest.raises(AssertionError, match=f"the projector is given .*{message}"):
        Recorded(space)(points, change(points), generator=UNUSED)


# -- comparisons ------------------------------------------------------------------------------------------------


def test_batches_are_the_same_when_labels_edges_and_nodes_are() -> None:
    ops, edges, mask = (t.clone() for t in (BATCH.ops, BATCH.edges, BATCH.node_mask))
    assert same(BATCH, GraphBatch(ops, edges, mask))
    assert not same(BATCH, BATCH[:2])
    assert not same(BATCH, GraphBatch(ops.flip(-1), edges, mask))
    assert not same(BATCH, GraphBatch(ops, 1 - edges, mask))
    assert not same(BATCH, GraphBatch(ops, edges, ~mask))


def test_rows_are_equal_for_equal_graphs_only() -> None:
    twice = GraphBatch.cat([BATCH, BATCH])
    assert len(rows(twice)) == 6
    assert len(set(rows(twice))) == 3
    assert rows(twice)[:3] == rows(twice)[3:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ops, edges: (ops * 0.5, edges), "labels are not one-hot"),
        (lambda ops, edges: (ops + ops.roll(1, -1), edges), "labels are not one-hot"),
        (lambda ops, edges: (ops, 0.5 * edges), "not a strictly upper triangular matrix of 0 and 1"),
        (lambda ops, edges: (ops, edges.mT), "not a strictly upper triangular matrix of 0 and 1"),
        (lambda ops, edges: (ops.roll(1, 1), edges), "outside the domains"),
        (lambda ops, edges: (ops, 0 * edges), "outside the domains"),
        (lambda ops, edges: (ops, torch.ones_like(edges).triu(1)), "outside the domains"),
    ],
)
def test_graphs_that_are_not_inside_the_domains_are_named(
    space: SearchSpace, points: GraphBatch, change: Callable[..., Any], message: str
) -> None:
    check_inside(points, space, "sample gives graphs")
    changed = GraphBatch(*change(points.ops, points.edges), points.node_mask)
    with pytest.raises(AssertionError, match=f"^sample gives graphs (whose )?.*{message}"):
        check_inside(changed, space, "sample gives graphs")
