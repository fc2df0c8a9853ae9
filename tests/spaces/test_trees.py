"""`TreeSpace`: the published names of trees, and what is no point of the space."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from archgen import spaces
from archgen.errors import InvalidArchitecture, InvalidSpace, UnknownName
from archgen.graph import GraphBatch
from archgen.spaces import TreeSpace

EXAMPLE = "Arch([0, 1, 1, 2], ['gcn', 'gin', 'cheb', 'fc'])"
NETWORK = {"features": 5, "channels": 4, "classes": 3, "pre": 0, "post": 0, "nodes": 10, "edges": 20}


@pytest.fixture(scope="module")
def trees() -> TreeSpace:
    space = spaces.load("nasbench_graph")
    assert isinstance(space, TreeSpace)
    return space


def test_texts_in_any_order_and_hashes_name_one_architecture(trees: TreeSpace) -> None:
    """The example of the package's README (whose other order of it is a misprint), and its hash by hand: 6 1 2 3 7."""
    arch = trees.parse(EXAMPLE)
    assert trees.format(arch) == EXAMPLE
    assert trees.parse("Arch([0, 1, 2, 1], ['gcn', 'gin', 'fc', 'cheb'])") == arch
    assert trees.parse('  Arch( [0,1,2,1], ["gcn","gin","fc","cheb"] ) ') == arch
    assert trees.hash(arch) == 61237
    assert trees.parse("61237") == arch
    assert arch.edges == ((0, 1), (1, 2), (1, 3), (2, 4), (3, 5), (4, 5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gcn", "expected Arch"),
        ("Arch([0, 1], ['gcn', 'gin'])", "expected 4 links and operations, got 2 and 2"),
        ("Arch([0, 1, 3, 0], ['gcn', 'gin', 'fc', 'fc'])", "link 3 must be from 0 to 2"),
        ("Arch([0, 1, 2, 3], ['gcn', 'gin', 'fc', 'gcm'])", "did you mean 'gcn'"),
        ("Arch([0, 1, 2, 3], ['gcn', 'gin', 'fc', 3])", "operations must be texts"),
        ("Arch([0, 1, 2, 3], ['gcn', 'gin', 'fc'])", "expected 4 links and operations, got 4 and 3"),
        ("Arch([0, 1, 2, 3,], ['gcn', 'gin', 'fc', 'fc'])", "expected Arch"),
        ("Arch([0, 0, 0, 0], ['skip', 'skip', 'skip', 'skip'])", "all 'skip', which computes nothing"),
        ("99999", "not the hash"),
        ("90000", "not the hash"),
        ("88888", "all 'skip'"),
    ],
)
def test_other_texts_are_refused(trees: TreeSpace, text: str, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message):
        trees.parse(text)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (((0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 5), (4, 5)), "exactly one other"),
        (((0, 1), (0, 2), (1, 3), (2, 4), (3, 5)), "published form"),
        (((0, 1), (0, 2), (0, 3), (3, 4), (1, 5), (2, 5), (4, 5)), "published form"),
    ],
)
def test_other_graphs_are_no_points(trees: TreeSpace, edges: tuple[tuple[int, int], ...], message: str) -> None:
    arch = trees.parse("Arch([0, 0, 1, 2], ['gat', 'gcn', 'gin', 'fc'])")
    with pytest.raises(InvalidArchitecture, match=message):
        trees.validate(type(arch)(arch.space, arch.ops, edges))


def test_the_computation_has_no_identities_and_reads_what_they_read(trees: TreeSpace) -> None:
    arch = trees.parse("Arch([0, 1, 2, 2], ['skip', 'gcn', 'gin', 'skip'])")
    computed = trees.computation(arch)
    assert computed.ops == ("input", "gcn", "gin", "output")
    assert computed.edges == ((0, 1), (1, 2), (1, 3), (2, 3))
    twice = trees.computation(trees.parse("Arch([0, 1, 1, 1], ['gcn', 'gin', 'skip', 'skip'])"))
    assert twice.edges.count((1, 3)) == 2


def test_a_draw_that_is_no_tree_gets_sources_with_the_odds_of_its_edges(trees: TreeSpace) -> None:
    """1,000 draws of the third node's source with odds 1 : 1 : 4; six standard errors fail once in 10^8."""
    b, n = 1000, 6
    p = torch.zeros(n, n)
    p[0, 1] = 1.0
    p[:2, 2] = 0.5
    p[0, 3], p[1, 3], p[2, 3] = 0.2, 0.2, 0.5
    p[:4, 4] = 0.25
    ops = trees.encode([trees.parse(EXAMPLE)]).ops.expand(b, -1, -1)
    mask = torch.ones(b, n, dtype=torch.bool)
    none = GraphBatch(ops, torch.zeros(b, n, n), mask)
    mended = trees._mended(none, GraphBatch(ops, p.expand(b, n, n), mask), torch.Generator().manual_seed(0))
    assert bool((mended.edges[:, :, 1:5].sum(1) == 1).all())
    shares = mended.edges[:, :3, 3].mean(0).numpy()
    expected = np.array([1, 1, 4]) / 6
    assert (abs(shares - expected) < 6 * np.sqrt(expected * (1 - expected) / b)).all()
    assert None not in trees.decode(mended)


def test_all_points_are_those_of_the_settings() -> None:
    small = TreeSpace("small", 3, ["gcn", "fc", "skip"], "skip", NETWORK)
    found = set()
    for index in np.ndindex(2, 3, 3, 3, 3):
        if set(index[2:]) != {2}:
            found.add(small.from_choices(dict(zip(small.variables, map(int, index), strict=True))))
    assert found == set(small.enumerate())
    assert small.size == len(found) == len({small.hash(arch) for arch in found})


def test_names_are_those_of_the_package(trees: TreeSpace) -> None:
    """`Arch.valid_hash` of 3,000 random settings; the last test of `nas_bench_graph` compares all points."""
    if find_spec("nas_bench_graph") is None:
        pytest.skip("nas-bench-graph is not installed: pip install 'archgen[graph]'")
    from nas_bench_graph import Arch

    rng = np.random.default_rng(0)
    for _ in range(3000):
        link = [int(rng.integers(i + 1)) for i in range(4)]
        ops = [trees.operations[i] for i in rng.choice([0, 1, 4, 7, 8, 8, 8], size=4)]
        if set(ops) != {"skip"}:
            assert trees.hash(trees.from_tree(link, ops)) == Arch(link, ops).valid_hash(), (link, ops)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": 6}, "expected 2 to 5"),
        ({"operations": ["gcn", "gcn", "skip"]}, "each once"),
        ({"identity": "fcc"}, "'fcc' among them"),
    ],
)
def test_other_descriptions_are_refused(change: dict[str, object], message: str) -> None:
    arguments = {"nodes": 4, "operations": ["gcn", "fc", "skip"], "identity": "skip", **change}
    with pytest.raises(InvalidSpace, match=message):
        TreeSpace("t", network=NETWORK, **arguments)  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="did you mean 'gcn'"):
        TreeSpace("t", 4, ["gcm", "skip"], "skip", NETWORK)
    with pytest.raises(InvalidSpace, match=r"\[tree\] nodes and identity"):
        TreeSpace.from_description({"name": "t", "tree": {"nodes": 4}})


def test_channels_must_be_shared_by_the_heads(trees: TreeSpace) -> None:
    with pytest.raises(InvalidSpace, match="multiple of 4, got 6"):
        trees.count(trees.parse(EXAMPLE), channels=6)
