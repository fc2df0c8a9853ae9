"""Edges of a genotype to sources and back, which graphs are genotypes, and draws of sources, without a space."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archgen.errors import InvalidArchitecture
from archgen.spaces.genotype_graph import GenotypeGraph

WAYS = (2, 2, 3, 3)
"""Sources of each operation of a cell of two nodes."""


@pytest.fixture(scope="module")
def graph() -> GenotypeGraph:
    """Two nodes a cell: inputs 0 and 1, operations 2 to 5 and 6 to 9, output 10."""
    return GenotypeGraph(2, 3)


def dense(graph: GenotypeGraph, *sources: list[int]) -> torch.Tensor:
    """The edges of genotypes, `b x n x n`."""
    edges = torch.zeros(len(sources), *graph.edge_domain.shape[:2], dtype=torch.bool)
    for row, each in enumerate(sources):
        for i, j in graph.edges_of(each):
            edges[row, i, j] = True
    return edges


def sources_of_two_cells() -> st.SearchStrategy[list[int]]:
    return st.tuples(*(st.integers(0, ways - 1) for ways in WAYS + WAYS)).map(list)


# -- one genotype -----------------------------------------------------------------------------------------------


def test_the_edges_of_two_nodes(graph: GenotypeGraph) -> None:
    """The second node's operations read the first node, source 2, from its second operation: node 3, or 7."""
    edges = graph.edges_of([0, 1, 2, 0, 1, 1, 0, 2])
    normal = {(0, 2), (1, 3), (3, 4), (0, 5)}
    reduce = {(1, 6), (1, 7), (0, 8), (7, 9)}
    assert graph.fixed == {(2, 3), (4, 5), (6, 7), (8, 9), (3, 10), (5, 10), (7, 10), (9, 10)}
    assert edges == tuple(sorted(normal | reduce | graph.fixed))


@given(sources=sources_of_two_cells())
def test_sources_come_back_from_their_edges_in_any_order(graph: GenotypeGraph, sources: list[int]) -> None:
    edges = graph.edges_of(sources)
    assert list(edges) == sorted(edges)
    assert graph.sources_of(edges) == graph.sources_of(edges[::-1]) == sources


def test_an_edge_that_no_genotype_has_is_named(graph: GenotypeGraph) -> None:
    with pytest.raises(InvalidArchitecture, match=r"edge \(0, 10\) can not be part of a genotype of 2 nodes"):
        graph.sources_of([*graph.edges_of([0] * 8), (0, 10)])


@pytest.mark.parametrize(
    "change", ["no source", "two sources", "a source twice", "no fixed edge", "a fixed edge twice"]
)
def test_edges_that_are_no_genotype_are_refused(graph: GenotypeGraph, change: str) -> None:
    edges = list(graph.edges_of([0] * 8))
    if change.startswith("no"):
        edges.remove((0, 2) if "source" in change else (2, 3))
    else:
        edges.append({"two sources": (1, 2), "a source twice": (0, 2), "a fixed edge twice": (2, 3)}[change])
    with pytest.raises(
        InvalidArchitecture, match="expected 8 fixed edges and one source for each of 8 operations, got"
    ):
        graph.sources_of(edges)


# -- many of them -----------------------------------------------------------------------------------------------


def test_domains_hold_what_some_genotype_has_and_no_more(graph: GenotypeGraph) -> None:
    """Every free edge may be absent or there, every fixed one is, and no other one."""
    assert set(graph.choice) == {edge for edges in graph.free for edge in edges}
    assert [len(edges) for edges in graph.free] == [*WAYS, *WAYS]
    may, must = graph.edge_domain[..., 1], ~graph.edge_domain[..., 0]
    assert {(i, j) for i, j in may.nonzero().tolist()} == graph.fixed | set(graph.choice)
    assert {(i, j) for i, j in must.nonzero().tolist()} == graph.fixed
    ends = torch.zeros(11, 6, dtype=torch.bool)
    ends[[0, 1, 10], [0, 1, 5]] = True
    assert torch.equal(graph.node_domain[[0, 1, 10]], ends[[0, 1, 10]])
    assert graph.node_domain[2:10].tolist() == [[False, False, True, True, True, False]] * 8


@given(sources=st.lists(sources_of_two_cells(), min_size=1, max_size=4))
def test_what_is_read_are_the_sources(graph: GenotypeGraph, sources: list[list[int]]) -> None:
    valid, found = graph.read(dense(graph, *sources))
    assert valid.all()
    assert found.tolist() == sources


def test_graphs_that_are_no_genotype_are_told_from_those_that_are(graph: GenotypeGraph) -> None:
    edges = dense(graph, *[[0] * 8] * 6)
    edges[1, 0, 10] = True  # an edge that no genotype has
    edges[2, 2, 3] = False  # a fixed one is missing
    edges[3, 0, 2] = False  # no source
    edges[4, 1, 9] = True  # two sources
    edges[5, 3, 2] = True  # backwards
    assert graph.read(edges)[0].tolist() == [True, False, False, False, False, False]


def test_graphs_with_one_source_each_are_left_alone(graph: GenotypeGraph) -> None:
    """The same tensor, and no random number is spent."""
    noise = torch.Generator().manual_seed(0)
    before = noise.get_state()
    edges = dense(graph, [0] * 8, [1, 0, 2, 1, 0, 1, 2, 2]).float()
    assert graph.draw_sources(edges, torch.full_like(edges, 0.5), generator=noise) is edges
    assert torch.equal(noise.get_state(), before)


@pytest.mark.parametrize("there", [(), (0, 1), (0, 1, 3)], ids=["none", "two", "all"])
def test_sources_are_drawn_in_proportion_to_their_odds(graph: GenotypeGraph, there: tuple[int, ...]) -> None:
    """Node 4 has three sources; a frequency fails by chance once in 10^6 (binomial, five deviations)."""
    n, p = 20_000, torch.tensor([0.8, 0.5, 0.1])
    sources = [0, 1, 3]
    drawn = dense(graph, [0] * 8).float().repeat(n, 1, 1)
    drawn[:, sources, 4] = 0.0
    drawn[:, list(there), 4] = 1.0
    probabilities = torch.full_like(drawn, 0.5)
    probabilities[:, sources, 4] = p
    before = drawn.clone()
    edges = graph.draw_sources(drawn, probabilities, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn, before)
    assert graph.read(edges > 0.5)[0].all()
    others = torch.ones(11, 11, dtype=torch.bool)
    others[sources, 4] = False
    assert torch.equal(edges[:, others], before[:, others])
    expected = torch.tensor([4.0, 1.0, 1 / 9]) / (4 + 1 + 1 / 9)
    frequency = edges[:, sources, 4].mean(0)
    assert bool(((frequency - expected).abs() < 5 * (expected * (1 - expected) / n).sqrt()).all())
