"""DARTS and its family: published genotypes and counts, their graphs, and draws of the sources."""

import ast
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archgen.errors import InvalidArchitecture, InvalidSpace, UnknownName
from archgen.graph import Architecture, GraphBatch
from archgen.spaces import GenotypeSpace
from archgen.spaces.genotype_function import Cell

NETWORK = {"cells": 20, "channels": 36, "classes": 10, "in_channels": 3, "image_size": 32, "auxiliary": 0}
CONCAT = "[2, 3, 4, 5]"
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
TINY = {"none": "zero", "max_pool_3x3": "maximum", "avg_pool_3x3": "linear", "skip_connect": "identity"}
TINY |= {"sep_conv_3x3": "weighted"}


# -- the published text -----------------------------------------------------------------------------------------


def test_a_genotype_comes_back_with_each_nodes_inputs_in_order(darts: GenotypeSpace) -> None:
    text = darts.format(darts.parse(DARTS_V2))
    normal, reduce = darts.cells(darts.parse(DARTS_V2))
    assert normal[4:] == (("skip_connect", 0), ("sep_conv_3x3", 1), ("skip_connect", 0), ("dil_conv_3x3", 2))
    assert reduce[2:4] == (("max_pool_3x3", 1), ("skip_connect", 2))
    assert darts.format(darts.parse(text)) == text
    assert text.startswith("Genotype(normal=[('sep_conv_3x3', 0), ")
    assert text.endswith(f"reduce_concat={CONCAT})")


def test_every_published_genotype_is_a_point(darts: GenotypeSpace, tables: Path) -> None:
    texts = pd.read_parquet(tables / "darts" / "accuracy_1000.parquet")["arch"]
    assert len(texts) == 1_000
    for text in texts:
        cells = [ast.literal_eval(text.split(f"{name}=")[1].split("]")[0] + "]") for name in ("normal", "reduce")]
        arch = darts.parse(text)
        for given_cell, cell in zip(cells, darts.cells(arch), strict=True):
            for i in range(0, 8, 2):
                assert Counter(given_cell[i : i + 2]) == Counter(cell[i : i + 2])
        assert darts.parse(darts.format(arch)) == arch


NASNET = (
    "Genotype(normal=[('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 0), ('sep_conv_3x3', 0), "
    "('avg_pool_3x3', 1), ('skip_connect', 0), ('avg_pool_3x3', 0), ('avg_pool_3x3', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 1)], normal_concat=[2, 3, 4, 5, 6], reduce=[('sep_conv_5x5', 1), ('skip_connect', 0)], "
    "reduce_concat=[2])"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            DARTS_V2.replace("'sep_conv_3x3'", "'sep_conv'", 1),
            "unknown operation of darts 'sep_conv': did you",
            id="operation",
        ),
        pytest.param(NASNET, "normal: expected 8 inputs, two for each of 4 nodes, got 10", id="five nodes"),
    ],
)
def test_parse_refuses_genotypes_of_other_spaces(darts: GenotypeSpace, text: str, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message) as caught:
        darts.parse(text)
    assert "\n" not in str(caught.value)


# -- the graph --------------------------------------------------------------------------------------------------


def test_the_graph_of_a_genotype(darts: GenotypeSpace, cut: Callable[..., Cell]) -> None:
    """Nodes 0 and 1 are the inputs, 2 to 9 the operations of the normal cell, 10 to 17 of the other, 18 the output."""
    arch = darts.from_cells(cut(n3_0=("sep_conv_3x3", 2)), cut(n5_1=("max_pool_3x3", 3), n5_0=("avg_pool_3x3", 4)))
    assert arch.ops[:2] == ("c_{k-2}", "c_{k-1}")
    assert arch.ops[5] == "sep_conv_3x3"  # `none` reads source 0 and so comes first
    assert (3, 5) in arch.edges  # from the second operation of the first node
    assert arch.ops[16:18] == ("max_pool_3x3", "avg_pool_3x3")
    assert {(13, 16), (15, 17), (16, 17), (17, 18)} < set(arch.edges)
    assert len(arch.edges) == 16 + 8 + 8


def test_there_are_as_many_points_as_pairs_of_pairs(darts: GenotypeSpace) -> None:
    ways = [len(list(itertools.combinations_with_replacement(range(8 * sources), 2))) for sources in (2, 3, 4, 5)]
    assert darts.size == int(np.prod(ways, dtype=object)) ** 2
    tiny = GenotypeSpace("tiny", 1, TINY, NETWORK)
    cells = itertools.product(itertools.product(tiny.operations, range(2)), repeat=2)
    assert tiny.size == len({tiny.from_cells(cell, cell) for cell in cells}) ** 2


