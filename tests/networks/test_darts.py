"""The network of DARTS: published stacking and parameters, drop-path, auxiliary head."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archgen import spaces
from archgen.networks import DartsNetwork, count_network
from archgen.networks.cell_operations import FactorizedReduce
from archgen.networks.darts import DartsCell, Inputs, Place, count_darts_network, drop_path, places
from archgen.spaces import GenotypeSpace

SMALL = {"cells": 3, "channels": 4, "classes": 3, "in_channels": 2}
V1_NORMAL: Inputs = [
    *(("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 0), ("sep_conv_3x3", 1)),
    *(("skip_connect", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 2)),
]
V1_REDUCE: Inputs = [
    *(("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 0)),
    *(("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("avg_pool_3x3", 0)),
]
CUT: Inputs = [(None, 0)] * 8


def images(size: int = 8, channels: int = 2, b: int = 4) -> Tensor:
    return torch.randn(b, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_cells_reduce_at_one_and_two_thirds() -> None:
    found = places(4, 20, 36, 32)
    assert [i for i, place in enumerate(found) if place.reduction] == [6, 13]
    assert [place.channels for place in found] == [36] * 6 + [72] * 7 + [144] * 7
    assert [place.size for place in found] == [32] * 7 + [16] * 7 + [8] * 6
    assert [i for i, place in enumerate(found) if place.reduction_previous] == [7, 14]
    assert [place.previous for place in found[:8]] == [108] + [144] * 6 + [288]
    assert [place.before_previous for place in found[:9]] == [108, 108] + [144] * 6 + [288]


@pytest.mark.parametrize("size", [8, 7, 1])
@pytest.mark.parametrize("cells", [1, 2, 3, 5])
def test_any_depth_and_image_size_work(cells: int, size: int) -> None:
    network = DartsNetwork(V1_NORMAL, V1_REDUCE, **{**SMALL, "cells": cells}).eval()
    assert network(images(size)).shape == (4, 3)


def test_a_normal_cell_sums_and_concatenates() -> None:
    inputs: Inputs = [("sep_conv_3x3", 0), ("skip_connect", 1), ("max_pool_3x3", 2), (None, 0)]
    cell = DartsCell(inputs, Place(3, 5, 4, 8, False, False)).eval()
    before, previous = images(channels=3), images(channels=5)
    s0, s1 = cell.preprocess_0(before), cell.preprocess_1(previous)
    first = cell.operations["0"](s0) + s1
    second = nn.functional.max_pool2d(first, 3, stride=1, padding=1)
    torch.testing.assert_close(cell(before, previous), torch.cat([first, second], 1))


def test_a_reduction_cell_halves_what_reads_its_inputs() -> None:
    inputs: Inputs = [("skip_connect", 0), ("avg_pool_3x3", 1), ("skip_connect", 2), ("avg_pool_3x3", 0)]
    cell = DartsCell(inputs, Place(4, 4, 4, 8, True, False)).eval()
    assert isinstance(cell.operations["0"], FactorizedReduce)
    assert isinstance(cell.operations["2"], nn.Identity)
    assert cell(images(channels=4), images(channels=4)).shape == (4, 8, 4, 4)


def test_after_a_reduction_the_older_input_is_halved_first() -> None:
    cell = DartsCell([("skip_connect", 0), ("skip_connect", 1)], Place(3, 5, 4, 4, False, True)).eval()
    assert isinstance(cell.preprocess_0, FactorizedReduce)
    assert cell(images(8, 3), images(4, 5)).shape == (4, 4, 4, 4)


def test_what_reads_a_node_that_nothing_feeds_is_zero() -> None:
    inputs: Inputs = [(None, 0), (None, 1), ("sep_conv_3x3", 2), ("skip_connect", 2), ("skip_connect", 0), (None, 0)]
    cell = DartsCell(inputs, Place(4, 4, 4, 8, False, False)).eval()
    out = cell(images(channels=4), images(channels=4))
    assert not bool(out[:, :8].any())
    assert bool(out[:, 8:].any())
    network = DartsNetwork(CUT, CUT, **SMALL).eval()
    assert torch.equal(network(images()), network(0 * images()))


def test_a_gradient_reaches_every_weight() -> None:
    inputs: Inputs = [
        (op, s) for op, s in zip(["sep_conv_3x3", "dil_conv_5x5"] * 4, [0, 1, 2, 0, 1, 3, 4, 2], strict=True)
    ]
    network = DartsNetwork(inputs, inputs, **{**SMALL, "cells": 4})
    network(images()).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())


def randomised(network: nn.Module) -> nn.Module:
    """Random weights and batch-norm statistics everywhere, as training leaves them, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0, generator=generator)
        elif value.is_floating_point():
            value.normal_(0.0, 0.5, generator=generator)
    return network.eval()


