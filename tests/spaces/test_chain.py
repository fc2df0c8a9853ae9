"""Chains: published sizes and texts, depths, projection, moves, functions."""

import itertools
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

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

FIXTURES = Path(__file__).parent / "fixtures"


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


@pytest.fixture(scope="module")
def once_for_all() -> ChainSpace:
    return load("mobilenetv3")


@pytest.fixture(scope="module")
def small() -> ChainSpace:
    """Three stages of depths 1-2, 1 or 3 and 0-1, and two resolutions: 720 architectures."""
    return load(str(FIXTURES / "my_chain.toml"))


@pytest.fixture(scope="module")
def graph() -> ChainSpace:
    return load(str(FIXTURES / "my_net.toml"))


# -- points -----------------------------------------------------------------------------------------------------


def test_sizes_are_the_published_ones(once_for_all: ChainSpace, small: ChainSpace) -> None:
    assert once_for_all.size == 25 * (9**2 + 9**3 + 9**4) ** 5  # about 2e19 networks, at 25 resolutions
    assert load("fbnet").size == 9**22
    assert load("nasbench_macro").size == 6_561
    assert small.size == 2 * (2 + 4) * (3 + 27) * (1 + 1)


def test_enumerate_gives_every_point_once_in_lexicographic_order(small: ChainSpace) -> None:
    archs = small.enumerate()
    assert len(set(archs)) == len(archs) == small.size
    choices = [tuple(small.to_choices(arch).values()) for arch in archs]
    assert choices == sorted(choices)
    for arch in archs:
        small.validate(arch)


def test_enumerate_refuses_a_space_too_large_to_list(once_for_all: ChainSpace) -> None:
    with pytest.raises(InvalidSpace, match=r"mobilenetv3 has 5.44e\+20 points, too many to list"):
        once_for_all.enumerate()


def test_extremes_have_the_least_and_the_most_blocks_and_counts(once_for_all: ChainSpace, small: ChainSpace) -> None:
    assert once_for_all.extremes is not None
    smallest, largest = once_for_all.extremes
    assert list(once_for_all.depths(smallest).values()) == [2] * 5
    assert list(once_for_all.depths(largest).values()) == [4] * 5
    counts = [once_for_all.count(arch)["macs"] for arch in once_for_all.sample(3, np.random.default_rng(0))]
    assert once_for_all.count(smallest)["macs"] < min(counts)
    assert once_for_all.count(largest)["macs"] > max(counts)
    assert small.extremes is not None
    assert [list(small.depths(arch).values()) for arch in small.extremes] == [[1, 1, 0], [2, 3, 1]]
    assert small.to_labels(small.extremes[1])["middle1"] == "mbconv_k5_e3"  # the first that the slot may carry


def test_spaces_of_ones_own_keep_every_promise(small: ChainSpace, graph: ChainSpace) -> None:
    check_space(small, n=16, rng=np.random.default_rng(0))
    check_space(graph, n=16, rng=np.random.default_rng(0))
    assert graph.free
    assert not small.free


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


def test_validate_says_what_is_wrong(small: ChainSpace) -> None:
    arch = small.enumerate()[0]
    labels = small.to_labels(arch)
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
            small.validate(bad)
    for hole in ({"middle2": SKIP}, {"middle3": SKIP}):
        with pytest.raises(InvalidArchitecture, match="'middle' has its first 1 or 3 blocks and 'skip'"):
            small.from_labels({**labels, "middle2": "ghost", "middle3": "ghost", **hole})
    with pytest.raises(InvalidArchitecture, match=r"check \['low9'\]"):
        small.from_labels({**labels, "low9": "ghost"})
    with pytest.raises(InvalidArchitecture, match="low1 must be from 0 to 1, got 2"):
        small.from_choices({**small.to_choices(arch), "low1": 2})
    with pytest.raises(InvalidArchitecture, match=r"check \['low1'\]"):
        small.from_choices({k: v for k, v in small.to_choices(arch).items() if k != "low1"})


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


# -- drawing ----------------------------------------------------------------------------------------------------


def test_samples_have_uniform_depths_and_labels(once_for_all: ChainSpace, rng: np.random.Generator) -> None:
    """Chi-square over 5 stages of 3 depths and 10 slots of 9 labels, 90 degrees of freedom; 170 has p = 7e-7."""
    n = 4_000
    archs = once_for_all.sample(n, rng)
    depths = np.array([list(once_for_all.depths(arch).values()) for arch in archs])
    statistic = sum(((np.bincount(column, minlength=5)[2:] - n / 3) ** 2 / (n / 3)).sum() for column in depths.T)
    for stage in once_for_all.stages:
        for slot in stage.slots[:2]:
            labels = [once_for_all.to_choices(arch)[slot] for arch in archs]
            statistic += ((np.bincount(labels, minlength=9) - n / 9) ** 2 / (n / 9)).sum()
    assert statistic < 170


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


