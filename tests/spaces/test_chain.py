"""Chains: published sizes and texts, depths, projection, moves, functions."""

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from archgen import spaces
from archgen.errors import InvalidArchitecture, InvalidSpace, UnknownName
from archgen.graph import Architecture, GraphBatch
from archgen.networks.mbconv import conv_bn
from archgen.networks.skeleton import Segment, register_skeleton
from archgen.spaces import ChainSpace
from archgen.spaces.stages import SKIP, Stage
from archgen.testing import check_space


@register_skeleton("test_pairs")
def pairs(slots: Mapping[str, str], *, channels: int, classes: int, in_channels: int, image_size: int) -> list[Segment]:
    """Layers that two slots describe: a kernel and a width."""
    segments, width = [Segment("stem", partial(conv_bn, in_channels, channels))], channels
    for kernel, wide in zip(*[iter(slots.values())] * 2, strict=True):
        if kernel != SKIP:
            key = (width, int(wide[1:]), int(kernel[1:]))
            segments.append(Segment(key, partial(conv_bn, *key)))
            width = key[1]
    head = partial(nn.Linear, width, classes)
    pool = partial(nn.Sequential, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return [*segments, Segment("pool", pool), Segment(("head", width), head)]


NETWORK = {"channels": 8, "classes": 3, "in_channels": 3, "image_size": 8}


def load(name: str) -> ChainSpace:
    space = spaces.load(name)
    assert isinstance(space, ChainSpace)
    return space


# -- points -----------------------------------------------------------------------------------------------------


def test_sizes_are_the_published_ones(once_for_all: ChainSpace, my_chain: ChainSpace) -> None:
    assert once_for_all.size == 25 * (9**2 + 9**3 + 9**4) ** 5  # about 2e19 networks, at 25 resolutions
    assert load("fbnet").size == 9**22
    assert load("nasbench_macro").size == 6_561
    assert my_chain.size == 2 * (2 + 4) * (3 + 27) * (1 + 1)


def test_extremes_have_the_least_and_the_most_blocks_and_counts(once_for_all: ChainSpace, my_chain: ChainSpace) -> None:
    assert once_for_all.extremes is not None
    smallest, largest = once_for_all.extremes
    assert list(once_for_all.depths(smallest).values()) == [2] * 5
    assert list(once_for_all.depths(largest).values()) == [4] * 5
    counts = [once_for_all.count(arch)["macs"] for arch in once_for_all.sample(3, np.random.default_rng(0))]
    assert once_for_all.count(smallest)["macs"] < min(counts)
    assert once_for_all.count(largest)["macs"] > max(counts)
    assert my_chain.extremes is not None
    assert [list(my_chain.depths(arch).values()) for arch in my_chain.extremes] == [[1, 1, 0], [2, 3, 1]]
    assert my_chain.to_labels(my_chain.extremes[1])["middle1"] == "mbconv_k5_e3"  # the first that the slot may carry


def test_flops_of_segments_are_known_by_name_and_add_up() -> None:
    fbnet = load("fbnet")
    for arch in fbnet.sample(2, np.random.default_rng(0)):
        found = fbnet.segment_flops(arch, image_size=16)
        assert sum(flops for _, flops in found) == fbnet.count(arch, image_size=16)["flops"]
        assert [name for name, _ in found] == ["stem", *fbnet.slots, "head"]


def test_spaces_of_ones_own_keep_every_promise(my_chain: ChainSpace, graph: ChainSpace) -> None:
    check_space(my_chain, n=16, rng=np.random.default_rng(0))
    check_space(graph, n=16, rng=np.random.default_rng(0))
    assert graph.free
    assert not my_chain.free


def test_blocks_that_several_slots_describe_come_and_go_together(rng: np.random.Generator) -> None:
    stage = Stage("layer", (1, 3), tuple((f"layer{i}.kernel", f"layer{i}.width") for i in (1, 2, 3)))
    slots = {slot: ("w4", "w8") if slot.endswith("width") else ("k1", "k3", "k5") for slot in stage.slots}
    network = {"channels": 4, "classes": 3, "in_channels": 2, "image_size": 8}
    space = ChainSpace("pairs", slots, [stage], skeleton="test_pairs", network=network)
    check_space(space, n=24, rng=rng)
    archs = space.enumerate()
    assert len(archs) == space.size == 6 + 6**3
    assert {sum(label == SKIP for label in space.to_labels(arch).values()) for arch in archs} == {0, 4}
    shallow = next(arch for arch in archs if space.depths(arch) == {"layer": 1})
    assert {space.depths(space.mutate(shallow, rng))["layer"] for _ in range(100)} == {1, 3}
    assert sorted(space.depths(near)["layer"] for near in space.neighbours(shallow)) == [1, 1, 1, 3]


def test_validate_says_what_is_wrong(my_chain: ChainSpace) -> None:
    arch = my_chain.enumerate()[0]
    labels = my_chain.to_labels(arch)
    wrong = {
        "one of 'other'": Architecture("other", arch.ops, arch.edges),
        "expected 9 nodes": Architecture(arch.space, (*arch.ops, "output"), arch.edges),
        "must be input and output": Architecture(arch.space, ("r24", *arch.ops[1:]), arch.edges),
        "unknown label of low1 'conv_3x4': did you mean 'conv_3x3'": Architecture(
            arch.space, (*arch.ops[:2], "conv_3x4", *arch.ops[3:]), arch.edges
        ),
        "the graph of every my_chain network": Architecture(arch.space, arch.ops, arch.edges[1:]),
    }
    for message, bad in wrong.items():
        with pytest.raises(InvalidArchitecture, match=message):
            my_chain.validate(bad)
    for hole in ({"middle2": SKIP}, {"middle3": SKIP}):
        with pytest.raises(InvalidArchitecture, match="'middle' has its first 1 or 3 blocks and 'skip'"):
            my_chain.from_labels({**labels, "middle2": "ghost", "middle3": "ghost", **hole})
    with pytest.raises(InvalidArchitecture, match=r"check \['low9'\]"):
        my_chain.from_labels({**labels, "low9": "ghost"})
    with pytest.raises(InvalidArchitecture, match="low1 must be from 0 to 1, got 2"):
        my_chain.from_choices({**my_chain.to_choices(arch), "low1": 2})
    with pytest.raises(InvalidArchitecture, match=r"check \['low1'\]"):
        my_chain.from_choices({k: v for k, v in my_chain.to_choices(arch).items() if k != "low1"})


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ({"a": ()}, "'a' has no labels, so the space is empty"),
        ({"a": ("skip", "skip")}, "'a' names a label twice"),
        ({"a": ("conv 3",)}, "'conv 3' can not be a label"),
        ({"a": ("",)}, "'' can not be a label"),
        ({"a": ("input",)}, "'input' can not be a label"),
        ({"a": ("skip",)}, "one architecture only"),
    ],
)
def test_slots_that_make_no_space_are_refused(slots: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        ChainSpace("s", slots, skeleton="image", network=NETWORK)


def test_skip_can_not_be_a_label_where_it_stands_for_a_block_left_out() -> None:
    stage = Stage("s", (1, 2), (("s1",), ("s2",)))
    with pytest.raises(InvalidSpace, match="'s2': 'skip' stands for a block left out"):
        ChainSpace("s", {"s1": ("skip", "conv_3x3"), "s2": ("skip",)}, [stage], skeleton="image", network=NETWORK)


# -- projection -------------------------------------------------------------------------------------------------


def test_projection_keeps_every_stage_that_is_allowed(once_for_all: ChainSpace, rng: np.random.Generator) -> None:
    clean = once_for_all.encode(once_for_all.sample(20, rng))
    skip = once_for_all.labels.index(SKIP)
    broken = clean.ops.clone()
    at = 1 + list(once_for_all.slots).index("stage2.block3")
    broken[:, at] = torch.nn.functional.one_hot(torch.tensor(skip), broken.shape[-1])
    broken[:, at + 1] = torch.nn.functional.one_hot(torch.tensor(skip - 1), broken.shape[-1])  # a gap in stage 2
    uniform = once_for_all.node_domain.float()
    probabilities = GraphBatch(
        (uniform / uniform.sum(-1, keepdim=True)).expand_as(broken), clean.edges, clean.node_mask
    )
    noise = torch.Generator().manual_seed(0)
    fixed = once_for_all.project(GraphBatch(broken, clean.edges, clean.node_mask), probabilities, generator=noise)
    assert None not in once_for_all.decode(fixed)
    others = [i for i in range(broken.shape[1]) if i not in (at, at + 1)]
    assert torch.equal(fixed.ops[:, others], clean.ops[:, others])


def test_projection_draws_labels_from_the_probabilities(my_chain: ChainSpace) -> None:
    """`middle2` and `middle3` are drawn with a gap; what they get must follow the given probabilities.

    P(depth 3) = 0.36 / (0.36 + 0.16) when each is left out with probability 0.4; 4,000 draws, six standard errors.
    """
    n = 4_000
    labels = my_chain.to_labels(my_chain.enumerate()[0])
    clean = my_chain.encode([my_chain.from_labels({**labels, "middle2": "ghost", "middle3": "ghost"})] * n)
    index = {label: i for i, label in enumerate(my_chain.labels)}
    two, three = (1 + list(my_chain.slots).index(slot) for slot in ("middle2", "middle3"))
    ops = clean.ops.clone()
    ops[:, two] = torch.nn.functional.one_hot(torch.tensor(index[SKIP]), len(my_chain.labels))
    p = clean.ops.clone()
    for node in (two, three):
        p[:, node] = 0.0
        p[:, node, index[SKIP]] = 0.4
        p[:, node, index["ghost"]] = 0.45
        p[:, node, index["mbconv_k3_e3"]] = 0.15
    drawn = GraphBatch(ops, clean.edges, clean.node_mask)
    fixed = my_chain.project(
        drawn, GraphBatch(p, clean.edges, clean.node_mask), generator=torch.Generator().manual_seed(0)
    ).labels[:, [two, three]]
    deep = fixed[:, 0] != index[SKIP]
    assert torch.equal(deep, fixed[:, 1] != index[SKIP])
    share = 0.36 / (0.36 + 0.16)
    assert abs(float(deep.float().mean()) - share) < 6 * math.sqrt(share * (1 - share) / n)
    ghost = (fixed[deep] == index["ghost"]).float().mean()
    assert abs(float(ghost) - 0.75) < 6 * math.sqrt(0.75 * 0.25 / (2 * int(deep.sum())))
    assert index["mbconv_k5_e3"] not in fixed


# -- functions --------------------------------------------------------------------------------------------------


def test_network_arguments_are_checked(my_chain: ChainSpace) -> None:
    arch = my_chain.enumerate()[0]
    for use in (my_chain.build, my_chain.count):
        with pytest.raises(UnknownName, match="did you mean 'channels'"):
            use(arch, chanels=4)
        with pytest.raises(InvalidSpace, match="channels of the network must be at least 1, got 0"):
            use(arch, channels=0)
    assert my_chain.example_input(2, image_size=20).shape == (2, 3, 20, 20)
    assert my_chain.count(arch, channels=4)["params"] < my_chain.count(arch)["params"]