def test_simplify_keeps_the_logits(rng: np.random.Generator) -> None:
    """Weights are copied by node and operation: what is left of a node keeps its order, but may change its place."""
    space = spaces.load("darts")
    assert isinstance(space, GenotypeSpace)
    archs = [arch for arch in space.sample(300, rng) if space.count(space.simplify(arch)) != space.count(arch)]
    assert len(archs) > 5
    for arch in archs[:5]:
        simple = space.simplify(arch)
        full, less = randomised(space.build(arch, **SMALL)), space.build(simple, **SMALL).eval()
        weights = full.state_dict()
        for c, cell in enumerate(less.cells):
            name = "reduce" if cell.reduction else "normal"
            before, after = (space.cells(a)[name == "reduce"] for a in (arch, simple))
            for node in range(4):
                old = [i for i in (2 * node, 2 * node + 1) if before[i] in after[2 * node : 2 * node + 2]]
                new = [i for i in (2 * node, 2 * node + 1) if after[i][0] != "none"]
                old = [i for i in old if before[i][0] != "none"]
                assert [before[i] for i in old] == [after[i] for i in new]
                for i, j in zip(old, new, strict=True):
                    part = full.cells[c].operations[str(i)].state_dict()
                    weights |= {f"cells.{c}.operations.{j}.{key}": value for key, value in part.items()}
        less.load_state_dict({name: weights[name] for name in less.state_dict()})
        with torch.no_grad():
            torch.testing.assert_close(less(images()), full(images()))


# -- drop-path ----------------------------------------------------------------------------------------------------


def test_drop_path_drops_whole_examples_and_keeps_the_mean() -> None:
    """Binomial with n = 4000; fails by chance once in 10^6 (five deviations)."""
    torch.manual_seed(0)
    out = drop_path(torch.ones(4_000, 2, 3, 3), 0.3)
    kept = out[:, 0, 0, 0] > 0
    assert torch.equal(out, kept[:, None, None, None] * torch.full_like(out, 1 / 0.7))
    assert abs(kept.float().mean().item() - 0.7) < 5 * (0.21 / 4_000) ** 0.5


def test_drop_path_spares_the_identity_and_evaluation() -> None:
    torch.manual_seed(0)
    inputs: Inputs = [("avg_pool_3x3", 0), ("skip_connect", 1)]
    cell, x = DartsCell(inputs, Place(4, 4, 4, 8, False, False)), images(channels=4)
    with torch.no_grad():
        s0, s1 = cell.preprocess_0(x), cell.preprocess_1(x)
        out = cell(x, x, 1 - 1e-6)
        torch.testing.assert_close(out, s1)
        assert not torch.allclose(cell(x, x, 0.0), s1)
        cell.eval()
        torch.testing.assert_close(cell(x, x, 1 - 1e-6), cell(x, x))
    assert s0.shape == s1.shape


def test_the_probability_grows_linearly_over_training() -> None:
    network = DartsNetwork(V1_NORMAL, V1_REDUCE, **SMALL)
    assert network.drop_path_prob == 0.0
    for progress, expected in ((0.0, 0.0), (0.5, 0.1), (1.0, 0.2)):
        network.schedule_drop_path(progress)
        assert network.drop_path_prob == pytest.approx(expected)
    network.schedule_drop_path(0.5, final=0.9)
    assert network.drop_path_prob == pytest.approx(0.45)
    x = images()
    assert not torch.allclose(network(x), network(x))
    for progress, final in ((1.1, 0.2), (-0.1, 0.2), (0.5, 1.0), (0.5, -0.1)):
        with pytest.raises(ValueError, match="expected progress in"):
            network.schedule_drop_path(progress, final)


# -- auxiliary head -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 28, 21, 40])
def test_the_auxiliary_head_reads_the_second_reduction(size: int) -> None:
    network = DartsNetwork(V1_NORMAL, V1_REDUCE, **SMALL, image_size=size, auxiliary=1)
    logits, auxiliary = network.with_auxiliary(images(size))
    assert logits.shape == auxiliary.shape == (4, 3)
    auxiliary.sum().backward()
    assert network.cells[2].preprocess_1[1].weight.grad is not None
    assert network.classifier.weight.grad is None
    network.eval()
    torch.testing.assert_close(network(images(size)), network.with_auxiliary(images(size))[0])


def test_the_published_head_pools_eight_pixels_to_two() -> None:
    network = DartsNetwork(V1_NORMAL, V1_REDUCE, **SMALL, auxiliary=1)
    assert network.auxiliary_head is not None
    assert network.auxiliary_head[1].stride == 3


def test_an_auxiliary_head_must_be_asked_for_and_fit() -> None:
    with pytest.raises(ValueError, match="build it with auxiliary=1"):
        DartsNetwork(V1_NORMAL, V1_REDUCE, **SMALL).with_auxiliary(images())
    with pytest.raises(ValueError, match="at least 6 x 6, got 5 x 5"):
        DartsNetwork(V1_NORMAL, V1_REDUCE, **SMALL, image_size=20, auxiliary=1)


# -- counts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{"cells": 8, "channels": 16}, {"cells": 1, "channels": 3}])
@pytest.mark.parametrize("auxiliary", [0, 1])
def test_counts_from_operations_are_those_of_the_network(arguments: dict[str, int], auxiliary: int) -> None:
    sizes = {**arguments, "classes": 10, "in_channels": 3, "image_size": 31, "auxiliary": auxiliary}
    with torch.device("meta"):
        network = DartsNetwork(V1_NORMAL, V1_REDUCE, **sizes)
    expected = count_network(network, (3, 31, 31))
    counts = count_darts_network(V1_NORMAL, V1_REDUCE, **sizes)
    assert counts == {"params": expected["params"], "flops": expected["macs"], "macs": expected["macs"]}