def test_projection_draws_labels_from_the_probabilities(small: ChainSpace) -> None:
    """`middle2` and `middle3` are drawn with a gap; what they get must follow the given probabilities.

    P(depth 3) = 0.36 / (0.36 + 0.16) when each is left out with probability 0.4; 4,000 draws, six standard errors.
    """
    n = 4_000
    labels = small.to_labels(small.enumerate()[0])
    clean = small.encode([small.from_labels({**labels, "middle2": "ghost", "middle3": "ghost"})] * n)
    index = {label: i for i, label in enumerate(small.labels)}
    two, three = (1 + list(small.slots).index(slot) for slot in ("middle2", "middle3"))
    ops = clean.ops.clone()
    ops[:, two] = torch.nn.functional.one_hot(torch.tensor(index[SKIP]), len(small.labels))
    p = clean.ops.clone()
    for node in (two, three):
        p[:, node] = 0.0
        p[:, node, index[SKIP]] = 0.4
        p[:, node, index["ghost"]] = 0.45
        p[:, node, index["mbconv_k3_e3"]] = 0.15
    drawn = GraphBatch(ops, clean.edges, clean.node_mask)
    fixed = small.project(
        drawn, GraphBatch(p, clean.edges, clean.node_mask), generator=torch.Generator().manual_seed(0)
    ).labels[:, [two, three]]
    deep = fixed[:, 0] != index[SKIP]
    assert torch.equal(deep, fixed[:, 1] != index[SKIP])
    share = 0.36 / (0.36 + 0.16)
    assert abs(float(deep.float().mean()) - share) < 6 * math.sqrt(share * (1 - share) / n)
    ghost = (fixed[deep] == index["ghost"]).float().mean()
    assert abs(float(ghost) - 0.75) < 6 * math.sqrt(0.75 * 0.25 / (2 * int(deep.sum())))
    assert index["mbconv_k5_e3"] not in fixed


def test_mutation_reaches_every_depth_and_every_label(small: ChainSpace, rng: np.random.Generator) -> None:
    """At most 23 single changes, the rarest with chance 1/7 x 1/27; 6,000 draws miss one with p below 1e-10."""
    labels = {"resolution": "r24", "low1": "ghost", "low2": SKIP, "middle1": "ghost", "high1": SKIP}
    arch = small.from_labels({**labels, "middle2": SKIP, "middle3": SKIP})
    seen = {small.mutate(arch, rng) for _ in range(6_000)}
    depths = {tuple(small.depths(mutant).values()) for mutant in seen}
    assert depths == {(1, 1, 0), (2, 1, 0), (1, 3, 0), (1, 1, 1)}
    grown = [mutant for mutant in seen if small.depths(mutant)["middle"] == 3]
    assert len(grown) == 9
    assert len(seen) == 1 + 1 + 2 + 2 + 9 + 1  # resolution, low1, low2, middle1, two blocks of middle, high1


def test_neighbours_differ_in_one_slot_or_one_depth(small: ChainSpace) -> None:
    archs = {small.format(arch): arch for arch in small.enumerate()}
    for arch in list(archs.values())[::37]:
        near = small.neighbours(arch)
        assert len(near) == len(set(near))
        labels, depths = small.to_labels(arch), small.depths(arch)
        expected = sum(len(small.active[slot]) - 1 for slot in small.slots if not small.left_out(slot, depths))
        # another depth: one of low (or its two labels), one of middle, and one of high
        expected += (2 if depths["low"] == 1 else 1) + 1 + 1
        assert len(near) == expected
        for other in near:
            changed = [d for d in depths if depths[d] != small.depths(other)[d]]
            differing = [slot for slot in labels if labels[slot] != small.to_labels(other)[slot]]
            assert len(changed) == 1 or (not changed and len(differing) == 1)


def test_a_stage_that_grows_by_two_blocks_repeats_its_last_one(small: ChainSpace) -> None:
    arch = small.from_labels(
        {"resolution": "r24", "low1": "ghost", "low2": SKIP, "middle1": "mbconv_k5_e3", "middle2": SKIP}
        | {"middle3": SKIP, "high1": SKIP}
    )
    grown = [other for other in small.neighbours(arch) if small.depths(other)["middle"] == 3]
    assert [small.to_labels(other)["middle3"] for other in grown] == ["mbconv_k5_e3"]


