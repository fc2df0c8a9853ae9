"""The graph transformer: equivariance, masks, and what it must not overlook."""

import pytest
import torch

from archgen.encoders import GraphTransformer
from archgen.encoders.graph_transformer import reachable
from archgen.graph import GraphBatch


def graphs(b: int = 3, n: int = 6, k: int = 4, seed: int = 0) -> GraphBatch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(k, (b, n), generator=generator)
    edges = (torch.rand(b, n, n, generator=generator) < 0.5).float().triu(1)
    return GraphBatch(torch.nn.functional.one_hot(labels, k).float(), edges, torch.ones(b, n, dtype=torch.bool))


def transformer(positions: bool, structure: bool = False) -> GraphTransformer:
    """With weights large enough that edges matter visibly."""
    module = GraphTransformer(4, 6, width=16, layers=2, heads=4, positions=positions, structure=structure)
    module = module.double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    return module


def embed(
    module: GraphTransformer, graph: GraphBatch, t: float = 0.3, context: torch.Tensor | None = None
) -> torch.Tensor:
    double = GraphBatch(graph.ops.double(), graph.edges.double(), graph.node_mask)
    with torch.no_grad():
        return module(double, torch.full((len(graph),), t, dtype=torch.double), context)


def permuted(graph: GraphBatch, order: torch.Tensor) -> GraphBatch:
    return GraphBatch(graph.ops[:, order], graph.edges[:, order][:, :, order], graph.node_mask[:, order])


@pytest.mark.parametrize("structure", [False, True])
@pytest.mark.parametrize("with_context", [False, True])
def test_without_positions_relabelling_the_nodes_relabels_the_embeddings(structure: bool, with_context: bool) -> None:
    module, graph, order = transformer(False, structure), graphs(), torch.tensor([3, 0, 5, 1, 4, 2])
    context = torch.randn(3, 16, dtype=torch.double) if with_context else None
    relabelled = embed(module, permuted(graph, order), context=context)
    torch.testing.assert_close(relabelled, embed(module, graph, context=context)[:, order])


def test_the_context_reaches_each_node_of_its_own_graph_only() -> None:
    module, graph = transformer(positions=True), graphs()
    context = torch.zeros(3, 16, dtype=torch.double)
    torch.testing.assert_close(embed(module, graph, context=context), embed(module, graph))
    context[1] = torch.linspace(-1.0, 1.0, 16)  # layer norms would not see a constant
    moved = (embed(module, graph, context=context) - embed(module, graph)).abs().amax(-1)
    assert bool((moved[1] > 1e-3).all())
    assert not bool(moved[[0, 2]].any())


def test_with_positions_the_order_matters() -> None:
    module, graph, order = transformer(positions=True), graphs(), torch.tensor([3, 0, 5, 1, 4, 2])
    assert not torch.allclose(embed(module, permuted(graph, order)), embed(module, graph)[:, order], atol=1e-3)


@pytest.mark.parametrize("structure", [False, True])
@pytest.mark.parametrize("positions", [False, True])
def test_absent_nodes_do_not_influence_the_others(positions: bool, structure: bool) -> None:
    module, graph = transformer(positions, structure), graphs()
    mask = graph.node_mask.clone()
    mask[:, 4:] = False
    other = graphs(seed=1)
    ops, edges = graph.ops.clone(), graph.edges.clone()
    ops[:, 4:] = other.ops[:, 4:]
    edges[:, :, 4:], edges[:, 4:] = other.edges[:, :, 4:], other.edges[:, 4:]
    one, two = GraphBatch(graph.ops, graph.edges, mask), GraphBatch(ops, edges, mask)
    torch.testing.assert_close(embed(module, one)[:, :4], embed(module, two)[:, :4])
    if not structure:  # the number of edges is given as a share of the largest number of nodes
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


def test_structure_tells_apart_what_one_layer_of_attention_does_not() -> None:
    """The last node's embedding, one layer deep, sees edges into it, but not whether a path leads to these."""
    ops = torch.nn.functional.one_hot(torch.zeros(2, 6, dtype=torch.long), 4).float()
    edges = torch.zeros(2, 6, 6)
    for graph, path in enumerate(([(0, 1), (1, 2), (2, 5)], [(0, 1), (1, 3), (2, 5)])):
        for i, j in path:
            edges[graph, i, j] = 1.0
    both = GraphBatch(ops, edges, torch.ones(2, 6, dtype=torch.bool))
    gaps = []
    for structure in (False, True):
        module = GraphTransformer(4, 6, width=16, layers=1, heads=4, structure=structure).double().eval()
        last = embed(module, both)[:, 5]
        gaps.append(float((last[0] - last[1]).abs().max()))
    assert gaps[0] < 1e-12 < 1e-6 < gaps[1]


def test_reachable_nodes_are_those_at_the_end_of_a_path() -> None:
    edges = torch.zeros(1, 6, 6)
    for i, j in ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5)):
        edges[0, i, j] = 1.0
    assert torch.equal(reachable(edges)[0], torch.ones(6, 6).triu(1))
    edges[0, 2, 3] = 0.0
    assert reachable(edges)[0, :3, 3:].sum() == 0
    random = graphs(b=20).edges
    closure = torch.stack([sum((torch.matrix_power(g, p) for p in range(1, 6)), g) for g in random]) > 0
    assert torch.equal(reachable(random).bool(), closure)


@pytest.mark.parametrize("structure", [False, True])
def test_gradients_are_finite_and_reach_every_parameter(structure: bool) -> None:
    module = GraphTransformer(labels=4, nodes=6, width=16, layers=2, heads=4, structure=structure)
    module(graphs(), torch.tensor([0.0, 0.5, 1.0])).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in module.parameters())
