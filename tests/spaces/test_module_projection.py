"""Draws of a module's edges given that it is one that the space encodes."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from archgen.spaces.module_graphs import compact, pairs_of, prune, within
from archgen.spaces.module_projection import complete, draw_valid_edges


def encoded(graphs: Tensor, max_edges: int) -> Tensor:
    """Which are valid and as `ModuleSpace.encode` writes them, by definition: compacting leaves them alone."""
    compacted, _ = compact(graphs, torch.zeros(len(graphs), graphs.shape[-1] - 2, dtype=torch.long))
    return within(graphs, max_edges) & (compacted == graphs).flatten(1).all(1)


def test_draws_have_the_distribution_given_that_the_module_is_one_that_is_encoded() -> None:
    """Every raw graph of four slots; fails by chance once in 10^4 (McDiarmid's bound). A fifth of the raw graphs is
    encoded, so rejection gives up once in a million."""
    n = 40_000
    p = torch.tensor([[0, 0.5, 0.3, 0.2], [0, 0, 0.6, 0.4], [0, 0, 0, 0.7], [0, 0, 0, 0]])
    noise = torch.Generator().manual_seed(0)
    edges = torch.rand(n, 4, 4, generator=noise) < p
    drawn = draw_valid_edges(edges, p.expand(n, 4, 4), 4, generator=noise)
    kept = encoded(edges, 4)
    assert 0.1 < kept.float().mean() < 0.9
    assert int((within(edges, 4) & ~kept).sum()) > 0.1 * n  # valid, and drawn again all the same
    assert torch.equal(drawn[kept], edges[kept])

    pairs = pairs_of(4)
    every = torch.zeros(2**6, 4, 4, dtype=torch.bool)
    for number, (e, (i, j)) in itertools.product(range(2**6), enumerate(pairs)):
        every[number, i, j] = bool(number >> e & 1)
    allowed = encoded(every, 4)
    rows, columns = torch.tensor(pairs).T
    weight = torch.where(every, p, 1 - p)[:, rows, columns].prod(1) * allowed
    number = (drawn[:, rows, columns].long() << torch.arange(6)).sum(1)
    frequency = torch.bincount(number, minlength=2**6) / n
    assert not bool(frequency[~allowed].any())
    assert (frequency - weight / weight.sum()).abs().sum() / 2 < 0.025


@pytest.mark.parametrize("p", [0.0, 0.001, 0.999, 1.0])
def test_draws_end_valid_and_pruned_where_rejection_never_does(p: float) -> None:
    noise = torch.Generator().manual_seed(0)
    probabilities = p * torch.ones(64, 7, 7).triu(1)
    drawn = draw_valid_edges(torch.rand(64, 7, 7, generator=noise) < probabilities, probabilities, 9, generator=noise)
    assert bool(within(drawn, 9).all())
    assert torch.equal(drawn, prune(drawn))
    if p in (0.0, 1.0):  # the shortest path, and as many edges as there may be
        assert set(drawn.sum((1, 2)).tolist()) == {1 if p == 0.0 else 9}


def test_valid_graphs_that_are_not_encoded_lose_their_dead_edges_and_gaps() -> None:
    """A dead edge, and a path that leaves out the first slot; the only edges that may be there make the chain."""
    edges = torch.zeros(2, 4, 4, dtype=torch.bool)
    edges[0, [0, 1, 0], [1, 3, 2]] = True
    edges[1, [0, 2], [2, 3]] = True
    p = torch.full((2, 4, 4), 0.01).triu(1)
    p[:, 0, 1], p[:, 1, 3] = 0.99, 0.99
    assert bool(within(edges, 6).all())
    drawn = draw_valid_edges(edges, p, 6, generator=torch.Generator().manual_seed(0))
    assert bool(encoded(drawn, 6).all())
    assert [graph.nonzero().tolist() for graph in drawn] == [[[0, 1], [1, 3]]] * 2


def test_a_draw_repeats_with_its_seed_and_stays_above_the_diagonal() -> None:
    edges, p = torch.zeros(32, 5, 5, dtype=torch.bool), torch.full((32, 5, 5), 0.3)
    first, again, other = (
        draw_valid_edges(edges, p, 7, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not bool(first.tril().any())
    assert not bool(edges.any())  # what is given is not changed


def test_an_encoded_draw_takes_no_randomness_and_is_returned_as_it_is() -> None:
    edges = torch.zeros(3, 4, 4, dtype=torch.bool)
    edges[:, 0, 3] = True
    noise = torch.Generator().manual_seed(3)
    before = noise.get_state()
    assert torch.equal(draw_valid_edges(edges, edges.float(), 4, generator=noise), edges)
    assert torch.equal(noise.get_state(), before)


# -- completion -------------------------------------------------------------------------------------------------


def test_completion_adds_the_most_probable_path() -> None:
    p = torch.full((1, 4, 4), 0.1).triu(1)
    p[0, 0, 1], p[0, 1, 3] = 0.45, 0.45  # odds 0.82 twice against 0.11 for the direct edge
    none = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert complete(none, p, 6)[0].nonzero().tolist() == [[0, 1], [1, 3]]
    there = none.clone()
    there[0, 2, 3] = True  # half of a path is there: only the other half counts
    p[0, 0, 2] = 0.48
    p[0, 0, 1] = 0.2
    assert complete(there, p, 6)[0].nonzero().tolist() == [[0, 2], [2, 3]]


def test_the_path_added_is_the_best_of_all() -> None:
    """Against every path of five vertices: the largest product of odds."""
    p = torch.rand(50, 5, 5, generator=torch.Generator().manual_seed(0)).triu(1)
    added = complete(torch.zeros(50, 5, 5, dtype=torch.bool), p, 10)
    odds = (p / (1 - p)).tolist()
    paths = [[0, *inner, 4] for k in range(4) for inner in itertools.combinations(range(1, 4), k)]
    lengths = set()
    for graph, found in zip(odds, added, strict=True):
        best = max(paths, key=lambda path: math.prod(graph[i][j] for i, j in itertools.pairwise(path)))
        assert found.nonzero().tolist() == [list(edge) for edge in itertools.pairwise(best)]
        lengths.add(len(best))
    assert len(lengths) > 2


def test_completion_drops_the_least_probable_edges_off_the_best_path() -> None:
    full = torch.ones(1, 4, 4, dtype=torch.bool).triu(1)
    p = torch.full((1, 4, 4), 0.9).triu(1)
    p[0, 0, 3], p[0, 1, 3], p[0, 0, 2] = 0.1, 0.2, 0.3
    assert complete(full, p, 4)[0].nonzero().tolist() == [[0, 1], [0, 2], [1, 2], [2, 3]]


def test_completion_leaves_valid_graphs_alone() -> None:
    noise = torch.Generator().manual_seed(0)
    graphs = (torch.rand(200, 5, 5, generator=noise) < 0.6).triu(1)
    valid = within(graphs, 6)
    assert 20 < int(valid.sum()) < 180
    completed = complete(graphs, torch.rand(200, 5, 5, generator=noise), 6)
    assert torch.equal(completed[valid], graphs[valid])
    assert bool(within(completed, 6).all())