def test_crossover_takes_each_depth_and_label_from_a_parent(small: ChainSpace, rng: np.random.Generator) -> None:
    a, b = (small.to_labels(arch) for arch in (small.enumerate()[0], small.enumerate()[-1]))
    a, b = {**a, "middle1": "ghost"}, {**b, "low2": "ghost", "middle2": "mbconv_k3_e3", "middle3": "mbconv_k5_e3"}
    first, second = small.from_labels(a), small.from_labels(b)
    children = {small.crossover(first, second, rng) for _ in range(3_000)}
    for child in children:
        labels, depths = small.to_labels(child), small.depths(child)
        assert all(labels[slot] in (a[slot], b[slot]) for slot in labels)
        assert all(depths[d] in (small.depths(first)[d], small.depths(second)[d]) for d in depths)
    differing = sum(a[slot] != b[slot] for slot in ("resolution", "low1", "middle1"))
    depths_differ = sum(small.depths(first)[d] != small.depths(second)[d] for d in ("low", "middle", "high"))
    assert len({tuple(small.depths(child).values()) for child in children}) == 2**depths_differ
    assert len(children) >= 2 ** (differing + depths_differ)


# -- functions --------------------------------------------------------------------------------------------------


def test_canonical_contracts_skips_that_are_identities_and_no_others() -> None:
    fbnet = load("fbnet")

    def text(**layers: int) -> str:
        indices = [8] * 22
        for name, index in layers.items():
            indices[int(name[1:]) - 1] = index
        return fbnet.canonical(fbnet.parse("_".join(map(str, indices))))

    assert text(l3=0) == text(l4=0) == text(l5=0)  # three layers of one shape, the others skipped
    assert text(l3=0) != text(l7=0)  # another stage
    assert text(l2=0) != text(l3=0)  # layer 2 changes the shape: skipping it is a convolution
    assert text(l3=0, l5=1) == text(l3=0, l4=1)
    assert text(l3=0, l4=1) != text(l3=1, l4=0)


def test_different_networks_have_different_canonical_forms(small: ChainSpace, graph: ChainSpace) -> None:
    for space in (small, graph):
        assert len({space.canonical(arch) for arch in space.enumerate()}) == space.size


def test_canonical_merges_graphs_that_are_mirrored(tmp_path: Path) -> None:
    toml = tmp_path / "mirror.toml"
    nodes = [("left", '"input"'), ("right", '"input"'), ("end", '"left", "right"')]
    body = "".join(
        f'[[nodes]]\nname = "{name}"\ninputs = [{inputs}]\noperations = ["conv_3x3", "conv_5x5", "skip"]\n'
        for name, inputs in nodes
    )
    network = "".join(f"{key} = {value}\n" for key, value in NETWORK.items())
    toml.write_text(f'name = "mirror"\nfamily = "chain"\n{body}[network]\nskeleton = "image"\n{network}')
    space = load(str(toml))
    forms = {}
    for ops in itertools.product(["conv_3x3", "conv_5x5", "skip"], repeat=3):
        arch = space.from_labels(dict(zip(("left", "right", "end"), ops, strict=True)))
        forms.setdefault(space.canonical(arch), set()).add((frozenset(ops[:2]), len(set(ops[:2])), ops[2]))
    assert len(forms) == 6 * 3
    assert all(len(kinds) == 1 for kinds in forms.values())


def test_computation_leaves_out_what_is_skipped(small: ChainSpace, graph: ChainSpace) -> None:
    arch = small.parse("r24|ghost|skip|ghost|skip|skip|sep_conv_3x3")
    dag = small.computation(arch)
    assert dag.ops == ("input", "r24", "ghost", "ghost", "sep_conv_3x3", "output")
    assert dag.edges == ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5))
    dag = graph.computation(graph.parse("conv_3x3|skip|mbconv_k5_e3|ghost"))
    assert dag.ops == ("input", "conv_3x3", "mbconv_k5_e3", "ghost", "output")
    assert dag.edges == ((0, 1), (1, 2), (1, 3), (2, 3), (3, 4))


def test_network_arguments_are_checked(small: ChainSpace) -> None:
    arch = small.enumerate()[0]
    for use in (small.build, small.count):
        with pytest.raises(UnknownName, match="did you mean 'channels'"):
            use(arch, chanels=4)
        with pytest.raises(InvalidSpace, match="channels of the network must be at least 1, got 0"):
            use(arch, channels=0)
    assert small.example_input(2, image_size=20).shape == (2, 3, 20, 20)
    assert small.count(arch, channels=4)["params"] < small.count(arch)["params"]