def test_validate_says_what_is_wrong(darts: GenotypeSpace, cut: Callable[..., Cell]) -> None:
    arch = darts.parse(DARTS_V2)
    swapped = list(arch.ops)
    swapped[2], swapped[3] = "dil_conv_3x3", "dil_conv_3x3"
    wrong = {
        "one of 'other'": Architecture("other", arch.ops, arch.edges),
        "expected 19 nodes": Architecture("darts", (*arch.ops, "output"), arch.edges),
        "first and output last": Architecture("darts", ("input", *arch.ops[1:]), arch.edges),
        "did you mean 'none'": Architecture("darts", (*arch.ops[:2], "non", *arch.ops[3:]), arch.edges),
        "one source for each of 16": Architecture("darts", arch.ops, arch.edges[1:]),
        r"edge \(0, 18\) can not": Architecture("darts", arch.ops, (*arch.edges, (0, 18))),
        "must be in order": Architecture("darts", arch.ops, arch.edges[::-1]),
    }
    for message, bad in wrong.items():
        with pytest.raises(InvalidArchitecture, match=message):
            darts.validate(bad)
    unsorted = Architecture("darts", (*arch.ops[:2], "sep_conv_5x5", "sep_conv_3x3", *arch.ops[4:]), arch.edges)
    darts.validate(unsorted)  # sources 0 and 1: the source comes first
    both = darts.from_cells([("sep_conv_5x5", 1), ("sep_conv_3x3", 1), *cut()[2:]], cut())
    with pytest.raises(InvalidArchitecture, match="must be in order"):
        darts.validate(Architecture("darts", (*both.ops[:2], *both.ops[3:1:-1], *both.ops[4:]), both.edges))


@given(data=st.data())
def test_the_inputs_of_a_node_are_unordered(darts: GenotypeSpace, data: st.DataObject) -> None:
    choices = {name: data.draw(st.integers(0, len(values) - 1)) for name, values in darts.variables.items()}
    arch = darts.from_choices(choices)
    darts.validate(arch)
    for first, second in [("normal 2.0", "normal 2.1"), ("reduce 4.0", "reduce 4.1")]:
        for part in ("operation", "source"):
            a, b = f"{first} {part}", f"{second} {part}"
            choices[a], choices[b] = choices[b], choices[a]
    assert darts.from_choices(choices) == arch


# -- sources given that there is one ----------------------------------------------------------------------------


def test_sources_are_drawn_from_independent_edges_given_that_one_is_there(darts: GenotypeSpace) -> None:
    """Exact conditional frequencies of five sources; fails by chance once in 10^6 (binomial, five deviations)."""
    n, noise = 20_000, torch.Generator().manual_seed(0)
    p = torch.tensor([0.7, 0.2, 0.5, 0.1, 0.4])
    start = darts.encode([darts.parse(DARTS_V2)])
    batch = GraphBatch(*(t.expand(n, *t.shape[1:]).clone() for t in (start.ops, start.edges, start.node_mask)))
    sources, target = [0, 1, 3, 5, 7], 8  # of the fourth node of the normal cell
    probabilities = GraphBatch(batch.ops, batch.edges.clone(), batch.node_mask)
    probabilities.edges[:, sources, target] = p
    batch.edges[:, sources, target] = (torch.rand(n, 5, generator=noise) < p).float()
    one = batch.edges[:, sources, target].sum(1) == 1
    projected = darts.project(batch, probabilities, generator=noise)
    assert None not in darts.decode(projected)
    assert torch.equal(projected.edges[one], batch.edges[one])
    others = torch.ones(19, 19, dtype=torch.bool)
    others[sources, target] = False
    assert torch.equal(projected.edges[:, others], batch.edges[:, others])
    odds = p / (1 - p)
    expected = odds / odds.sum()
    frequency = projected.edges[:, sources, target].mean(0)
    assert bool(((frequency - expected).abs() < 5 * (expected * (1 - expected) / n).sqrt()).all())


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_certain_probabilities_still_give_one_source(darts: GenotypeSpace, p: float) -> None:
    start = darts.encode([darts.parse(DARTS_V2)])
    free = darts.edge_domain.all(-1)
    start.edges[0, free] = p
    projected = darts.project(start, start, generator=torch.Generator().manual_seed(0))
    assert None not in darts.decode(projected)


