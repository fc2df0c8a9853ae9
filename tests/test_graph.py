"""Architectures, batches, live nodes and the canonical form."""

import itertools
import json
import pickle

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archgen.errors import InvalidArchitecture
from archgen.graph import Architecture, GraphBatch, canonical_form, live_nodes

Graph = tuple[list[str], dict[tuple[int, int], str]]


@st.composite
def digraphs(draw: st.DrawFn, most_nodes: int = 5, acyclic: bool = False) -> Graph:
    n = draw(st.integers(0, most_nodes))
    labels = draw(st.lists(st.sampled_from("ab"), min_size=n, max_size=n))
    pairs = [(i, j) for i in range(n) for j in range(n) if i < j or (i > j and not acyclic)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return labels, {pair: draw(st.sampled_from("xy")) for pair in chosen}


def relabel(graph: Graph, order: list[int]) -> Graph:
    """Node `i` of the graph becomes node `order[i]`."""
    labels, edges = graph
    moved = [""] * len(labels)
    for i, label in enumerate(labels):
        moved[order[i]] = label
    return moved, {(order[i], order[j]): label for (i, j), label in edges.items()}


def isomorphic(a: Graph, b: Graph) -> bool:
    def to_networkx(graph: Graph) -> nx.DiGraph:
        result = nx.DiGraph()
        result.add_nodes_from((i, {"label": label}) for i, label in enumerate(graph[0]))
        result.add_edges_from((i, j, {"label": label}) for (i, j), label in graph[1].items())
        return result

    def same(x: dict[str, str], y: dict[str, str]) -> bool:
        return x["label"] == y["label"]

    return nx.is_isomorphic(to_networkx(a), to_networkx(b), node_match=same, edge_match=same)


def undirected(pairs: list[tuple[int, int]], n: int) -> Graph:
    return ["a"] * n, {edge: "x" for i, j in pairs for edge in ((i, j), (j, i))}


# -- canonical form ---------------------------------------------------------------------------------------------


@given(digraphs(), st.data())
def test_canonical_form_does_not_change_when_nodes_are_renamed(graph: Graph, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(graph[0]))))
    assert canonical_form(*relabel(graph, order)) == canonical_form(*graph)


@given(digraphs(most_nodes=4), digraphs(most_nodes=4))
def test_canonical_form_is_equal_exactly_for_isomorphic_graphs(a: Graph, b: Graph) -> None:
    assert (canonical_form(*a) == canonical_form(*b)) == isomorphic(a, b)


@given(digraphs(acyclic=True), st.data())
def test_canonical_form_sees_one_changed_edge(graph: Graph, data: st.DataObject) -> None:
    labels, edges = graph
    if not edges:
        return
    pair = data.draw(st.sampled_from(sorted(edges)))
    changed = labels, {**edges, pair: "y" if edges[pair] == "x" else "x"}
    removed = labels, {edge: label for edge, label in edges.items() if edge != pair}
    for other in (changed, removed):
        assert (canonical_form(*other) == canonical_form(*graph)) == isomorphic(other, graph)


