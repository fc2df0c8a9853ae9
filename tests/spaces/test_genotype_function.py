"""Which cells of genotypes compute the same function, and the DAG of their operations."""

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from archgen.spaces.genotype_function import Cell, cell_function, computation_of, cut_dead

Field = npt.NDArray[np.int64]

PRIME = 2**31 - 1  # products of two residues stay below 2^62
TINY = {"none": "zero", "max_pool_3x3": "maximum", "avg_pool_3x3": "linear", "skip_connect": "identity"}
TINY |= {"sep_conv_3x3": "weighted"}
ROLES = {**TINY, "dil_conv_5x5": "weighted"}
CONV, SKIP, MAXIMUM, MEAN = "sep_conv_3x3", "skip_connect", "max_pool_3x3", "avg_pool_3x3"


def function(cell: Cell, reduction: bool = False) -> str:
    return cell_function(cut_dead(cell, "none"), tuple(ROLES.items()), reduction)


# -- what is cut ------------------------------------------------------------------------------------------------


def test_what_reads_a_cut_node_is_cut(cut: Callable[..., Cell]) -> None:
    cell = cut(n3_0=("none", 1), n4_0=(CONV, 3), n5_0=(CONV, 0))
    assert cut_dead(cell, "none") == cut(n5_0=(CONV, 0))


def test_one_input_keeps_a_node_alive_and_what_is_cut_reads_the_first_source(cut: Callable[..., Cell]) -> None:
    alive = cut(n2_1=(SKIP, 1), n3_0=(CONV, 2), n3_1=("none", 2))
    assert cut_dead(alive, "none") == cut(n2_1=(SKIP, 1), n3_0=(CONV, 2))
    chain = cut(n3_0=(CONV, 2), n4_0=(CONV, 3), n5_0=(CONV, 4), n5_1=(SKIP, 3))  # nothing feeds node 2
    assert cut_dead(chain, "none") == cut()


# -- functions --------------------------------------------------------------------------------------------------


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


