"""DARTS and its family: the published text, which genotypes are one function, and draws of the sources."""

import ast
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archgen import spaces
from archgen.errors import InvalidArchitecture, InvalidSpace, UnknownName
from archgen.graph import Architecture, GraphBatch
from archgen.spaces import GenotypeSpace

Field = npt.NDArray[np.int64]
Cell = list[tuple[str, int]]

NETWORK = {"cells": 20, "channels": 36, "classes": 10, "in_channels": 3, "image_size": 32, "auxiliary": 0}
CONCAT = "[2, 3, 4, 5]"
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


@pytest.fixture(scope="module")
def darts() -> GenotypeSpace:
    space = spaces.load("darts")
    assert isinstance(space, GenotypeSpace)
    return space


def cut(**inputs: tuple[str, int]) -> Cell:
    """A cell of `none` but for the inputs named `n<node>_<0 or 1>`."""
    return [inputs.get(f"n{2 + i // 2}_{i % 2}", ("none", 0)) for i in range(8)]


# -- the published text -----------------------------------------------------------------------------------------


def test_a_genotype_comes_back_with_each_nodes_inputs_in_order(darts: GenotypeSpace) -> None:
    text = darts.format(darts.parse(DARTS_V2))
    normal, reduce = darts.cells(darts.parse(DARTS_V2))
    assert normal[4:] == (("skip_connect", 0), ("sep_conv_3x3", 1), ("skip_connect", 0), ("dil_conv_3x3", 2))
    assert reduce[2:4] == (("max_pool_3x3", 1), ("skip_connect", 2))
    assert darts.format(darts.parse(text)) == text
    assert text.startswith("Genotype(normal=[('sep_conv_3x3', 0), ")
    assert text.endswith(f"reduce_concat={CONCAT})")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(CONCAT, "range(2, 6)", id="ranges, as other code prints them"),
        pytest.param(CONCAT, "(5, 4, 3, 2)", id="tuples"),
        pytest.param("normal=", "  normal = ", id="blanks"),
    ],
)
def test_other_ways_to_write_it_are_read(darts: GenotypeSpace, old: str, new: str) -> None:
    assert old in DARTS_V2
    assert darts.parse(DARTS_V2.replace(old, new)) == darts.parse(DARTS_V2)


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
        pytest.param("", "expected 'Genotype[(]normal=", id="empty"),
        pytest.param("__import__('os').system('true')", "does not begin with Genotype", id="another call"),
        pytest.param("Genotype(", "was never closed", id="open"),
        pytest.param("Genotype()", "its fields are", id="no fields"),
        pytest.param(DARTS_V2.replace("reduce_concat", "concat"), "its fields are", id="another field"),
        pytest.param(DARTS_V2.replace(CONCAT, "range(2, 10**9)"), "malformed", id="a power"),
        pytest.param(DARTS_V2.replace(CONCAT, "range(2, 999999999)"), "small integers", id="a long range"),
        pytest.param(DARTS_V2.replace(CONCAT, "[3, 4, 5]"), "normal_concat must name every node", id="concat"),
        pytest.param(DARTS_V2.replace(CONCAT, "7"), "normal_concat must name every node", id="no list"),
        pytest.param(DARTS_V2.replace("0)", "2)", 1), "input 0 of node 2 must be .* from 0 to 1", id="late source"),
        pytest.param(DARTS_V2.replace("0)", "-1)", 1), "input 0 of node 2 must be", id="negative source"),
        pytest.param(DARTS_V2.replace("0)", "True)", 1), "input 0 of node 2 must be", id="a truth value"),
        pytest.param(DARTS_V2.replace("('sep_conv_3x3', 0), ", "", 1), "expected a list", id="an input too few"),
        pytest.param(
            DARTS_V2.replace("'sep_conv_3x3'", "'sep_conv'", 1),
            "unknown operation of darts 'sep_conv': did you",
            id="operation",
        ),
        pytest.param(NASNET, "normal: expected 8 inputs, two for each of 4 nodes, got 10", id="five nodes"),
        pytest.param("Genotype(" + "[" * 5_000, "expected 'Genotype", id="deep"),
        pytest.param("Genotype(" + " " * 20_000 + ")", "longer than 10000", id="long"),
    ],
)
def test_parse_says_what_is_wrong_in_one_line(darts: GenotypeSpace, text: str, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message) as caught:
        darts.parse(text)
    assert "\n" not in str(caught.value)


