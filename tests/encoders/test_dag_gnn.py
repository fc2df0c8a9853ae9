"""The graph network: what it must not depend on, and what it must see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from archgen import spaces
from archgen.encoders.dag_gnn import DAG, DAGBatch, DAGNetwork
from archgen.encoders.side_by_side import SideBySideLinear, SideBySideNorm
from archgen.graph import Architecture

VOCABULARY = {label: i for i, label in enumerate(("input", "output", "a", "b", "c"))}


def dag(ops: str, edges: tuple[tuple[int, int], ...]) -> DAG:
    return DAG.of(Architecture("test", ("input", *ops, "output"), edges), VOCABULARY)


@pytest.fixture(scope="module")
def network() -> DAGNetwork:
    torch.manual_seed(0)
    return DAGNetwork(len(VOCABULARY), width=16, layers=2, members=3).double().eval()


def test_relabelling_nodes_changes_no_embedding(network: DAGNetwork) -> None:
    """Two orders of one DAG: input feeds a and b, a feeds c, b and c are summed."""
    one = dag("abc", ((0, 1), (0, 2), (1, 3), (2, 4), (3, 4)))
    two = dag("bac", ((0, 2), (0, 1), (2, 3), (1, 4), (3, 4)))
    first, second = network(DAGBatch.of([one])), network(DAGBatch.of([two]))
    torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "other",
    [
        ("bac", ((0, 1), (0, 2), (1, 3), (2, 4), (3, 4))),  # labels at other places
        ("abc", ((0, 1), (0, 2), (1, 3), (1, 4), (3, 4))),  # an edge from elsewhere
        ("abc", ((0, 1), (0, 2), (1, 3), (2, 4), (2, 4), (3, 4))),  # an edge that counts twice
    ],
)
def test_other_graphs_have_other_embeddings(
    network: DAGNetwork, other: tuple[str, tuple[tuple[int, int], ...]]
) -> None:
    one = dag("abc", ((0, 1), (0, 2), (1, 3), (2, 4), (3, 4)))
    first, second = network(DAGBatch.of([one])), network(DAGBatch.of([dag(*other)]))
    assert float((first - second).detach().abs().amax(-1).min()) > 1e-3  # to every member


def test_messages_run_both_ways(network: DAGNetwork) -> None:
    """With the label of the first node of a chain the output's embedding changes, and the other way round."""
    one, two = dag("ab", ((0, 1), (1, 2), (2, 3))), dag("cb", ((0, 1), (1, 2), (2, 3)))
    assert not torch.allclose(network(DAGBatch.of([one])), network(DAGBatch.of([two])))
    batch = DAGBatch.of([one])
    table = network.operation.detach().clone().requires_grad_(True)
    h = table[:, batch.labels]
    for layer in network.layers:
        h = layer(h, network.operation.detach(), batch)
    for end, far in ((0, VOCABULARY["b"]), (3, VOCABULARY["a"])):  # two edges away, by two layers
        (gradient,) = torch.autograd.grad(h[:, end].square().sum(), table, retain_graph=True)
        assert float(gradient[:, far].abs().sum()) > 0


def test_a_graph_is_embedded_alike_alone_and_in_a_batch(network: DAGNetwork) -> None:
    dags = [dag("", ()), dag("abc", ((0, 1), (0, 2), (1, 3), (2, 4), (3, 4))), dag("a", ((0, 1), (1, 2)))]
    together = network(DAGBatch.of(dags))
    apart = torch.cat([network(DAGBatch.of([one])) for one in dags], 1)
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)


def test_places_are_longest_distances() -> None:
    places = dag("abc", ((0, 1), (0, 2), (1, 3), (2, 4), (3, 4))).places
    np.testing.assert_allclose(places, np.array([[0, 1, 1, 2, 3], [3, 2, 1, 1, 0]]).T / 3)


@pytest.mark.parametrize("name", spaces.available())
def test_it_reads_every_space(name: str) -> None:
    space = spaces.load(name)
    vocabulary = {label: i for i, label in enumerate(("input", "output", *space.computing_labels))}
    archs = space.sample(5, np.random.default_rng(0))
    batch = DAGBatch.of([DAG.of(space.computation(arch), vocabulary) for arch in archs])
    embedding = DAGNetwork(len(vocabulary), width=8, layers=1)(batch)
    assert embedding.shape == (1, 5, 24)
    assert bool(embedding.isfinite().all())


def test_members_side_by_side_are_the_layers_of_torch() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 7, 5, dtype=torch.double)
    linear, norm = SideBySideLinear(2, 5, 3).double(), SideBySideNorm(2, 5).double()
    for k in range(2):
        expected = torch.nn.functional.linear(x[k], linear.weight[k].T, linear.bias[k, 0])
        torch.testing.assert_close(linear(x)[k], expected)
        torch.testing.assert_close(norm(x)[k], torch.nn.functional.layer_norm(x[k], (5,)))


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="heads that divide"):
        DAGNetwork(3, width=10, heads=4)