def test_cells_get_one_name_exactly_where_they_compute_the_same_function() -> None:
    """All 22,500 settings of a cell of two nodes with five operations, by brute force."""
    options = [[(op, s) for op in TINY for s in range(2 + i // 2)] for i in range(4)]
    cells = list(itertools.product(*options))
    for reduction in (False, True):
        by_function = fingerprints(reduction)
        by_name = [function((*sorted(cell[:2]), *sorted(cell[2:])), reduction) for cell in cells]
        together = len(set(zip(by_function, by_name, strict=True)))
        assert len(set(by_function)) == len(set(by_name)) == together
        assert together < 55 * 120  # pairs of 10 and of 15 inputs: some of them are equal


@st.composite
def cells_of_three(draw: st.DrawFn) -> Cell:
    return tuple((draw(st.sampled_from(list(ROLES))), draw(st.integers(0, 1 + i // 2))) for i in range(6))


@given(cell=cells_of_three(), swaps=st.tuples(*[st.booleans()] * 3), reduction=st.booleans())
def test_the_inputs_of_a_node_are_unordered(cell: Cell, swaps: tuple[bool, ...], reduction: bool) -> None:
    swapped = tuple(pair for i, swap in enumerate(swaps) for pair in cell[2 * i : 2 * i + 2][:: -1 if swap else 1])
    assert function(swapped, reduction) == function(cell, reduction)


@given(data=st.data(), order=st.permutations(range(3)), reduction=st.booleans())
def test_the_order_of_the_nodes_does_not_matter(data: st.DataObject, order: list[int], reduction: bool) -> None:
    """Three nodes that read only what comes before them in both orders."""
    place = {0: 0, 1: 1, **{2 + node: 2 + at for at, node in enumerate(order)}}
    before = [[s for s in range(2 + i // 2) if place[s] < place[2 + i // 2]] for i in range(6)]
    cell = [(data.draw(st.sampled_from(list(ROLES))), data.draw(st.sampled_from(sources))) for sources in before]
    moved = [(op, place[source]) for node in order for op, source in cell[2 * node : 2 * node + 2]]
    assert function(tuple(moved), reduction) == function(tuple(cell), reduction)


def test_plain_cases(cut: Callable[..., Cell]) -> None:
    def same(a: Cell, b: Cell, reduction: bool = False) -> bool:
        return function(a, reduction) == function(b, reduction)

    one = cut(n2_0=(CONV, 1))
    assert same(one, cut(n4_1=(CONV, 1)))  # the order of the nodes is that of the concatenation
    assert same(cut(n2_0=(CONV, 0), n3_0=("dil_conv_5x5", 1)), cut(n3_0=(CONV, 0), n2_0=("dil_conv_5x5", 1)))
    assert same(one, cut(n2_0=(CONV, 1), n4_0=(CONV, 3)))  # nothing feeds node 3
    assert not same(one, cut(n2_0=(CONV, 0)))  # the cell's inputs are not alike
    assert not same(one, cut(n2_0=("dil_conv_5x5", 1)))  # nor are operations of one role
    assert not same(one, cut(n2_0=(CONV, 1), n2_1=(CONV, 1)))  # two weights
    assert not same(cut(n2_0=(SKIP, 1)), cut(n2_0=(SKIP, 1), n3_0=(SKIP, 1)))  # concatenated once or twice
    # an identity passes its node on: with stride 1, but not from the inputs of a reduction cell
    through, direct = cut(n2_0=(SKIP, 1), n3_0=(CONV, 2)), cut(n2_0=(SKIP, 1), n3_0=(CONV, 1))
    assert same(through, direct)
    assert not same(through, direct, reduction=True)
    # twice the maximum, and the maximum of twice the same
    double = cut(n2_0=(SKIP, 1), n2_1=(SKIP, 1), n3_0=(MAXIMUM, 2))
    assert same(double, cut(n2_0=(SKIP, 1), n2_1=(SKIP, 1), n3_0=(MAXIMUM, 1), n3_1=(MAXIMUM, 1)))
    # the mean of a sum, but not its maximum
    total = cut(n2_0=(SKIP, 0), n2_1=(SKIP, 1), n3_0=(MEAN, 2))
    assert same(total, cut(n2_0=(SKIP, 0), n2_1=(SKIP, 1), n3_0=(MEAN, 0), n3_1=(MEAN, 1)))
    peak = cut(n2_0=(SKIP, 0), n2_1=(SKIP, 1), n3_0=(MAXIMUM, 2))
    assert not same(peak, cut(n2_0=(SKIP, 0), n2_1=(SKIP, 1), n3_0=(MAXIMUM, 0), n3_1=(MAXIMUM, 1)))


# -- the DAG of operations --------------------------------------------------------------------------------------


def test_computation_puts_both_cells_side_by_side(cut: Callable[..., Cell]) -> None:
    normal = cut(n2_0=(SKIP, 1), n3_0=(CONV, 2), n3_1=(CONV, 2))
    ops, edges = computation_of({"normal": normal, "reduce": cut(n2_0=(SKIP, 1), n3_0=(MAXIMUM, 2))}, ROLES)
    assert ops == (
        *("input", "c_{k-1}", "normal:sep_conv_3x3", "normal:sep_conv_3x3"),
        *("reduce:skip_connect", "reduce:max_pool_3x3", "output"),
    )
    assert edges == ((0, 1), (1, 2), (1, 3), (1, 4), (1, 6), (2, 6), (3, 6), (4, 5), (4, 6), (5, 6))


def test_computation_repeats_an_edge_as_often_as_its_source_is_summed(cut: Callable[..., Cell]) -> None:
    twice = {"normal": cut(n2_0=(SKIP, 0), n2_1=(SKIP, 0)), "reduce": cut()}
    assert computation_of(twice, ROLES) == (("input", "c_{k-2}", "output"), ((0, 1), (1, 2), (1, 2)))
    read = {"normal": cut(n2_0=(SKIP, 0), n2_1=(SKIP, 0), n3_0=(MEAN, 2)), "reduce": cut()}
    ops, edges = computation_of(read, ROLES)
    assert ops == ("input", "c_{k-2}", "normal:avg_pool_3x3", "output")
    assert edges == ((0, 1), (1, 2), (1, 2), (1, 3), (1, 3), (2, 3))


def test_cells_that_are_cut_compute_nothing(cut: Callable[..., Cell]) -> None:
    assert computation_of({"normal": cut(), "reduce": cut()}, ROLES) == (("input", "output"), ())
