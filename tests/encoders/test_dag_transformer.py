"""The DAG-masked transformer: equivariance, the mask, and what it must and must not see."""

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archgen.encoders import DAGTransformer
from archgen.encoders.dag_transformer import connected
from archgen.graph import GraphBatch

# 0 -> 1 -> 2, 0 -> 3 -> 4, and 5 alone: 1 and 3 are on no path together
ADJACENCY = torch.zeros(6, 6, dtype=torch.bool)
ADJACENCY[[0, 1, 0, 3], [1, 2, 3, 4]] = True


def graphs(b: int = 3, n: int = 6, k: int = 4, seed: int = 0) -> GraphBatch:
    generator = torch.Generator().manual_seed(seed)
    ops = torch.randn(b, n, k, generator=generator, dtype=torch.double)
    edges = torch.randn(b, n, n, generator=generator, dtype=torch.double).triu(1)
    return GraphBatch(ops, edges, torch.ones(b, n, dtype=torch.bool))


def transformer(adjacency: torch.Tensor = ADJACENCY, layers: int = 2, **arguments: bool) -> DAGTransformer:
    """With weights large enough that everything matters visibly."""
    module = DAGTransformer(4, adjacency, width=16, layers=layers, heads=4, ffn=32, **arguments).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
    return module


def embed(module: DAGTransformer, graph: GraphBatch, t: float = 0.3) -> torch.Tensor:
    with torch.no_grad():
        return module(graph, torch.full((len(graph),), t, dtype=torch.double))


ORDER = torch.tensor([3, 0, 5, 1, 4, 2])


@pytest.mark.parametrize(("positions", "equivariant"), [(False, True), (True, False)])
def test_relabelling_nodes_and_adjacency_relabels_the_embeddings_without_positions(
    positions: bool, equivariant: bool
) -> None:
    graph = graphs()
    one = transformer(positions=positions, edge_values=True)
    other = transformer(ADJACENCY[ORDER][:, ORDER], positions=positions, edge_values=True)
    edges = graph.edges + graph.edges.mT  # relabelled edges need not stay above the diagonal
    whole = GraphBatch(graph.ops, edges, graph.node_mask)
    relabelled = GraphBatch(graph.ops[:, ORDER], edges[:, ORDER][:, :, ORDER], graph.node_mask)
    assert torch.allclose(embed(other, relabelled), embed(one, whole)[:, ORDER], atol=1e-6) == equivariant


@given(st.integers(1, 9), st.data())
def test_nodes_are_connected_where_there_is_a_path(n: int, data: st.DataObject) -> None:
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    chosen = data.draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    adjacency = torch.zeros(n, n, dtype=torch.bool)
    for i, j in chosen:
        adjacency[i, j] = True
    graph = nx.DiGraph(chosen)
    graph.add_nodes_from(range(n))
    closure = nx.transitive_closure(graph, reflexive=True)
    expected = [[closure.has_edge(i, j) or closure.has_edge(j, i) for j in range(n)] for i in range(n)]
    assert connected(adjacency).tolist() == expected


@pytest.mark.parametrize("layers", [1, 2])
def test_a_layer_carries_information_along_paths_only(layers: int) -> None:
    module, graph = transformer(layers=layers), graphs()
    ops = graph.ops.clone()
    ops[:, 1] += 1.0
    before, after = (embed(module, GraphBatch(o, graph.edges, graph.node_mask)) for o in (graph.ops, ops))
    changed = (before - after).abs().amax((0, 2)) > 1e-6
    # one layer: the node's ancestors and descendants; two: theirs too, but never the node on no path
    assert changed.tolist() == [True, True, True, layers > 1, layers > 1, False]


def test_unmasked_nodes_see_every_other() -> None:
    module, graph = transformer(layers=1, masked=False), graphs()
    ops = graph.ops.clone()
    ops[:, 5] += 1.0
    before, after = (embed(module, GraphBatch(o, graph.edges, graph.node_mask)) for o in (graph.ops, ops))
    assert bool(((before - after).abs().amax((0, 2)) > 1e-6).all())


def test_training_and_sampling_see_the_same() -> None:
    module, graph = transformer(), graphs()
    evaluated = embed(module, graph)
    assert torch.equal(embed(module.train(), graph), evaluated)


def test_absent_nodes_do_not_influence_the_others() -> None:
    module, graph, other = transformer(edge_values=True), graphs(), graphs(seed=1)
    mask = graph.node_mask.clone()
    mask[:, 2] = mask[:, 4] = False
    ops = graph.ops.clone()
    ops[:, ~mask[0]] = other.ops[:, ~mask[0]]
    one, two = GraphBatch(graph.ops, graph.edges, mask), GraphBatch(ops, graph.edges, mask)
    assert bool(embed(module, one).isfinite().all())
    torch.testing.assert_close(embed(module, one)[:, mask[0]], embed(module, two)[:, mask[0]])


def test_graphs_of_a_batch_do_not_influence_each_other() -> None:
    module, graph = transformer(edge_values=True), graphs()
    torch.testing.assert_close(embed(module, graph)[1:2], embed(module, graph[1:2]))


@pytest.mark.parametrize("edge_values", [False, True])
def test_labels_time_and_context_matter_and_edges_where_asked(edge_values: bool) -> None:
    module, graph = transformer(edge_values=edge_values), graphs()
    before, t = embed(module, graph), torch.full((3,), 0.3, dtype=torch.double)
    with torch.no_grad():
        changed = {
            "labels": embed(module, GraphBatch(graph.ops.roll(1, -1), graph.edges, graph.node_mask)),
            "time": embed(module, graph, t=0.301),
            "context": module(graph, t, torch.linspace(0, 1, 16, dtype=torch.double).expand(3, -1)),
            "edges": embed(module, GraphBatch(graph.ops, 1 - graph.edges, graph.node_mask)),
            "direction": embed(module, GraphBatch(graph.ops, graph.edges.mT, graph.node_mask)),
        }
    overlooked = [name for name, after in changed.items() if torch.allclose(before, after, atol=1e-4)]
    assert overlooked == ([] if edge_values else ["edges", "direction"])


def test_gradients_are_finite_and_reach_every_parameter() -> None:
    module = DAGTransformer(4, ADJACENCY, width=16, layers=2, heads=4, edge_values=True).double()
    module(graphs(), torch.tensor([0.0, 0.5, 1.0], dtype=torch.double)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in module.parameters())


@pytest.mark.parametrize(("width", "heads"), [(16, 3), (15, 3)])
def test_widths_that_can_not_be_shared_out_are_refused(width: int, heads: int) -> None:
    with pytest.raises(ValueError, match="even width that heads divides"):
        DAGTransformer(4, ADJACENCY, width=width, heads=heads)