# -- the graph --------------------------------------------------------------------------------------------------


def test_the_graph_of_a_genotype(darts: GenotypeSpace) -> None:
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
    tiny = tiny_space(1)
    assert tiny.size == len({(a.ops, a.edges) for a in every_cell(tiny)}) ** 2


def test_validate_says_what_is_wrong(darts: GenotypeSpace) -> None:
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

PRIME = 2**31 - 1  # products of two residues stay below 2^62
TINY = {"none": "zero", "max_pool_3x3": "maximum", "avg_pool_3x3": "linear", "skip_connect": "identity"}
TINY |= {"sep_conv_3x3": "weighted"}


def tiny_space(nodes: int) -> GenotypeSpace:
    return GenotypeSpace("tiny", nodes, TINY, NETWORK)


def every_cell(space: GenotypeSpace) -> list[Architecture]:
    """Every setting of one of the cells, the same for both, in the order of `fingerprints`."""
    options = [[(op, s) for op in space.operations for s in range(2 + i // 2)] for i in range(2 * space.nodes)]
    return [space.from_cells(cell, cell) for cell in itertools.product(*options)]


def apply_matrix(matrix: Field, x: Field) -> Field:
    return ((matrix[:, 0] * x[..., :1]) % PRIME + (matrix[:, 1] * x[..., 1:]) % PRIME) % PRIME


def power(x: Field, exponent: int) -> Field:
    result = np.ones_like(x)
    while exponent:
        if exponent & 1:
            result = result * x % PRIME
        x, exponent = x * x % PRIME, exponent >> 1
    return result


def fingerprints(reduction: bool) -> list[int]:
    """One number a cell of two nodes: the values of both, in any order, least over the ways to hand out the weights.

    Operations act on vectors of two residues modulo a prime: pooling by mean is a random matrix, the maximum is
    `A (x^2 / y)`, which like it only scales with its input, the convolution of input `i` is `W_i x^3`. In a reduction
    cell whatever reads the cell's inputs is another map, and the identity there has weights.
    """
    rng = np.random.default_rng(0)
    w_conv, w_skip = rng.integers(1, PRIME, size=(2, 4, 2, 2), dtype=np.int64)
    mean, maximum = rng.integers(1, PRIME, size=(2, 2, 2, 2), dtype=np.int64)  # of either stride
    inputs = rng.integers(1, PRIME, size=(2, 2), dtype=np.int64)

    def results(x: Field, i: int, from_input: bool) -> Field:
        halves = int(reduction and from_input)
        cube = power(x, 3)
        ratio = power(x, 2) * power(x[..., ::-1], PRIME - 2) % PRIME
        skip = apply_matrix(w_skip[i], cube) if halves else x
        conv = apply_matrix((w_conv[i] + halves) % PRIME, cube)
        pools = apply_matrix(maximum[halves], ratio), apply_matrix(mean[halves], x)
        return np.stack([np.zeros_like(x), *pools, skip, conv], -2)

    least = np.full(10 * 10 * 15 * 15, np.iinfo(np.uint64).max, np.uint64)
    for order in itertools.permutations(range(4)):
        # the options of an input are its operations, each on every source
        first, second = (np.stack([results(x, order[i], True) for x in inputs], -2).reshape(10, 2) for i in (0, 1))
        node = (first[:, None] + second[None]) % PRIME  # 10 10 2
        third, fourth = (
            np.stack(
                [
                    *(np.broadcast_to(results(x, order[i], True), (10, 10, 5, 2)) for x in inputs),
                    results(node, order[i], False),
                ],
                -2,
            ).reshape(10, 10, 15, 2)
            for i in (2, 3)
        )
        other = (third[:, :, :, None] + fourth[:, :, None]) % PRIME  # 10 10 15 15 2
        a = np.broadcast_to((node[..., 0] << 31) + node[..., 1], (15, 15, 10, 10)).transpose(2, 3, 0, 1).ravel()
        b = ((other[..., 0] << 31) + other[..., 1]).ravel()
        both = np.minimum(a, b).view(np.uint64) * np.uint64(6364136223846793005) + np.maximum(a, b).view(np.uint64)
        least = np.minimum(least, both)
    return least.tolist()


def test_canonical_merges_exactly_the_cells_that_compute_the_same_function() -> None:
    """All 22,500 settings of a cell of two nodes with five operations, by brute force."""
    space = tiny_space(2)
    cells = every_cell(space)
    texts = {arch: space.canonical(arch).split("|") for arch in set(cells)}
    for reduction in (False, True):
        by_function = fingerprints(reduction)
        by_canonical = [texts[arch][reduction] for arch in cells]
        together = len(set(zip(by_function, by_canonical, strict=True)))
        assert len(set(by_function)) == len(set(by_canonical)) == together
        assert together < space.size**0.5  # some of them are equal


def test_canonical_knows_the_plain_cases(darts: GenotypeSpace) -> None:
    conv, skip, top, mean = "sep_conv_3x3", "skip_connect", "max_pool_3x3", "avg_pool_3x3"

    def same(a: Cell, b: Cell, where: str = "normal") -> bool:
        first, second = (darts.from_cells(*((c, cut()) if where == "normal" else (cut(), c))) for c in (a, b))
        return darts.canonical(first) == darts.canonical(second)

    one = cut(n2_0=(conv, 1))
    assert same(one, cut(n4_1=(conv, 1)))  # the order of the nodes is that of the concatenation
    assert same(cut(n2_0=(conv, 0), n3_0=("dil_conv_5x5", 1)), cut(n3_0=(conv, 0), n2_0=("dil_conv_5x5", 1)))
    assert same(one, cut(n2_0=(conv, 1), n4_0=(conv, 3)))  # nothing feeds node 3
    assert not same(one, cut(n2_0=(conv, 0)))  # the cell's inputs are not alike
    assert not same(one, cut(n2_0=(conv, 1), n2_1=(conv, 1)))  # two weights
    # an identity passes its node on: with stride 1, but not from the inputs of a reduction cell
    through, direct = cut(n2_0=(skip, 1), n3_0=(conv, 2)), cut(n2_0=(skip, 1), n3_0=(conv, 1))
    assert same(through, direct)
    assert not same(through, direct, "reduce")
    # twice the maximum, and the maximum of twice the same
    double = cut(n2_0=(skip, 1), n2_1=(skip, 1), n3_0=(top, 2))
    assert same(double, cut(n2_0=(skip, 1), n2_1=(skip, 1), n3_0=(top, 1), n3_1=(top, 1)))
    # the mean of a sum, but not its maximum
    total = cut(n2_0=(skip, 0), n2_1=(skip, 1), n3_0=(mean, 2))
    assert same(total, cut(n2_0=(skip, 0), n2_1=(skip, 1), n3_0=(mean, 0), n3_1=(mean, 1)))
    peak = cut(n2_0=(skip, 0), n2_1=(skip, 1), n3_0=(top, 2))
    assert not same(peak, cut(n2_0=(skip, 0), n2_1=(skip, 1), n3_0=(top, 0), n3_1=(top, 1)))


def test_simplify_cuts_what_reads_a_cut_node(darts: GenotypeSpace) -> None:
    arch = darts.from_cells(cut(n3_0=("none", 1), n4_0=("sep_conv_3x3", 3), n5_0=("sep_conv_3x3", 0)), cut())
    assert darts.simplify(arch) == darts.from_cells(cut(n5_0=("sep_conv_3x3", 0)), cut())


def test_computation_puts_both_cells_side_by_side(darts: GenotypeSpace) -> None:
    normal = cut(n2_0=("skip_connect", 1), n3_0=("sep_conv_3x3", 2), n3_1=("sep_conv_3x3", 4 - 2))
    dag = darts.computation(darts.from_cells(normal, cut(n2_0=("skip_connect", 1), n3_0=("max_pool_3x3", 2))))
    assert dag.ops == (
        *("input", "c_{k-1}", "normal:sep_conv_3x3", "normal:sep_conv_3x3"),
        *("reduce:skip_connect", "reduce:max_pool_3x3", "output"),
    )
    assert dag.edges == ((0, 1), (1, 2), (1, 3), (1, 4), (1, 6), (2, 6), (3, 6), (4, 5), (4, 6), (5, 6))
    twice = darts.computation(darts.from_cells(cut(n2_0=("skip_connect", 0), n2_1=("skip_connect", 0)), cut()))
    assert twice.edges == ((0, 1), (1, 2), (1, 2))
    assert darts.computation(darts.from_cells(cut(), cut())).edges == ()


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
