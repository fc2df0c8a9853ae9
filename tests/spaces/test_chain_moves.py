"""Moves in chains: uniform draws, and changes of one slot or of one depth."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from archgen import spaces
from archgen.errors import InvalidSpace
from archgen.spaces import ChainSpace, chain_moves
from archgen.spaces.stages import SKIP

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def deep(tmp_path: Path) -> ChainSpace:
    """`my_chain` with a last stage of no block or two, of two labels each."""
    shutil.copy(FIXTURES / "my_blocks.py", tmp_path / "my_blocks.py")
    text = (FIXTURES / "my_chain.toml").read_text(encoding="utf-8")
    for old, new in (("[0, 1]", "[0, 2]"), ('["sep_conv_3x3"] }', '["sep_conv_3x3", "ghost"] }')):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "deep.toml").write_text(text, encoding="utf-8")
    space = spaces.load(tmp_path / "deep.toml")
    assert isinstance(space, ChainSpace)
    return space


# -- drawing and listing ----------------------------------------------------------------------------------------


def test_enumerate_gives_every_point_once_in_lexicographic_order(my_chain: ChainSpace) -> None:
    archs = chain_moves.enumerate_chain(my_chain)
    assert len(set(archs)) == len(archs) == my_chain.size
    choices = [tuple(my_chain.to_choices(arch).values()) for arch in archs]
    assert choices == sorted(choices)
    for arch in archs:
        my_chain.validate(arch)


def test_enumerate_refuses_a_space_too_large_to_list(once_for_all: ChainSpace) -> None:
    with pytest.raises(InvalidSpace, match=r"mobilenetv3 has 5.44e\+20 points, too many to list"):
        chain_moves.enumerate_chain(once_for_all)


def test_samples_have_uniform_depths_and_labels(once_for_all: ChainSpace, rng: np.random.Generator) -> None:
    """Chi-square over 5 stages of 3 depths and 10 slots of 9 labels, 90 degrees of freedom; 170 has p = 7e-7."""
    n = 4_000
    archs = chain_moves.sample(once_for_all, n, rng)
    depths = np.array([list(once_for_all.depths(arch).values()) for arch in archs])
    statistic = sum(((np.bincount(column, minlength=5)[2:] - n / 3) ** 2 / (n / 3)).sum() for column in depths.T)
    for stage in once_for_all.stages:
        for slot in stage.slots[:2]:
            labels = [once_for_all.to_choices(arch)[slot] for arch in archs]
            statistic += ((np.bincount(labels, minlength=9) - n / 9) ** 2 / (n / 9)).sum()
    assert statistic < 170


def test_samples_are_points_and_follow_the_rng(my_chain: ChainSpace) -> None:
    archs = chain_moves.sample(my_chain, 200, np.random.default_rng(0))
    for arch in archs:
        my_chain.validate(arch)
    assert chain_moves.sample(my_chain, 200, np.random.default_rng(0)) == archs
    assert chain_moves.sample(my_chain, 200, np.random.default_rng(1)) != archs
    assert chain_moves.sample(my_chain, 0, np.random.default_rng(0)) == []


# -- mutation ---------------------------------------------------------------------------------------------------


def test_a_mutant_differs_in_one_slot_or_in_the_depth_of_one_stage(my_chain: ChainSpace) -> None:
    rng = np.random.default_rng(0)
    for arch in chain_moves.enumerate_chain(my_chain)[::7]:
        mutant = chain_moves.mutate(my_chain, arch, rng)
        my_chain.validate(mutant)
        before, after = my_chain.depths(arch), my_chain.depths(mutant)
        grown = [name for name in before if before[name] != after[name]]
        labels, others = my_chain.to_labels(arch), my_chain.to_labels(mutant)
        differing = [slot for slot in labels if labels[slot] != others[slot]]
        if not grown:
            assert len(differing) == 1
            continue
        (name,) = grown  # blocks that both have stay as they are
        assert all(SKIP in (labels[slot], others[slot]) and slot.startswith(name) for slot in differing)
        assert len(differing) == abs(before[name] - after[name])


def test_mutation_reaches_every_depth_and_every_label(my_chain: ChainSpace, rng: np.random.Generator) -> None:
    """At most 23 single changes, the rarest with chance 1/7 x 1/27; 6,000 draws miss one with p below 1e-10."""
    labels = {"resolution": "r24", "low1": "ghost", "low2": SKIP, "middle1": "ghost", "high1": SKIP}
    arch = my_chain.from_labels({**labels, "middle2": SKIP, "middle3": SKIP})
    seen = {chain_moves.mutate(my_chain, arch, rng) for _ in range(6_000)}
    depths = {tuple(my_chain.depths(mutant).values()) for mutant in seen}
    assert depths == {(1, 1, 0), (2, 1, 0), (1, 3, 0), (1, 1, 1)}
    grown = [mutant for mutant in seen if my_chain.depths(mutant)["middle"] == 3]
    assert len(grown) == 9
    assert len(seen) == 1 + 1 + 2 + 2 + 9 + 1  # resolution, low1, low2, middle1, two blocks of middle, high1


# -- neighbours -------------------------------------------------------------------------------------------------


def test_neighbours_differ_in_one_slot_or_one_depth(my_chain: ChainSpace) -> None:
    archs = {my_chain.format(arch): arch for arch in chain_moves.enumerate_chain(my_chain)}
    for arch in list(archs.values())[::37]:
        near = chain_moves.neighbours(my_chain, arch)
        assert len(near) == len(set(near))
        labels, depths = my_chain.to_labels(arch), my_chain.depths(arch)
        expected = sum(len(my_chain.active[slot]) - 1 for slot in my_chain.slots if not my_chain.left_out(slot, depths))
        # another depth: one of low (or its two labels), one of middle, and one of high
        expected += (2 if depths["low"] == 1 else 1) + 1 + 1
        assert len(near) == expected
        for other in near:
            changed = [d for d in depths if depths[d] != my_chain.depths(other)[d]]
            differing = [slot for slot in labels if labels[slot] != my_chain.to_labels(other)[slot]]
            assert len(changed) == 1 or (not changed and len(differing) == 1)


def test_a_stage_that_grows_by_two_blocks_repeats_its_last_one(my_chain: ChainSpace) -> None:
    arch = my_chain.from_labels(
        {"resolution": "r24", "low1": "ghost", "low2": SKIP, "middle1": "mbconv_k5_e3", "middle2": SKIP}
        | {"middle3": SKIP, "high1": SKIP}
    )
    grown = [other for other in chain_moves.neighbours(my_chain, arch) if my_chain.depths(other)["middle"] == 3]
    assert [my_chain.to_labels(other)["middle3"] for other in grown] == ["mbconv_k5_e3"]


def test_a_stage_that_grows_from_nothing_takes_the_first_labels(deep: ChainSpace) -> None:
    none = next(arch for arch in chain_moves.enumerate_chain(deep) if deep.depths(arch)["high"] == 0)
    (grown,) = (other for other in chain_moves.neighbours(deep, none) if deep.depths(other)["high"] == 2)
    labels = deep.to_labels(grown)
    assert (labels["high1"], labels["high2"]) == ("sep_conv_3x3", "sep_conv_3x3")


def test_neighbours_of_the_same_depths_are_mutual(my_chain: ChainSpace) -> None:
    for arch in chain_moves.enumerate_chain(my_chain)[::53]:
        depths = my_chain.depths(arch)
        for other in chain_moves.neighbours(my_chain, arch):
            if my_chain.depths(other) == depths:
                assert arch in chain_moves.neighbours(my_chain, other)


# -- crossover --------------------------------------------------------------------------------------------------


def test_a_child_of_one_architecture_is_that_architecture(my_chain: ChainSpace, rng: np.random.Generator) -> None:
    for arch in chain_moves.enumerate_chain(my_chain)[::37]:
        assert chain_moves.crossover(my_chain, arch, arch, rng) == arch


def test_blocks_of_a_child_come_from_the_parent_that_has_them(my_chain: ChainSpace, rng: np.random.Generator) -> None:
    rest = {"resolution": "r24", "low1": "ghost", "low2": SKIP, "high1": SKIP}
    shallow = {**rest, "middle1": "ghost", "middle2": SKIP, "middle3": SKIP}
    tall = {**rest, "middle1": "ghost", "middle2": "mbconv_k3_e3", "middle3": "mbconv_k5_e3"}
    parents = my_chain.from_labels(shallow), my_chain.from_labels(tall)
    # never a block of one and a gap of the other: with 60 children both appear but with chance 2^-59
    assert {chain_moves.crossover(my_chain, *parents, rng) for _ in range(60)} == set(parents)


def test_crossover_takes_each_depth_and_label_from_a_parent(my_chain: ChainSpace, rng: np.random.Generator) -> None:
    a, b = (my_chain.to_labels(chain_moves.enumerate_chain(my_chain)[end]) for end in (0, -1))
    a, b = {**a, "middle1": "ghost"}, {**b, "low2": "ghost", "middle2": "mbconv_k3_e3", "middle3": "mbconv_k5_e3"}
    first, second = my_chain.from_labels(a), my_chain.from_labels(b)
    children = {chain_moves.crossover(my_chain, first, second, rng) for _ in range(3_000)}
    for child in children:
        labels, depths = my_chain.to_labels(child), my_chain.depths(child)
        assert all(labels[slot] in (a[slot], b[slot]) for slot in labels)
        assert all(depths[d] in (my_chain.depths(first)[d], my_chain.depths(second)[d]) for d in depths)
    differing = sum(a[slot] != b[slot] for slot in ("resolution", "low1", "middle1"))
    depths_differ = sum(my_chain.depths(first)[d] != my_chain.depths(second)[d] for d in ("low", "middle", "high"))
    assert len({tuple(my_chain.depths(child).values()) for child in children}) == 2**depths_differ
    assert len(children) >= 2 ** (differing + depths_differ)
