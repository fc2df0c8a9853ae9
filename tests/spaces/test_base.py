"""What all search spaces share: drawing, changing and encoding architectures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from archgen import config, spaces
from archgen.errors import InvalidArchitecture, InvalidSpace
from archgen.graph import Architecture, GraphBatch
from archgen.spaces import SearchSpace
from archgen.testing import check_space

NASBENCH201 = (config.spaces_dir() / "nasbench201.toml").read_text(encoding="utf-8")


def write(folder: Path, *changes: tuple[str, str]) -> Path:
    """The TOML of NAS-Bench-201 with each first text replaced by the second."""
    text = NASBENCH201
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_order_names_the_smallest_and_the_largest_architecture(tmp_path: Path) -> None:
    assert spaces.read(write(tmp_path)).extremes is None
    order = '[order]\nsmallest = "skip_connect"\nlargest = "nor_conv_3x3"\n[network]'
    space = spaces.read(write(tmp_path, ("[network]", order)))
    assert space.extremes is not None
    smallest, largest = space.extremes
    assert set(smallest.ops[1:-1]) == {"skip_connect"}
    assert set(largest.ops[1:-1]) == {"nor_conv_3x3"}
    check_space(space, n=2, rng=np.random.default_rng(0))


# -- drawing and changing ---------------------------------------------------------------------------------------


def test_enumerate_gives_every_point_once_and_in_order(space: SearchSpace) -> None:
    archs = space.enumerate()
    assert len(set(archs)) == len(archs) == space.size == 15_625
    assert set(archs[0].ops[1:-1]) == {"none"}
    assert [space.to_choices(arch)["2->3"] for arch in archs[:6]] == [0, 1, 2, 3, 4, 0]


def test_enumerate_refuses_a_space_too_large_to_list(tmp_path: Path) -> None:
    large = spaces.read(write(tmp_path, ("nodes = 4", "nodes = 6")))
    with pytest.raises(InvalidSpace, match="too many to list; sample it instead"):
        large.enumerate()
    assert len(large.sample(3, np.random.default_rng(0))) == 3


def test_sample_is_uniform_over_each_variable(space: SearchSpace, rng: np.random.Generator) -> None:
    """Chi-square over 6 variables of 5 values, 24 degrees of freedom; 67 is exceeded with probability 6e-6."""
    n = 5_000
    choices = [space.to_choices(arch) for arch in space.sample(n, rng)]
    counts = np.array([np.bincount([c[name] for c in choices], minlength=5) for name in space.variables])
    assert ((counts - n / 5) ** 2 / (n / 5)).sum() < 67


def test_mutation_reaches_every_neighbour_and_nothing_else(space: SearchSpace, rng: np.random.Generator) -> None:
    """24 neighbours, 600 draws: one is missed with probability below 24 (23/24)^600 = 2e-10."""
    (arch,) = space.sample(1, rng)
    assert {space.mutate(arch, rng) for _ in range(600)} == set(space.neighbours(arch))


def test_crossover_mixes_both_parents(space: SearchSpace, rng: np.random.Generator) -> None:
    """64 children of parents that differ everywhere, 2,000 draws: one is missed with probability 64 (63/64)^2000."""
    names = list(space.variables)
    a = space.from_choices(dict.fromkeys(names, 1))
    b = space.from_choices(dict.fromkeys(names, 2))
    assert len({space.crossover(a, b, rng) for _ in range(2_000)}) == 64


@pytest.mark.parametrize("index", [-1, 5])
def test_from_choices_refuses_an_index_out_of_range(space: SearchSpace, index: int) -> None:
    choices = dict.fromkeys(space.variables, 0)
    with pytest.raises(InvalidArchitecture, match="from 0 to 4"):
        space.from_choices({**choices, "0->1": index})


def test_from_choices_refuses_missing_and_foreign_variables(space: SearchSpace) -> None:
    choices = dict.fromkeys(space.variables, 0)
    with pytest.raises(InvalidArchitecture, match="9->9"):
        space.from_choices({**choices, "9->9": 0})
    del choices["0->1"]
    with pytest.raises(InvalidArchitecture, match="0->1"):
        space.from_choices(choices)


# -- encoding ---------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 15_624), max_size=5))
def test_decode_inverts_encode(space: SearchSpace, indices: list[int]) -> None:
    archs = [
        space.from_choices(dict(zip(space.variables, map(int, np.unravel_index(i, (5,) * 6)), strict=True)))
        for i in indices
    ]
    assert space.decode(space.encode(archs)) == archs


def test_decode_takes_the_most_probable_allowed_label(space: SearchSpace, rng: np.random.Generator) -> None:
    archs = space.sample(4, rng)
    batch = space.encode(archs)
    soft = 0.6 * batch.ops + 0.4 / batch.ops.shape[-1]
    soft[:, 1, 0] += 5.0  # an operation can not be `input`, however probable
    assert space.decode(GraphBatch(soft, 0.8 * batch.edges, batch.node_mask)) == archs


def test_decode_gives_none_where_the_graph_is_not_a_point_of_the_space(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    archs = space.sample(4, rng)
    batch = space.encode(archs)
    edges, mask = batch.edges.clone(), batch.node_mask.clone()
    edges[0, 0, 7] = 1.0  # an edge too many
    edges[1, 3, 1] = 1.0  # against the order
    mask[2, -1] = False  # a node too few
    assert space.decode(GraphBatch(batch.ops, edges, mask)) == [None, None, None, archs[3]]


def test_encode_refuses_an_architecture_of_another_space(space: SearchSpace) -> None:
    with pytest.raises(InvalidArchitecture, match="expected an architecture of 'nasbench201', got one of 'other'"):
        space.encode([Architecture("other", ("input", "output"), ((0, 1),))])


def test_every_variable_of_the_graph_has_an_allowed_state(space: SearchSpace) -> None:
    assert bool(space.node_domain.any(-1).all())
    assert bool(space.edge_domain.any(-1).all())
    upper = torch.triu(torch.ones(space.edge_domain.shape[:2], dtype=torch.bool), diagonal=1)
    assert not bool(space.edge_domain[..., 1][~upper].any())
