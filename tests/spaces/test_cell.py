"""NAS-Bench-201 and its family: published strings and counts, and how many functions there are."""

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from archgen import spaces
from archgen.errors import InvalidArchitecture, InvalidSpace, UnknownName
from archgen.graph import Architecture
from archgen.spaces import CellSpace

Field = npt.NDArray[np.int64]

BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


@pytest.fixture(scope="module")
def cells() -> CellSpace:
    space = spaces.load("nasbench201")
    assert isinstance(space, CellSpace)
    return space


def cell(space: CellSpace, **operations: str) -> Architecture:
    """The cell with the given operations (`e01="nor_conv_1x1"`) and `none` elsewhere."""
    return space.from_operations([operations.get(f"e{s}{t}", "none") for s, t in space.pairs])


# -- the published string ---------------------------------------------------------------------------------------


def test_all_published_strings_come_back_as_they_were(cells: CellSpace) -> None:
    operations = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    for a, b, c, d, e, f in itertools.product(operations, repeat=6):
        text = f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"
        arch = cells.parse(text)
        assert arch.ops == ("input", a, b, c, d, e, f, "output")
        assert cells.format(arch) == text


def test_the_graph_of_operations_follows_the_cell(cells: CellSpace) -> None:
    arch = cells.parse(BEST)
    # nodes: 0 input, 1 = 0->1, 2 = 0->2, 3 = 1->2, 4 = 0->3, 5 = 1->3, 6 = 2->3, 7 output
    assert arch.edges == ((0, 1), (0, 2), (0, 4), (1, 3), (1, 5), (2, 6), (3, 6), (4, 7), (5, 7), (6, 7))


def test_the_published_table_has_exactly_these_strings(cells: CellSpace, tables: Path) -> None:
    published = pd.read_parquet(tables / "nasbench201" / "accuracy.parquet", columns=["arch"])["arch"]
    assert set(published) == {cells.format(arch) for arch in cells.enumerate()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "expected 3 groups joined by '[+]', such as", id="empty"),
        pytest.param("|none~0|+|none~0|none~1|", "got 2 in", id="a node too few"),
        pytest.param(f"{BEST}+|none~0|", "got 4 in", id="a node too many"),
        pytest.param(BEST.replace("|skip_connect~0", ""), "node 3 has 3 inputs", id="an input too few"),
        pytest.param(BEST.replace("|skip_connect~0", "|none~0|none~0"), "node 3 has 3 inputs", id="an input too many"),
        pytest.param(BEST[1:], "node 1 has 1 inputs", id="no bar at the beginning"),
        pytest.param(BEST[:-1], "node 3 has 3 inputs", id="no bar at the end"),
        pytest.param(f"|{BEST}", "node 1 has 1 inputs", id="two bars at the beginning"),
        pytest.param(
            BEST.replace("skip_connect~0", "skip_connect~1"), "input 0 of node 3 must read 'op~0'", id="source"
        ),
        pytest.param(BEST.replace("skip_connect~0", "skip_connect~00"), "must read 'op~0'", id="source of two digits"),
        pytest.param(BEST.replace("skip_connect~0", "skip_connect"), "must read 'op~0', got 'skip_con", id="no source"),
        pytest.param(BEST.replace("skip_connect", ""), "must read 'op~0', got '~0'", id="no operation"),
        pytest.param(BEST.replace("skip_connect", "skip_conect"), "did you mean 'skip_connect'", id="operation"),
        pytest.param(BEST.replace("skip_connect", "input"), "unknown operation of nasbench201 'input'", id="a label"),
    ],
)
def test_parse_says_what_is_wrong_in_one_line(cells: CellSpace, text: str, message: str) -> None:
    with pytest.raises(InvalidArchitecture, match=message) as caught:
        cells.parse(text)
    assert "\n" not in str(caught.value)


def test_validate_says_what_is_wrong(cells: CellSpace) -> None:
    arch = cells.parse(BEST)
    wrong = {
        "one of 'other'": Architecture("other", arch.ops, arch.edges),
        "expected 8 nodes": Architecture(arch.space, (*arch.ops, "output"), arch.edges),
        "must be input and output": Architecture(arch.space, ("none", *arch.ops[1:]), arch.edges),
        "unknown operation of nasbench201 'nor_conv_5x5': did you mean": Architecture(
            arch.space, ("input", "nor_conv_5x5", *arch.ops[2:]), arch.edges
        ),
        "the graph of every nasbench201 cell": Architecture(arch.space, arch.ops, arch.edges[1:]),
    }
    for message, bad in wrong.items():
        with pytest.raises(InvalidArchitecture, match=message):
            cells.validate(bad)
    cells.validate(arch)


