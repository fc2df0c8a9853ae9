"""Networks of graph convolutions: shapes of the published layers, symmetry, counts."""

from __future__ import annotations

import pytest
import torch

from archgen.networks import GRAPH_OPERATIONS, TreeNetwork, count_network, count_tree_network

EDGES = torch.tensor([[0, 1, 1, 2, 3, 4, 0], [1, 0, 2, 1, 4, 3, 3]])
SIZES = {"features": 6, "channels": 8, "classes": 3}


def network(link: str, *operations: str, pre: int = 0, post: int = 1) -> TreeNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TreeNetwork(list(map(int, link)), operations, identity="skip", pre=pre, post=post, **SIZES).eval()


@pytest.mark.parametrize("name", list(GRAPH_OPERATIONS))
@pytest.mark.parametrize("pre", [0, 2])
def test_renaming_the_nodes_of_a_graph_renames_the_logits(name: str, pre: int) -> None:
    built = network("0112", name, name, "gcn", "fc", pre=pre)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    order = torch.tensor([3, 0, 4, 1, 2])
    place = torch.argsort(order)
    with torch.no_grad():
        logits, renamed = built(x, EDGES), built(x[order], place[EDGES])
    assert logits.shape == (5, 3)
    torch.testing.assert_close(renamed, logits[order])


@pytest.mark.parametrize("name", sorted(set(GRAPH_OPERATIONS) - {"fc", "skip"}))
def test_convolutions_look_at_neighbours_and_layers_do_not(name: str) -> None:
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    other = x.clone()
    other[1] += 1
    with torch.no_grad():
        for operation, expected in ((name, {0, 1, 2}), ("fc", {1})):
            built = network("0000", operation, "fc", "fc", "fc")
            changed = (built(x, EDGES) != built(other, EDGES)).any(1).nonzero()[:, 0].tolist()
            assert set(changed) == expected


def test_what_reads_raw_features_is_not_normalised_and_identities_pass_them_on() -> None:
    built = network("0122", "skip", "fc", "fc", "skip")
    assert built.raw == {0, 1}
    assert built.leaves == [3, 4]
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        first, third = built.operations[1].layer.layer, built.operations[2].layer.layer
        read = [before(first(x)) for before in (built.before[2], built.before[3])]
        joined = torch.relu(torch.cat([third(read[0]), read[1]], 1))
        expected = built.post[1](built.post[0](joined))
        torch.testing.assert_close(built(x), expected)


def test_counts_by_hand() -> None:
    """A chain of linear layers on 10 nodes, then a convolution with 20 edges."""
    sizes = {**SIZES, "pre": 0, "post": 0, "nodes": 10, "edges": 20, "identity": "skip"}
    counted = count_tree_network([0, 1, 2, 3], ["fc"] * 4, **sizes)  # type: ignore[arg-type]
    assert counted["params"] == (6 * 8 + 8) + 3 * (64 + 8) + 4 * 16 + (8 * 3 + 3)
    layers = 10 * (6 * 8 + 3 * 64 + 8 * 3)
    assert counted["flops"] == layers + 10 * (3 * 8 + 8)
    convolved = count_tree_network([0, 1, 2, 3], ["fc", "fc", "fc", "gcn"], **sizes)  # type: ignore[arg-type]
    assert convolved["flops"] == counted["flops"] + (20 + 10) * 8
    assert convolved["params"] == counted["params"]


@pytest.mark.parametrize("name", list(GRAPH_OPERATIONS))
@pytest.mark.parametrize("pre", [0, 1])
def test_counts_are_those_of_the_network_where_there_are_no_edges(name: str, pre: int) -> None:
    built = network("0112", name, name, "gcn", "fc", pre=pre)
    counted = count_network(built, torch.zeros(7, 6))
    sizes = {**SIZES, "pre": pre, "post": 1, "nodes": 7, "edges": 0, "identity": "skip"}
    expected = count_tree_network([0, 1, 1, 2], [name, name, "gcn", "fc"], **sizes)  # type: ignore[arg-type]
    assert {metric: counted[metric] for metric in expected} == expected
