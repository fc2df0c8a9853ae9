"""NAS-Bench-101 and its family: published sizes, keys and counts, pruning, and moves."""

import itertools
import json

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archgen.errors import InvalidArchitecture, InvalidSpace, UnknownName
from archgen.graph import Architecture, GraphBatch
from archgen.spaces import ModuleSpace
from archgen.spaces.module_graphs import in_order, prune, within

C3, C1, MP = "conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3"
NETWORK = {"stacks": 3, "cells": 3, "channels": 128, "classes": 10, "in_channels": 3, "image_size": 32}


def spec(matrix: list[list[int]], *operations: str) -> str:
    return json.dumps({"matrix": matrix, "operations": ["input", *operations, "output"]})


# the Inception-like module of the published README, and the first row of the published table
INCEPTION = spec(
    [
        [0, 1, 1, 1, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0],
    ],
    *(C1, C3, C3, C3, MP),
)
FIRST = spec(
    [
        [0, 1, 0, 0, 1, 1, 0],
        [0, 0, 1, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 1],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0],
    ],
    *(C3, MP, C3, C3, C1),
)
DIRECT = '{"matrix":[[0,1],[0,0]],"operations":["input","output"]}'


def small(vertices: int = 4, max_edges: int = 6, operations: tuple[str, ...] = (C3, MP)) -> ModuleSpace:
    return ModuleSpace("small", vertices, max_edges, operations, NETWORK)


def raw_batch(space: ModuleSpace, edges: torch.Tensor) -> GraphBatch:
    """Raw modules with the given edges (`b n n`) and the first operation everywhere."""
    b, (n, k) = len(edges), space.node_domain.shape
    labels = torch.tensor([0, *[1] * (n - 2), k - 1]).expand(b, n)
    ops = torch.nn.functional.one_hot(labels, k).float()
    return GraphBatch(ops, edges.float(), torch.ones(b, n, dtype=torch.bool))


# -- how many there are -----------------------------------------------------------------------------------------


def test_there_are_as_many_modules_as_published(modules: ModuleSpace) -> None:
    assert modules.size == 423_624


def test_enumerate_lists_one_point_of_each_class() -> None:
    space = small(5, 7, (C3, C1, MP))
    archs = space.enumerate()
    assert len(archs) == space.size == len({space.canonical(arch) for arch in archs})
    for arch in archs:
        space.validate(arch)
    drawn = {space.canonical(arch) for arch in space.sample(20_000, np.random.default_rng(0))}
    assert drawn <= {space.canonical(arch) for arch in archs}


# -- the published hash -----------------------------------------------------------------------------------------


def test_canonical_is_the_key_of_the_published_table(modules: ModuleSpace) -> None:
    assert modules.canonical(modules.parse(FIRST)) == "00005c142e6f48ac74fdcf73e3439874"


def relabelled(space: ModuleSpace, arch: Architecture, rng: np.random.Generator) -> Architecture:
    """The same module with its vertices in another topological order."""
    graph = nx.DiGraph(arch.edges)
    order = list(nx.lexicographical_topological_sort(graph, key=lambda v: rng.random()))
    place = {v: i for i, v in enumerate(order)}
    return Architecture(
        space.name, tuple(arch.ops[v] for v in order), tuple(sorted((place[i], place[j]) for i, j in arch.edges))
    )


def test_canonical_is_that_of_any_isomorphic_module(modules: ModuleSpace, rng: np.random.Generator) -> None:
    changed = 0
    for arch in modules.sample(300, rng):
        other = relabelled(modules, arch, rng)
        modules.validate(other)
        assert modules.canonical(other) == modules.canonical(arch)
        changed += other != arch
    assert changed > 30


def test_canonical_is_exact_beyond_the_published_limits(rng: np.random.Generator) -> None:
    space = small(6, 15, (C3, C1, MP, "skip_connect"))
    for arch in space.sample(100, rng):
        assert space.canonical(arch) == space.canonical(relabelled(space, arch, rng))


# -- text -------------------------------------------------------------------------------------------------------


