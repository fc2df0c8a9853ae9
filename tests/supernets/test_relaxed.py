"""Mixtures of operations: one-hot ones are paths, others are sums, and what has no weight does not run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archgen import spaces
from archgen.errors import InvalidSpace
from archgen.spaces import CellSpace, GenotypeSpace, RestrictedSpace
from archgen.supernets import CellSupernet, ElasticSupernet, GenotypeSupernet, make_supernet, relaxed_supernet
from archgen.supernets.relaxed import weighed

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
SPACE = CellSpace("small", 4, ROLES, NETWORK)
TINY = CellSpace("tiny", 2, ROLES, NETWORK)


def genotypes() -> GenotypeSpace:
    roles = {"none": "zero", "skip_connect": "identity", "max_pool_3x3": "maximum", "sep_conv_3x3": "weighted"}
    network = {"cells": 3, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8, "auxiliary": 0}
    return GenotypeSpace("pair", 2, roles, network)


def images(n: int = 4) -> Tensor:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def cells(space: CellSpace = SPACE) -> CellSupernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CellSupernet(space, {})


@pytest.fixture(scope="module")
def pair() -> GenotypeSupernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GenotypeSupernet(genotypes(), {})


def test_a_one_hot_mixture_of_a_cell_is_the_path_to_the_bit_and_moves_the_same_statistics() -> None:
    for seed, arch in enumerate(SPACE.sample(8, np.random.default_rng(0))):
        one_hot = {name: {op: 1.0} for name, op in zip(SPACE.variables, arch.ops[1:-1], strict=True)}
        supernets = cells(), cells()
        for one in supernets:
            one.train()
        assert torch.equal(supernets[0](images(), arch), supernets[1].mixed(images(), one_hot)), seed
        for name, value in supernets[0].state_dict().items():
            assert torch.equal(value, supernets[1].state_dict()[name]), name


def test_a_one_hot_mixture_of_two_edges_a_node_is_the_genotypes_path(pair: GenotypeSupernet) -> None:
    space = pair.genotypes
    for arch in space.sample(8, np.random.default_rng(1)):
        weights: dict[str, dict[str, float]] = {}
        twice = False
        for cell, inputs in zip(("normal", "reduce"), space.cells(arch), strict=True):
            for i, (operation, source) in enumerate(inputs):
                edge = weights.setdefault(f"{cell} {source}->{2 + i // 2}", {})
                twice |= operation in edge  # one operation that is both inputs has twice the weight
                edge[operation] = edge.get(operation, 0.0) + 1.0
        pair.eval()
        with torch.no_grad():
            torch.testing.assert_close(
                pair.mixed(images(), weights), pair(images(), arch), rtol=0, atol=1e-5 if twice else 0
            )


def test_a_mixture_is_the_weighted_sum_of_its_operations() -> None:
    """A cell of one edge: linear in the edge's output up to the head, so the cell itself is compared."""
    cell = cells(TINY).skeleton.layers[0].eval()
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    operations = cell.edges["0-1"]  # type: ignore[union-attr, index]
    weights = {"none": 0.4, "skip_connect": 0.1, "nor_conv_1x1": 0.2, "nor_conv_3x3": 0.3}
    expected = 0.1 * x + 0.2 * operations["nor_conv_1x1"](x) + 0.3 * operations["nor_conv_3x3"](x)  # type: ignore[index, operator]
    torch.testing.assert_close(cell.mixed(x, {(0, 1): weights}), expected)  # type: ignore[operator, union-attr]


def test_what_has_no_weight_does_not_run_and_a_weight_of_0_has_a_gradient_alone() -> None:
    operations = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2), "c": nn.Linear(2, 2)})
    ran = []
    for name, operation in operations.items():
        operation.register_forward_hook(lambda module, inputs, output, name=name: ran.append(name))
    x, gates = torch.randn(3, 2, requires_grad=True), torch.tensor([1.0, 0.0], requires_grad=True)
    out = weighed(operations, x, {"a": gates[0], "b": gates[1]})
    assert out is not None
    assert ran == ["a", "b"]
    out.sum().backward()
    assert gates.grad is not None
    assert gates.grad.tolist() == pytest.approx([operations[n](x).sum().item() for n in ("a", "b")], rel=1e-5)
    assert operations["b"].weight.grad is None
    assert operations["a"].weight.grad is not None
    assert weighed(operations, x, {"none": 1.0}) is None


def test_a_mixture_without_a_path_gives_all_images_the_same_logits(pair: GenotypeSupernet) -> None:
    for supernet in (cells().eval(), pair.eval()):
        with torch.no_grad():
            logits = supernet.mixed(images(), {next(iter(supernet.edges)): {"none": 1.0}})
        assert torch.equal(logits, logits[:1].expand_as(logits))


def test_edges_are_those_of_the_part_that_is_trained(pair: GenotypeSupernet) -> None:
    assert cells().edges == SPACE.variables
    part = make_supernet(RestrictedSpace(SPACE, {"0->1": ["nor_conv_3x3"], "1->2": ["none", "nor_conv_1x1"]}))
    assert isinstance(part, CellSupernet)
    assert part.edges == SPACE.variables | {"0->1": ("nor_conv_3x3",), "1->2": ("none", "nor_conv_1x1")}
    assert list(pair.edges) == [
        f"{cell} {edge}" for cell in ("normal", "reduce") for edge in ("0->2", "1->2", "0->3", "1->3", "2->3")
    ]
    space = genotypes()
    with pytest.raises(InvalidSpace, match="not in a part of it"):
        _ = make_supernet(RestrictedSpace(space, {"normal 2.0 operation": ["none", "skip_connect"]})).edges  # type: ignore[union-attr]


