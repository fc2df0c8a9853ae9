"""The free variables of a space's graphs: they convert both ways, keep to their domains and are drawn as told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archgen import spaces
from archgen.generators.variables import FreeVariables, draw
from archgen.graph import GraphBatch
from archgen.spaces import SearchSpace


@pytest.fixture(scope="module", params=["nasbench101", "nasbench201", "mobilenetv3"])
def any_space(request: pytest.FixtureRequest) -> SearchSpace:
    return spaces.load(request.param)


def uniform(variables: FreeVariables, n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return draw(variables.domain.float().expand(n, -1, -1), generator)


def test_free_nodes_come_first_then_free_edges(exact: Any) -> None:
    variables = FreeVariables(exact.nodes, exact.edges)
    assert variables.nodes.tolist() == [0, 1]
    assert (variables.sources.tolist(), variables.targets.tolist()) == ([0, 1], [1, 2])
    assert variables.domain.tolist() == [
        [True, True, False],
        [True, True, True],
        [True, True, False],
        [True, True, False],
    ]
    graph = variables.graph(torch.tensor([[1, 2, 1, 0]]))
    assert graph.labels.tolist() == [[1, 2, 2]]
    assert graph.edges.tolist() == [[[0, 1, 1], [0, 0, 0], [0, 0, 0]]]
    assert graph.node_mask.all()


def test_spaces_with_free_edges_have_them_as_variables() -> None:
    space = spaces.load("nasbench101")
    variables = FreeVariables(space.node_domain, space.edge_domain)
    assert (len(variables.nodes), len(variables.sources)) == (5, 21)
    assert bool((variables.sources < variables.targets).all())


def test_every_graph_of_a_space_comes_back(any_space: SearchSpace) -> None:
    variables = FreeVariables(any_space.node_domain, any_space.edge_domain)
    archs = any_space.sample(50, np.random.default_rng(0))
    batch = any_space.encode(archs)
    states = variables.states(batch)
    assert bool(variables.domain[torch.arange(states.shape[1]), states].all())
    again = variables.graph(states)
    assert torch.equal(again.ops, batch.ops)
    assert torch.equal(again.edges, batch.edges)
    assert any_space.decode(again) == archs


def test_all_states_come_back_valid_or_not(any_space: SearchSpace) -> None:
    variables = FreeVariables(any_space.node_domain, any_space.edge_domain)
    states = uniform(variables, 200)
    graph = variables.graph(states)
    assert torch.equal(variables.states(graph), states)
    assert not bool((graph.ops.bool() & ~any_space.node_domain).any())
    assert not bool(graph.edges.tril().any())
    present = torch.stack([1 - graph.edges, graph.edges], -1).bool()
    upper = torch.triu(torch.ones(graph.edges.shape[1:]), 1).bool()[..., None]
    assert not bool((present & ~any_space.edge_domain & upper).any())


def test_probabilities_are_placed_where_the_states_go(any_space: SearchSpace) -> None:
    variables = FreeVariables(any_space.node_domain, any_space.edge_domain)
    states = uniform(variables, 5)
    one_hot = torch.nn.functional.one_hot(states, variables.states_each).float()
    sure, graph = variables.probabilities(one_hot), variables.graph(states)
    assert torch.equal(sure.ops, graph.ops)
    assert torch.equal(sure.edges, graph.edges)
    p = variables.probabilities((variables.domain / variables.domain.sum(-1, keepdim=True)).expand(2, -1, -1))
    torch.testing.assert_close(p.ops[0], any_space.node_domain / any_space.node_domain.sum(-1, keepdim=True))
    assert set(p.edges[0].unique().tolist()) <= {0.0, 0.5, 1.0}


def test_a_graph_may_be_changed_without_changing_the_next(any_space: SearchSpace) -> None:
    variables = FreeVariables(any_space.node_domain, any_space.edge_domain)
    states = uniform(variables, 2)
    before = variables.graph(states)
    spoilt = variables.graph(states)
    spoilt.ops[:] = 7.0
    spoilt.edges[0, 0, 1] = 7.0
    after = variables.graph(states)
    assert torch.equal(before.ops, after.ops)
    assert torch.equal(before.edges, after.edges)


def test_logits_outside_the_domain_are_forbidden(any_space: SearchSpace) -> None:
    variables = FreeVariables(any_space.node_domain, any_space.edge_domain)
    f, e, k = len(variables.nodes), len(variables.sources), any_space.node_domain.shape[1]
    node_logits, edge_logits = torch.randn(3, f, k), torch.randn(3, e, 2)
    joined = variables.join(node_logits, edge_logits)
    assert joined.shape == (3, f + e, max(k, 2))
    assert torch.equal(joined.isfinite(), variables.domain.expand(3, -1, -1))
    inside = any_space.node_domain[variables.nodes].expand(3, -1, -1)
    assert torch.equal(joined[:, :f, :k][inside], node_logits[inside])
    assert torch.equal(joined[:, f:, :2], edge_logits)


def test_ratios_of_changes_are_zero_where_nothing_changes(exact: Any) -> None:
    variables = FreeVariables(exact.nodes, exact.edges)
    states = torch.tensor([[1, 2, 1, 0]])
    ops = torch.arange(9.0).view(1, 3, 3) + 10
    edges = torch.arange(9.0).view(1, 3, 3) + 50
    ratios = variables.ratios(states, GraphBatch(ops, edges, torch.ones(1, 3, dtype=torch.bool)))
    assert ratios[0, :, :2].tolist() == [[10, 0], [13, 14], [51, 0], [0, 55]]
    assert float(ratios[0, 1, 2]) == 0.0


# -- noise ------------------------------------------------------------------------------------------------------


def test_pure_noise_is_uniform_over_labels_and_has_no_free_edges(any_space: SearchSpace) -> None:
    variables = FreeVariables(any_space.node_domain, any_space.edge_domain)
    f, noise = len(variables.nodes), variables.noise
    torch.testing.assert_close(noise.sum(-1), torch.ones(len(noise)))
    assert torch.equal(noise[:f] > 0, variables.domain[:f])
    assert bool((noise[:f].amax(-1) == 1 / variables.domain[:f].sum(-1)).all())
    assert bool((noise[f:, 0] == 1).all())


def test_noise_keeps_a_state_with_probability_one_minus_t(any_space: SearchSpace) -> None:
    """Otherwise it is drawn from the noise; with 20,000 draws a share is off by 0.02 in 1e-8 of cases."""
    variables = FreeVariables(any_space.node_domain, any_space.edge_domain)
    clean = uniform(variables, 1).expand(20_000, -1)
    generator = torch.Generator().manual_seed(0)
    again = variables.noise.gather(-1, clean[0, :, None])[:, 0]
    for t in (0.25, 0.8):
        noised = variables.noised(clean, torch.full((20_000,), t), generator)
        assert bool(variables.domain[torch.arange(clean.shape[1]), noised].all())
        torch.testing.assert_close((noised == clean).float().mean(0), 1 - t + t * again, atol=0.02, rtol=0)


def test_at_time_zero_nothing_is_lost_and_each_graph_has_its_own_time(any_space: SearchSpace) -> None:
    variables = FreeVariables(any_space.node_domain, any_space.edge_domain)
    clean = uniform(variables, 400)
    t = torch.tensor([0.0, 1.0]).repeat(200)
    noised = variables.noised(clean, t, torch.Generator().manual_seed(1))
    assert torch.equal(noised[::2], clean[::2])
    kept = (noised[1::2] == clean[1::2]).float().mean()
    expected = (variables.domain / variables.domain.sum(-1, keepdim=True) * variables.noise).sum(-1).mean()
    assert float(kept) == pytest.approx(float(expected), abs=0.05)


def test_noise_removes_edges_and_adds_none(exact: Any) -> None:
    """So that no budget of edges is exceeded on the way."""
    variables = FreeVariables(exact.nodes, exact.edges)
    clean = uniform(variables, 500)
    noised = variables.noised(clean, torch.rand(500), torch.Generator().manual_seed(1))
    assert bool((noised[:, 2:] <= clean[:, 2:]).all())
    assert bool((noised[:, 2:] < clean[:, 2:]).any())


def test_only_edges_that_are_there_are_certain(exact: Any) -> None:
    """Whatever is certain is so in every clean graph that it can have come from; labels can have been any."""
    variables = FreeVariables(exact.nodes, exact.edges)
    states = torch.tensor([[1, 2, 1, 0], [0, 0, 0, 1]])
    assert variables.certain(states).tolist() == [[False, False, True, False], [False, False, False, True]]
    clean = uniform(variables, 2_000)
    noised = variables.noised(clean, torch.rand(2_000), torch.Generator().manual_seed(1))
    certain = variables.certain(noised)
    assert torch.equal(clean[certain], noised[certain])
    assert bool((clean[:, 2:] != noised[:, 2:])[~certain[:, 2:]].any())


def test_certain_log_probabilities_are_zero_for_the_state_and_none_for_others(exact: Any) -> None:
    variables = FreeVariables(exact.nodes, exact.edges)
    states = torch.tensor(exact.states)
    log_p = variables.log_one_hot(states)
    assert log_p.shape == (24, 4, 3)
    assert not bool(log_p.gather(-1, states[..., None]).any())
    assert int(log_p.isneginf().sum()) == 24 * 4 * 2


# -- draws ------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.0, 10.0), min_size=2, max_size=6).filter(any), st.integers(0, 1000))
def test_draw_never_gives_a_state_of_probability_zero(weights: list[float], seed: int) -> None:
    p = torch.tensor(weights)
    if not bool(p.any()):
        return  # too small for single precision
    drawn = draw(p.expand(50, -1), torch.Generator().manual_seed(seed))
    assert bool((p[drawn] > 0).all())


def test_draw_follows_unnormalised_probabilities(exact: Any) -> None:
    p = torch.tensor([[3.0, 0.0, 1.0, 6.0], [0.0, 2.0, 2.0, 0.0]])
    drawn = draw(p.expand(20_000, 2, 4), torch.Generator().manual_seed(0))
    assert drawn.shape == (20_000, 2)
    exact.assert_distributed(torch.bincount(drawn[:, 0], minlength=4).numpy()[[0, 2, 3]], np.array([3.0, 1.0, 6.0]))
    exact.assert_distributed(torch.bincount(drawn[:, 1], minlength=4).numpy()[1:3], np.array([1.0, 1.0]))


def test_a_space_without_choice_has_no_variables() -> None:
    edges = torch.tensor([True, False]).expand(2, 2, 2).clone()
    edges[0, 1] = torch.tensor([False, True])
    variables = FreeVariables(torch.eye(2, dtype=torch.bool), edges)
    graph = variables.graph(torch.zeros(3, 0, dtype=torch.long))
    assert variables.domain.shape == (0, 2)
    assert graph.labels.tolist() == [[0, 1]] * 3
    assert graph.edges[:, 0, 1].tolist() == [1.0] * 3
    assert variables.states(graph).shape == (3, 0)