def test_parse_prunes(modules: ModuleSpace) -> None:
    matrix = [[0, 1, 1, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
    arch = modules.parse(spec(matrix, C1, C3, MP))  # vertex 2 leads nowhere, nothing feeds vertex 3
    assert arch.ops == ("input", C1, "output")
    assert arch.edges == ((0, 1), (0, 2), (1, 2))
    assert modules.format(arch) == spec([[0, 1, 1], [0, 0, 1], [0, 0, 0]], C1).replace(" ", "")


def test_validate_says_what_is_wrong(modules: ModuleSpace) -> None:
    wrong = {
        "one of 'other'": Architecture("other", ("input", "output"), ((0, 1),)),
        "must be input and output": Architecture("nasbench101", (C3, "output"), ((0, 1),)),
        "unknown operation": Architecture("nasbench101", ("input", "nor", "output"), ((0, 1), (1, 2))),
        "in order, each once": Architecture("nasbench101", ("input", "output"), ((0, 1), (0, 1))),
        r"vertices \[1\] are on no path": Architecture("nasbench101", ("input", C3, "output"), ((0, 1), (0, 2))),
        r"vertices \[0, 1\] are on no path": Architecture("nasbench101", ("input", "output"), ()),
    }
    for message, arch in wrong.items():
        with pytest.raises(InvalidArchitecture, match=message):
            modules.validate(arch)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('{"matrix":[[0,0],[0,0]],"operations":["input","output"]}', "no path leads", id="cut"),
        pytest.param(FIRST.replace(MP, "maxpool"), "did you mean 'maxpool3x3'", id="operation"),
        pytest.param(
            spec([[int(i < j) for j in range(7)] for i in range(7)], *[C3] * 5), "at most 9 edges", id="edges"
        ),
        pytest.param(
            spec([[int(j == i + 1) for j in range(8)] for i in range(8)], *[C3] * 6), "2 to 7 vertices", id="vertices"
        ),
    ],
)
def test_parse_refuses_modules_that_are_no_points(modules: ModuleSpace, text: str, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message) as caught:
        modules.parse(text)
    assert "\n" not in str(caught.value)


# -- encodings --------------------------------------------------------------------------------------------------