def test_canonical_form_partitions_all_digraphs_of_three_nodes_as_isomorphism_does() -> None:
    pairs = list(itertools.permutations(range(3), 2))
    forms = {
        canonical_form(["a"] * 3, {pair: "x" for pair, kept in zip(pairs, mask, strict=True) if kept})
        for mask in itertools.product([False, True], repeat=len(pairs))
    }
    assert len(forms) == 16  # unlabelled digraphs on three nodes, OEIS A000273


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(
            undirected([(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)], 6),
            undirected([(i, (i + 1) % 6) for i in range(6)], 6),
            id="two triangles, a hexagon",
        ),
        pytest.param(
            undirected([(i, j) for i in range(3) for j in range(3, 6)], 6),
            undirected([(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3), (0, 3), (1, 4), (2, 5)], 6),
            id="K33, the prism",
        ),
        pytest.param(  # nodes of one colour that are not equivalent: which of them is singled out first must not matter
            undirected([(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 6), (6, 3)], 7),
            undirected([(i, (i + 1) % 7) for i in range(7)], 7),
            id="a triangle and a square, a heptagon",
        ),
        pytest.param(
            (["a"] * 6, {(i, (i + 1) % 6): "x" for i in range(6)}),
            (["a"] * 6, {(i, 3 * (i // 3) + (i + 1) % 3): "x" for i in range(6)}),
            id="directed six-cycle, two directed three-cycles",
        ),
    ],
)
def test_canonical_form_separates_regular_graphs_that_colour_refinement_can_not(one: Graph, other: Graph) -> None:
    assert not isomorphic(one, other)
    assert canonical_form(*one) != canonical_form(*other)
    rng = np.random.default_rng(0)
    for graph in (one, other):
        for _ in range(10):
            order = rng.permutation(len(graph[0])).tolist()
            assert canonical_form(*relabel(graph, order)) == canonical_form(*graph)


def test_canonical_form_does_not_confuse_a_label_with_its_text() -> None:
    assert canonical_form([1], {}) != canonical_form(["1"], {})
    assert canonical_form([], {}) != canonical_form(["a"], {})


# -- live nodes -------------------------------------------------------------------------------------------------


@given(digraphs(most_nodes=7, acyclic=True))
def test_live_nodes_are_those_on_a_path(graph: Graph) -> None:
    n, edges = len(graph[0]), list(graph[1])
    if n < 2:
        return
    successors = {i: [b for a, b in edges if a == i] for i in range(n)}
    on_path: set[int] = set()

    def walk(path: list[int]) -> None:
        if path[-1] == n - 1:
            on_path.update(path)
        for after in successors[path[-1]]:
            walk([*path, after])

    walk([0])
    assert live_nodes(n, edges, 0, n - 1) == on_path


def test_live_nodes_are_none_without_a_path() -> None:
    assert live_nodes(4, [(0, 1), (2, 3)], 0, 3) == set()


# -- architectures ----------------------------------------------------------------------------------------------

DIAMOND = Architecture("toy", ("input", "conv", "pool", "output"), ((0, 1), (0, 2), (1, 3), (2, 3)))


@pytest.mark.parametrize("edge", [(1, 1), (2, 1), (-1, 1), (0, 4)])
def test_architecture_refuses_an_edge_outside_or_against_the_order(edge: tuple[int, int]) -> None:
    with pytest.raises(InvalidArchitecture, match=rf"edge \({edge[0]}, {edge[1]}\).*expected 0 <= i < j < 4"):
        Architecture("toy", DIAMOND.ops, (edge,))


def test_a_hash_does_not_travel_to_another_process() -> None:
    """Texts have other hashes there."""
    arch = Architecture("s", ("input", "a", "output"), ((0, 1), (1, 2)))
    known = hash(arch)
    assert hash(arch) == known == hash((arch.space, arch.ops, arch.edges))
    arch.__dict__["_hash"] = known + 1  # as if written by another process
    again = pickle.loads(pickle.dumps(arch))
    assert again == arch
    assert hash(again) == known


def test_architecture_is_hashable_and_equal_by_value() -> None:
    assert len({DIAMOND, Architecture("toy", DIAMOND.ops, DIAMOND.edges)}) == 1


def test_architecture_survives_json() -> None:
    assert Architecture.from_json(json.loads(json.dumps(DIAMOND.to_json()))) == DIAMOND


@pytest.mark.parametrize(
    "value",
    [
        {"space": "toy", "ops": ["input"]},
        {"space": "toy", "ops": 3, "edges": []},
        {"space": "toy", "ops": ["a", "b"], "edges": [[0, 1, 2]]},
        {"space": "toy", "ops": ["a", "b"], "edges": [["x", "y"]]},
        {"space": "toy", "ops": ["a", "b"], "edges": [[1, 0]]},
        ["toy"],
    ],
)
def test_architecture_refuses_json_of_another_shape_in_one_line(value: object) -> None:
    with pytest.raises(InvalidArchitecture, match="expected") as caught:
        Architecture.from_json(value)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_to_networkx_keeps_labels_and_edges() -> None:
    graph = DIAMOND.to_networkx()
    assert nx.is_directed_acyclic_graph(graph)
    assert [graph.nodes[i]["op"] for i in range(4)] == list(DIAMOND.ops)
    assert set(graph.edges) == set(DIAMOND.edges)


def test_to_pyg_gives_label_indices_and_edges() -> None:
    data = DIAMOND.to_pyg(["output", "pool", "conv", "input"])
    assert data.x.tolist() == [3, 2, 1, 0]
    assert data.edge_index.T.tolist() == [list(edge) for edge in DIAMOND.edges]
    data.validate()


def test_to_pyg_of_a_graph_without_edges_has_an_empty_edge_index() -> None:
    data = Architecture("toy", ("input", "output"), ()).to_pyg(["input", "output"])
    assert data.edge_index.shape == (2, 0)
    assert data.edge_index.dtype == torch.long


# -- batches ----------------------------------------------------------------------------------------------------


def batch_of(b: int) -> GraphBatch:
    ops = torch.nn.functional.one_hot(torch.arange(3 * b).view(b, 3) % 4, 4).float()
    edges = torch.arange(9 * b).view(b, 3, 3).float()
    return GraphBatch(ops, edges, torch.ones(b, 3, dtype=torch.bool))


def test_batch_slices_and_joins_back_to_itself() -> None:
    batch = batch_of(5)
    joined = GraphBatch.cat([batch[:2], batch[torch.tensor([2, 3, 4])]])
    assert len(joined) == 5
    assert torch.equal(joined.ops, batch.ops)
    assert torch.equal(joined.edges, batch.edges)
    assert torch.equal(joined.node_mask, batch.node_mask)


def test_batch_labels_are_the_most_probable_ones() -> None:
    assert batch_of(2).labels.tolist() == [[0, 1, 2], [3, 0, 1]]
