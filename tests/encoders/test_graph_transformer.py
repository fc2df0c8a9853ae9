"""The graph transformer: equivariance, masks, and what it must not overlook."""

import pytest
import torch

from archgen.encoders import GraphTransformer
from archgen.graph import GraphBatch


def graphs(b: int = 3, n: int = 6, k: int = 4, seed: int = 0) -> GraphBatch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(k, (b, n), generator=generator)
    edges = (torch.rand(b, n, n, generator=generator) < 0.5).float().triu(1)
    return GraphBatch(torch.nn.functional.one_hot(labels, k).float(), edges, torch.ones(b, n, dtype=torch.bool))


def transformer(positions: bool) -> GraphTransformer:
    """With weights large enough that edges matter visibly."""
    module = GraphTransformer(labels=4, nodes=6, width=16, layers=2, heads=4, positions=positions).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    return module


def embed(module: GraphTransformer, graph: GraphBatch, t: float = 0.3) -> torch.Tensor:
    double = GraphBatch(graph.ops.double(), graph.edges.double(), graph.node_mask)
    with torch.no_grad():
        return module(double, torch.full((len(graph),), t, dtype=torch.double))


def permuted(graph: GraphBatch, order: torch.Tensor) -> GraphBatch:
    return GraphBatch(graph.ops[:, order], graph.edges[:, order][:, :, order], graph.node_mask[:, order])


def test_without_positions_relabelling_the_nodes_relabels_the_embeddings() -> None:
    module, graph, order = transformer(positions=False), graphs(), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(embed(module, permuted(graph, order)), embed(module, graph)[:, order])


def test_with_positions_the_order_matters() -> None:
    module, graph, order = transformer(positions=True), graphs(), torch.tensor([3, 0, 5, 1, 4, 2])
    assert not torch.allclose(embed(module, permuted(graph, order)), embed(module, graph)[:, order], atol=1e-3)


@pytest.mark.parametrize("positions", [False, True])
def test_absent_nodes_do_not_influence_the_others(positions: bool) -> None:
    module, graph = transformer(positions), graphs()
    mask = graph.node_mask.clone()
    mask[:, 4:] = False
    other = graphs(seed=1)
    ops, edges = graph.ops.clone(), graph.edges.clone()
    ops[:, 4:] = other.ops[:, 4:]
    edges[:, :, 4:], edges[:, 4:] = other.edges[:, :, 4:], other.edges[:, 4:]
    one, two = GraphBatch(graph.ops, graph.edges, mask), GraphBatch(ops, edges, mask)
    torch.testing.assert_close(embed(module, one)[:, :4], embed(module, two)[:, :4])
    cut = GraphBatch(graph.ops[:, :4], graph.edges[:, :4, :4], mask[:, :4])
    torch.testing.assert_close(embed(module, one)[:, :4], embed(module, cut))


def test_graphs_of_a_batch_do_not_influence_each_other() -> None:
    module, graph = transformer(positions=True), graphs()
    torch.testing.assert_close(embed(module, graph)[1:2], embed(module, graph[1:2]))


def test_labels_edges_their_direction_and_time_all_matter() -> None:
    module, graph = transformer(positions=False), graphs()
    before = embed(module, graph)
    changed = {
        "labels": embed(module, GraphBatch(graph.ops.roll(1, -1), graph.edges, graph.node_mask)),
        "edges": embed(module, GraphBatch(graph.ops, 1 - graph.edges, graph.node_mask)),
        "direction": embed(module, GraphBatch(graph.ops, graph.edges.mT, graph.node_mask)),
        "time": embed(module, graph, t=0.4),
    }
    assert [name for name, after in changed.items() if torch.allclose(before, after, atol=1e-4)] == []


def test_gradients_are_finite_and_reach_every_parameter() -> None:
    module = GraphTransformer(labels=4, nodes=6, width=16, layers=2, heads=4)
    module(graphs(), torch.tensor([0.0, 0.5, 1.0])).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in module.parameters())