@given(bits=st.integers(0, 2**21 - 1), labels=st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_decoding_a_raw_module_is_choosing_and_pruning_it(modules: ModuleSpace, bits: int, labels: list[int]) -> None:
    """The vectorised pruning of `decode` and the plain one of `from_choices` agree, also in what they refuse."""
    choices = {f"{i}->{j}": bits >> e & 1 for e, (i, j) in enumerate(modules.pairs)}
    choices |= {f"operation {v}": label for v, label in enumerate(labels, start=1)}
    edges = torch.zeros(1, 7, 7)
    for e, (i, j) in enumerate(modules.pairs):
        edges[0, i, j] = bits >> e & 1
    batch = raw_batch(modules, edges)
    batch.ops[0, 1:-1] = torch.nn.functional.one_hot(torch.tensor(labels) + 1, 5)
    try:
        expected = modules.from_choices(choices)
    except InvalidArchitecture:
        expected = None
    assert modules.decode(batch) == [expected]


def test_a_point_fills_the_first_slots_and_the_last(modules: ModuleSpace) -> None:
    batch = modules.encode([modules.parse(spec([[0, 1, 1], [0, 0, 1], [0, 0, 0]], MP))])
    assert batch.labels.tolist() == [[0, 3, 1, 1, 1, 1, 4]]
    assert batch.edges[0].nonzero().tolist() == [[0, 1], [0, 6], [1, 6]]
    choices = modules.to_choices(modules.decode(batch)[0])  # type: ignore[arg-type]
    assert {name for name, value in choices.items() if value} == {"0->1", "0->6", "1->6", "operation 1"}


def test_edges_that_run_backwards_do_not_decode(modules: ModuleSpace) -> None:
    batch = modules.encode([modules.parse(DIRECT)] * 2)
    batch.edges[1, 3, 2] = 1.0
    assert modules.decode(batch) == [modules.parse(DIRECT), None]


def test_sampling_is_that_of_uniform_raw_modules() -> None:
    """Chi-square against the exact distribution on three slots; fails by chance less than once in 10^6."""
    space, n = small(3, 3, (C3, MP)), 20_000
    weights: dict[str, float] = {}
    for a, b, c, op in itertools.product([0, 1], [0, 1], [0, 1], (C3, MP)):
        try:
            arch = space.from_graph(
                [op], [pair for pair, s in zip([(0, 1), (0, 2), (1, 2)], (a, b, c), strict=True) if s]
            )
        except InvalidArchitecture:
            continue
        weights[space.format(arch)] = weights.get(space.format(arch), 0.0) + 1.0
    drawn = [space.format(arch) for arch in space.sample(n, np.random.default_rng(0))]
    expected = {text: n * w / sum(weights.values()) for text, w in weights.items()}
    assert set(drawn) == set(expected)
    assert sum((drawn.count(text) - e) ** 2 / e for text, e in expected.items()) < 37  # 4 degrees of freedom


def test_projection_keeps_the_labels_and_every_graph_that_encode_gives(
    modules: ModuleSpace, rng: np.random.Generator
) -> None:
    """Raw modules, and encoded ones among them."""
    noise = torch.Generator().manual_seed(0)
    p = torch.full((64, 7, 7), 0.4).triu(1)
    raw = raw_batch(modules, torch.rand(64, 7, 7, generator=noise) < p)
    encoded = modules.encode(modules.sample(64, rng))
    batch = GraphBatch.cat([raw, encoded])
    assert 8 < modules.decode(raw).count(None) < 56
    projected = modules.project(batch, GraphBatch(batch.ops, p.repeat(2, 1, 1), batch.node_mask), generator=noise)
    after = modules.decode(projected)
    assert None not in after
    assert torch.equal(projected.ops, batch.ops)
    assert torch.equal(projected.edges[64:], encoded.edges)
    pruned = prune(projected.edges > 0.5)
    assert torch.equal(pruned, projected.edges > 0.5)  # no dead edge is left


def test_projection_gives_graphs_as_encode_does_where_they_are_near_one(modules: ModuleSpace) -> None:
    """One stray edge is taken out again where the probabilities say that it does not belong."""
    archs = [arch for arch in modules.sample(200, np.random.default_rng(0)) if len(arch.ops) < 7]
    clean = modules.encode(archs)
    drawn = GraphBatch(clean.ops, clean.edges.clone(), clean.node_mask)
    drawn.edges[:, 0, 5] = 1.0  # to the last slot before the output, which is dead
    likely = GraphBatch(clean.ops, (0.02 + 0.96 * clean.edges).triu(1), clean.node_mask)
    projected = modules.project(drawn, likely, generator=torch.Generator().manual_seed(0))
    after = modules.decode(projected)
    assert len(archs) > 20
    edges = projected.edges > 0.5
    assert bool((within(edges, 9) & in_order(edges)).all())
    assert np.mean([new == old for new, old in zip(after, archs, strict=True)]) > 0.5


# -- changing -----------------------------------------------------------------------------------------------------


def test_the_module_without_vertices_has_neighbours_and_mutants(modules: ModuleSpace, rng: np.random.Generator) -> None:
    direct = modules.parse(DIRECT)
    near = modules.neighbours(direct)
    assert [arch.ops[1] for arch in near] == [C3, C1, MP]
    assert all(arch.edges == ((0, 1), (0, 2), (1, 2)) for arch in near)
    assert all(direct in modules.neighbours(arch) for arch in near)
    assert {len(modules.mutate(direct, rng).ops) for _ in range(40)} > {3}


def test_mutation_reaches_every_size(modules: ModuleSpace, rng: np.random.Generator) -> None:
    arch, sizes = modules.parse(INCEPTION), set()
    for _ in range(300):
        arch = modules.mutate(arch, rng)
        sizes.add(len(arch.ops))
    assert sizes >= {3, 4, 5, 6}


# -- published counts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "params"), [(INCEPTION, 2_694_282), (FIRST, 8_555_530)])
def test_parameters_are_the_published_trainable_parameters(modules: ModuleSpace, text: str, params: int) -> None:
    assert modules.count(modules.parse(text))["params"] == params


def test_network_arguments_are_checked(modules: ModuleSpace) -> None:
    arch = modules.parse(FIRST)
    for use in (modules.build, modules.count):
        with pytest.raises(UnknownName, match="did you mean 'channels'"):
            use(arch, chanels=4)
        with pytest.raises(InvalidSpace, match="channels of the network must be at least 4, got 3"):
            use(arch, channels=3)
        with pytest.raises(InvalidSpace, match="stacks of the network must be at least 1, got 0"):
            use(arch, stacks=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": 8}, "vertices = 8: expected 3 to 7"),
        ({"max_edges": 2}, "max_edges = 2: a chain of 4 needs 3"),
        ({"operations": ()}, "at least one, each named once"),
        ({"operations": (C3, C3)}, "at least one, each named once"),
    ],
)
def test_a_space_that_can_not_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        small(**change)  # type: ignore[arg-type]


def test_a_description_with_a_gap_names_it(modules: ModuleSpace) -> None:
    with pytest.raises(InvalidSpace, match="'module'"):
        ModuleSpace.from_description({"name": "x"})
    with pytest.raises(UnknownName, match="did you mean 'maxpool3x3'"):
        small(operations=("maxpool",))