def test_graphs_that_are_no_genotype_do_not_decode(darts: GenotypeSpace) -> None:
    arch = darts.parse(DARTS_V2)
    batch = darts.encode([arch] * 4)
    batch.edges[1, 0, 18] = 1.0  # an edge that no genotype has
    batch.edges[2, 2, 3] = 0.0  # a fixed one is missing
    batch.edges[3, 0, 8] = 1 - batch.edges[3, 0, 8]  # no source, or two
    assert darts.decode(batch) == [arch, None, None, None]


# -- functions --------------------------------------------------------------------------------------------------


def test_simplify_cuts_both_cells_and_the_canonical_form_does_not_see_it(
    darts: GenotypeSpace, cut: Callable[..., Cell]
) -> None:
    loose = cut(n3_0=("none", 1), n4_0=("sep_conv_3x3", 3), n5_0=("sep_conv_3x3", 0))
    clean = cut(n5_0=("sep_conv_3x3", 0))
    arch = darts.from_cells(loose, loose)
    assert darts.simplify(arch) == darts.from_cells(clean, clean) != arch
    assert darts.canonical(arch) == darts.canonical(darts.from_cells(clean, clean))


def test_the_canonical_form_knows_which_cell_is_which(darts: GenotypeSpace, cut: Callable[..., Cell]) -> None:
    """An identity passes a node on with stride 1; on the inputs of a reduction cell it has weights."""
    through = cut(n2_0=("skip_connect", 1), n3_0=("sep_conv_3x3", 2))
    direct = cut(n2_0=("skip_connect", 1), n3_0=("sep_conv_3x3", 1))
    assert darts.canonical(darts.from_cells(through, cut())) == darts.canonical(darts.from_cells(direct, cut()))
    assert darts.canonical(darts.from_cells(cut(), through)) != darts.canonical(darts.from_cells(cut(), direct))
    assert darts.canonical(darts.from_cells(direct, cut())) != darts.canonical(darts.from_cells(cut(), direct))


def test_computation_leaves_out_what_is_cut(darts: GenotypeSpace, cut: Callable[..., Cell]) -> None:
    dag = darts.computation(darts.from_cells(cut(n3_0=("sep_conv_3x3", 2)), cut(n4_1=("max_pool_3x3", 0))))
    assert dag.space == "darts"
    assert dag.ops == ("input", "c_{k-2}", "reduce:max_pool_3x3", "output")
    assert dag.edges == ((0, 1), (1, 2), (2, 3))


# -- published counts -------------------------------------------------------------------------------------------


def test_parameters_of_the_published_cell(darts: GenotypeSpace) -> None:
    """3.349342 M in the published logs of DARTS_V2, without the auxiliary head."""
    assert darts.count(darts.parse(DARTS_V2))["params"] == 3_349_342


def test_network_arguments_are_checked(darts: GenotypeSpace) -> None:
    arch = darts.parse(DARTS_V2)
    for use in (darts.build, darts.count):
        with pytest.raises(UnknownName, match="did you mean 'channels'"):
            use(arch, chanels=4)
        with pytest.raises(InvalidSpace, match="cells of the network must be at least 1, got 0"):
            use(arch, cells=0)
        with pytest.raises(InvalidSpace, match="auxiliary head needs image_size of at least 21, got 16"):
            use(arch, auxiliary=1, image_size=16)


@pytest.mark.parametrize(
    ("nodes", "roles", "message"),
    [
        (0, TINY, "at least one node"),
        (2, {**TINY, "skip_connect": "pass"}, "role 'pass' is not one of"),
        (2, {"skip_connect": "identity"}, "expected one with role 'zero'"),
        (2, {"none": "zero"}, "expected one with role 'zero' and others"),
    ],
)
def test_a_space_that_can_not_be_is_refused(nodes: int, roles: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        GenotypeSpace("x", nodes, roles, NETWORK)


def test_a_description_with_a_gap_names_it() -> None:
    operation = {"name": "none", "role": "zero"}
    with pytest.raises(InvalidSpace, match="'cell'"):
        GenotypeSpace.from_description({"name": "x", "operations": [operation]})
    with pytest.raises(InvalidSpace, match="named twice"):
        GenotypeSpace.from_description({"name": "x", "operations": [operation, operation]})
    with pytest.raises(UnknownName, match="did you mean 'sep_conv_3x3'"):
        GenotypeSpace("x", 2, {**TINY, "sep_conv_3": "weighted"}, NETWORK)