def test_the_strongest_operation_of_each_edge_is_kept() -> None:
    scores = {name: [0.0] * 4 for name in SPACE.variables}
    scores["0->1"] = [0.1, 0.2, 0.4, 0.3]
    scores["2->3"] = [0.1, 0.2, 0.3, 0.4]
    arch = cells().strongest(scores)
    assert dict(zip(SPACE.variables, arch.ops[1:-1], strict=True)) == dict.fromkeys(SPACE.variables, "none") | {
        "0->1": "nor_conv_1x1",
        "2->3": "nor_conv_3x3",
    }


def test_a_genotype_keeps_the_two_strongest_edges_a_node_whatever_none_weighs(pair: GenotypeSupernet) -> None:
    scores = {edge: [0.9, 0.01, 0.02, 0.03] for edge in pair.edges}
    scores["normal 0->3"] = [0.9, 0.08, 0.0, 0.0]
    scores["normal 2->3"] = [0.0, 0.0, 0.5, 0.0]
    arch = pair.strongest(scores)
    normal, reduce = pair.genotypes.cells(arch)
    assert normal == (("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("skip_connect", 0), ("max_pool_3x3", 2))
    assert reduce == tuple(("sep_conv_3x3", source) for source in (0, 1, 0, 1))


def test_flops_of_an_operation_are_what_it_adds_to_a_network(pair: GenotypeSupernet) -> None:
    found, rest = cells().flops()
    counted = found["1->3"]
    ops = [["none"] * 6 for _ in ROLES]
    for row, op in zip(ops, ROLES, strict=True):
        row[list(SPACE.variables).index("1->3")] = op
    whole = [SPACE.count(SPACE.from_operations(row))["flops"] for row in ops]
    assert counted == [value - whole[0] for value in whole]
    assert rest == whole[0]
    assert counted[0] == counted[1] == 0 < counted[2] < counted[3]
    genotype, _ = pair.flops()
    assert genotype["normal 0->2"][0] == genotype["normal 0->2"][1] == 0 < genotype["normal 0->2"][3]
    assert genotype["reduce 0->2"][1] > 0, "a skip of stride 2 has weights"
    assert genotype["reduce 2->3"][1] == 0


def test_flops_of_edges_add_up_to_those_of_an_architecture() -> None:
    found, rest = cells().flops()
    for arch in SPACE.sample(5, np.random.default_rng(3)):
        edges = zip(SPACE.variables, SPACE.to_choices(arch).values(), strict=True)
        assert rest + sum(found[name][i] for name, i in edges) == SPACE.count(arch)["flops"]


MACRO = {"channels": 4, "head": 8, "classes": 3, "image_size": 16}


@pytest.mark.parametrize("share", [True, False])
def test_a_one_hot_mixture_of_a_chain_is_the_path_to_the_bit(share: bool) -> None:
    space = spaces.load("nasbench_macro")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ElasticSupernet(space, MACRO, share=share).eval()
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found, rest = net.flops()
    with torch.no_grad():
        for arch in space.sample(4, np.random.default_rng(0)):
            labels = net.chain.to_labels(arch)
            assert torch.equal(net.mixed(x, {slot: {label: 1.0} for slot, label in labels.items()}), net(x, arch))
            flops = rest + sum(found[slot][net.edges[slot].index(label)] for slot, label in labels.items())
            assert flops == space.count(arch, **MACRO)["flops"]
            scores = {slot: [float(label == own) for own in net.edges[slot]] for slot, label in labels.items()}
            assert net.strongest(scores) == arch
        half = {slot: {"identity": 0.5, "mb3_k3": 0.5} for slot in net.edges}
        assert not torch.equal(net.mixed(x, half), net(x, arch))
        with pytest.raises(ValueError, match="expected a weight for some label of 'layer1'"):
            net.mixed(x, {slot: {} for slot in net.edges})


def test_a_chain_whose_labels_depend_on_each_other_can_be_mixed_once_they_are_fixed() -> None:
    whole = spaces.load("mobilenetv3")
    with pytest.raises(InvalidSpace, match="labels of 'resolution' can not be mixed, since other parts of mobilenetv3"):
        _ = make_supernet(whole, width_percent=25, classes=3, image_size=32).edges  # type: ignore[union-attr]
    labels = {"resolution": ["r128"]}
    labels |= {slot: ["k3_e3", "k5_e6"] for slot in whole.variables if slot != "resolution"}
    net = make_supernet(RestrictedSpace(whole, labels), width_percent=25, classes=3, image_size=32)
    assert isinstance(net, ElasticSupernet)
    arch = net.strongest({slot: list(range(len(values))) for slot, values in net.edges.items()})
    assert set(arch.ops[1:-1]) == {"r128", "k5_e6"}
    net.space.validate(arch)


def test_a_supernet_without_mixtures_is_refused() -> None:
    with torch.random.fork_rng():
        other = make_supernet(spaces.load("nasbench101"), stacks=1, cells=1, channels=8)
    with pytest.raises(InvalidSpace, match=r"'darts' mixes operations on edges, which .* of nasbench101 can not do"):
        relaxed_supernet(other, "darts")
