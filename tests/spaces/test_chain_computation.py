"""What chains compute: the graph that is left, and forms that are equal where functions are."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from archgen import spaces
from archgen.errors import InvalidArchitecture
from archgen.spaces import ChainSpace
from archgen.spaces.contraction import contract
from archgen.spaces.stages import SKIP

NETWORK = {"channels": 8, "classes": 3, "in_channels": 3, "image_size": 8}


def load(name: str) -> ChainSpace:
    space = spaces.load(name)
    assert isinstance(space, ChainSpace)
    return space


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


def test_different_networks_have_different_canonical_forms(my_chain: ChainSpace, graph: ChainSpace) -> None:
    for space in (my_chain, graph):
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


def test_computation_leaves_out_what_is_skipped(my_chain: ChainSpace, graph: ChainSpace) -> None:
    arch = my_chain.parse("r24|ghost|skip|ghost|skip|skip|sep_conv_3x3")
    dag = my_chain.computation(arch)
    assert dag.ops == ("input", "r24", "ghost", "ghost", "sep_conv_3x3", "output")
    assert dag.edges == ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5))
    dag = graph.computation(graph.parse("conv_3x3|skip|mbconv_k5_e3|ghost"))
    assert dag.ops == ("input", "conv_3x3", "mbconv_k5_e3", "ghost", "output")
    assert dag.edges == ((0, 1), (1, 2), (1, 3), (2, 3), (3, 4))


def test_an_architecture_of_another_space_has_no_computation(my_chain: ChainSpace) -> None:
    with pytest.raises(InvalidArchitecture, match="expected an architecture of"):
        my_chain.computation(spaces.load("fbnet").sample(1, np.random.default_rng(0))[0])


@pytest.mark.parametrize("name", spaces.available())
def test_a_space_says_whether_segments_can_be_the_identity(name: str, rng: np.random.Generator) -> None:
    space = spaces.load(name)
    if isinstance(space, ChainSpace) and not space.skeleton.identities:
        for arch in space.sample(20, rng):
            assert not any(segment.identity for segment in space.segments(arch))
            reads = [[i for i, j in arch.edges if j == node] for node in range(len(arch.ops))]
            kept, edges = contract(reads, {i for i, op in enumerate(arch.ops) if op == SKIP})
            computed = space.computation(arch)
            assert computed.ops == tuple(arch.ops[i] for i in kept)
            assert computed.edges == tuple(sorted(edges.elements()))