# -- published counts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mflops", "mparams"),
    [  # rows 0, 100 and 5000 of NAS-Bench-Suite-Zero's CIFAR-10 table
        (
            "|avg_pool_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|avg_pool_3x3~1|nor_conv_1x1~2|",
            19.248832,
            0.129306,
        ),
        (
            "|skip_connect~0|+|avg_pool_3x3~0|nor_conv_3x3~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_1x1~2|",
            50.706112,
            0.344346,
        ),
        (
            "|avg_pool_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|avg_pool_3x3~0|skip_connect~1|avg_pool_3x3~2|",
            83.453632,
            0.559386,
        ),
    ],
)
def test_counts_are_the_published_ones(cells: CellSpace, text: str, mflops: float, mparams: float) -> None:
    assert cells.count(cells.parse(text)) == {"params": round(mparams * 1e6), "flops": round(mflops * 1e6)}


def test_counts_of_every_row_of_the_published_table(cells: CellSpace, tables: Path) -> None:
    table = pd.read_parquet(tables / "nasbench201" / "zero_cost_cifar10.parquet", columns=["arch", "flops", "params"])
    counts = pd.DataFrame([cells.count(cells.parse(text)) for text in table["arch"]]) / 1e6
    assert len(table) > 9_000
    np.testing.assert_allclose(counts[["flops", "params"]], table[["flops", "params"]], rtol=1e-12)


def test_counts_of_other_networks_are_cached_apart(cells: CellSpace) -> None:
    arch = cells.parse(BEST)
    published, small = cells.count(arch), cells.count(arch, cells=1, channels=8)
    assert small["params"] < published["params"]
    assert cells.count(arch) == published


def test_network_arguments_are_checked(cells: CellSpace) -> None:
    arch = cells.parse(BEST)
    for use in (cells.build, cells.count):
        with pytest.raises(UnknownName, match="did you mean 'channels'"):
            use(arch, chanels=4)
        with pytest.raises(InvalidSpace, match="channels of the network must be at least 1, got 0"):
            use(arch, channels=0)


# -- how many functions there are -------------------------------------------------------------------------------

PRIME = 2**31 - 1  # products of two residues stay below 2^62


def apply_matrix(matrix: Field, x: Field) -> Field:
    return ((matrix[:, 0] * x[..., :1]) % PRIME + (matrix[:, 1] * x[..., 1:]) % PRIME) % PRIME


def all_operations(x: Field, w_1x1: Field, w_3x3: Field, pool: Field) -> Field:
    """Every operation in the order of the space on vectors of two residues, `* 2` to `5 * 2`."""
    cube = (x * x % PRIME) * x % PRIME
    convolutions = [apply_matrix(w_1x1, cube), apply_matrix(w_3x3, cube)]
    return np.stack([np.zeros_like(x), x, *convolutions, apply_matrix(pool, x)], -2)


def fingerprints() -> Field:
    """One number a cell (`5 x 5 x 5 x 5 x 5 x 5`, in the order of the published string), equal for equal functions.

    Cells are evaluated over the integers modulo a prime: pooling is one random matrix, the convolutions of edge `e`
    are `W_e x^3` with random matrices of their own, a cut-off node is zero and every operation maps zero to zero.
    Weights may be renamed, so the fingerprint is the least output over the 720 ways to hand them to the edges.
    """
    rng = np.random.default_rng(0)
    w_1x1, w_3x3 = rng.integers(1, PRIME, size=(2, 6, 2, 2), dtype=np.int64)
    pool = rng.integers(1, PRIME, size=(2, 2), dtype=np.int64)
    x = rng.integers(1, PRIME, size=2, dtype=np.int64)
    least = np.full((5,) * 6, np.iinfo(np.int64).max)
    for order in itertools.permutations(range(6)):
        # axes: operations of 0->1, 0->2, 1->2, 0->3, 1->3, 2->3
        e01, e02, e12, e03, e13, e23 = (lambda v, i=i: all_operations(v, w_1x1[i], w_3x3[i], pool) for i in order)
        node1 = e01(x)
        node2 = (e02(x)[None, :, None] + e12(node1)[:, None, :]) % PRIME
        node3 = (
            e03(x)[None, None, None, :, None, None]
            + e13(node1)[:, None, None, None, :, None]
            + e23(node2)[:, :, :, None, None, :]
        ) % PRIME
        least = np.minimum(least, node3[..., 0] * PRIME + node3[..., 1])
    return least


