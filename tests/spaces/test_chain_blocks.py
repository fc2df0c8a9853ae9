"""Blocks of chains: every one that a network has is listed, and equal ones have one name."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from archgen import spaces
from archgen.errors import InvalidSpace
from archgen.spaces.chain_blocks import ChainBlocks
from archgen.spaces.restricted import RestrictedSpace

FIXTURES = Path(__file__).parent / "fixtures"


def listed(name: str) -> tuple[ChainBlocks, set[str], set[str]]:
    """Names of all blocks, and of those of random networks."""
    space = spaces.load(name, trust_code=True)
    blocks = ChainBlocks(space)
    drawn = {b.name for arch in space.sample(2000, np.random.default_rng(1)) for b in blocks.of(arch)}
    return blocks, set(blocks.all()), drawn


@pytest.mark.parametrize("name", ["nasbench_macro", "fbnet", str(FIXTURES / "my_chain.toml")])
def test_all_blocks_are_those_of_random_networks_and_no_others(name: str) -> None:
    _, every, drawn = listed(name)
    assert every == drawn


def test_blocks_of_once_for_all_are_listed_for_every_resolution() -> None:
    blocks, every, drawn = listed("mobilenetv3@32")
    assert drawn <= every
    assert len(every) == 470
    arch = blocks.space.sample(1, np.random.default_rng(0))[0]
    assert blocks.setting(arch) in blocks.space.variables["resolution"]


def test_blocks_in_a_row_are_the_network() -> None:
    space = spaces.load("nasbench_macro")
    arch = space.parse("01210212")
    blocks = ChainBlocks(space).of(arch)
    assert sum(sum(p.numel() for p in block.make().parameters()) for block in blocks) == space.count(arch)["params"]
    for block, after in itertools.pairwise(blocks):
        assert block.output.shape == after.example.shape
        out = block.make()(torch.zeros(block.example.shape))
        assert out.shape == block.output.shape


def test_a_part_of_a_space_has_its_blocks_alone() -> None:
    whole = spaces.load("mobilenetv3@32")
    part = RestrictedSpace(whole, {"resolution": ["r48", "r64"]})
    blocks = ChainBlocks(part)
    every = blocks.all()
    assert len(every) == 178
    assert every.keys() < ChainBlocks(whole).all().keys()
    assert {b.name for arch in part.sample(500, np.random.default_rng(0)) for b in blocks.of(arch)} <= every.keys()
    short = RestrictedSpace(whole, {"resolution": ["r64"], "stage1.block4": ["skip"], "stage2.block3": ["k3_e3"]})
    blocks = ChainBlocks(short)
    drawn = {b.name for arch in short.sample(1000, np.random.default_rng(0)) for b in blocks.of(arch)}
    assert drawn == blocks.all().keys()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nasbench201", "no chain of blocks"),
        (str(FIXTURES / "my_net.toml"), "reads other blocks than the one before it"),
        ("flexibert", "depends on the choices of others"),
    ],
)
def test_spaces_whose_latencies_do_not_add_up_are_refused(name: str, message: str) -> None:
    with pytest.raises(InvalidSpace, match=message) as caught:
        ChainBlocks(spaces.load(name, trust_code=True)).all()
    assert "\n" not in str(caught.value)


def test_too_many_blocks_are_refused_with_a_way_out() -> None:
    with pytest.raises(InvalidSpace, match=r"fbnet has more than 100 different blocks.*take a part of it"):
        ChainBlocks(spaces.load("fbnet")).all(most=100)