def test_canonical_merges_exactly_the_cells_that_compute_the_same_function(cells: CellSpace) -> None:
    """5,044 of the 15,625 cells are different functions; found here by brute force, without any canonical form."""
    by_function = fingerprints().ravel().tolist()
    by_canonical = [cells.canonical(arch) for arch in cells.enumerate()]
    assert len(set(by_function)) == 5_044
    assert len(set(by_canonical)) == 5_044
    assert len(set(zip(by_function, by_canonical, strict=True))) == 5_044  # so the partitions are the same


def test_canonical_knows_the_plain_cases(cells: CellSpace) -> None:
    conv, pool, skip = "nor_conv_3x3", "avg_pool_3x3", "skip_connect"
    direct = cells.canonical(cell(cells, e03=conv))
    assert cells.canonical(cell(cells, e01=conv, e13=skip)) == direct
    assert cells.canonical(cell(cells, e01=skip, e12=skip, e23=conv)) == direct
    assert cells.canonical(cell(cells, e03=conv, e12=pool, e23=conv)) == direct  # node 1 is cut off
    assert cells.canonical(cell(cells, e03=conv, e01=conv, e02=pool)) == direct  # these lead nowhere
    assert cells.canonical(cell(cells, e03="nor_conv_1x1")) != direct
    assert cells.canonical(cell(cells, e01=conv, e13=pool)) != cells.canonical(cell(cells, e01=pool, e13=conv))
    # two convolutions are two weights, two identities are twice the input
    assert cells.canonical(cell(cells, e03=conv, e01=skip, e13=conv)) != direct
    assert cells.canonical(cell(cells, e03=skip, e01=skip, e13=skip)) != cells.canonical(cell(cells, e03=skip))
    # the pooling of a sum is the sum of the poolings
    pooled_sum = cell(cells, e01=conv, e02=skip, e12=skip, e23=pool)
    sum_of_pooled = cell(cells, e01=conv, e03=pool, e13=pool)
    assert cells.canonical(pooled_sum) == cells.canonical(sum_of_pooled)


# -- simplify and computation -----------------------------------------------------------------------------------


def test_simplify_cuts_what_the_output_does_not_depend_on(cells: CellSpace) -> None:
    arch = cell(cells, e01="nor_conv_1x1", e02="avg_pool_3x3", e03="nor_conv_3x3", e13="none", e12="none")
    assert cells.simplify(arch) == cell(cells, e03="nor_conv_3x3")
    cut_off = cell(cells, e12="nor_conv_3x3", e23="nor_conv_3x3", e13="skip_connect")
    assert cells.simplify(cut_off) == cell(cells)


def test_what_reads_only_zeros_stays_where_it_is_used(cells: CellSpace) -> None:
    """A convolution behind `none` is kept, one whose result nothing reads is not."""
    arch = cell(cells, e02="nor_conv_1x1", e03="skip_connect", e13="nor_conv_3x3")
    assert cells.without_unused([arch]) == [cell(cells, e03="skip_connect", e13="nor_conv_3x3")]
    archs = cells.enumerate()
    kept = cells.without_unused(archs)
    assert cells.simplified(kept) == cells.simplified(archs)
    assert cells.without_unused(kept) == kept
    operations = [[op for arch in some for op in arch.ops] for some in (archs, kept, cells.simplified(archs))]
    assert {now for op, now in zip(*operations[:2], strict=True) if op != now} == {"none"}
    assert sorted([0, 1, 2], key=lambda i: operations[i].count("none")) == [0, 1, 2]


def test_computation_contracts_identities_and_drops_what_is_dead(cells: CellSpace) -> None:
    arch = cell(cells, e01="skip_connect", e12="nor_conv_3x3", e23="skip_connect", e03="avg_pool_3x3", e02="none")
    dag = cells.computation(arch)
    assert dag.ops == ("input", "nor_conv_3x3", "avg_pool_3x3", "output")
    assert dag.edges == ((0, 1), (0, 2), (1, 3), (2, 3))


def test_computation_lists_an_edge_as_often_as_it_counts(cells: CellSpace) -> None:
    twice = cells.computation(cell(cells, e03="skip_connect", e01="skip_connect", e13="skip_connect"))
    assert (twice.ops, twice.edges) == (("input", "output"), ((0, 1), (0, 1)))
    assert cells.computation(cell(cells)).edges == ()


def test_a_smaller_cell_works_alike(cells: CellSpace) -> None:
    tiny = CellSpace("tiny", 2, cells.roles, cells.network_defaults)
    assert tiny.size == 5
    assert [tiny.format(arch) for arch in tiny.enumerate()] == [f"|{op}~0|" for op in cells.roles]
    assert len({tiny.canonical(arch) for arch in tiny.enumerate()}) == 5
