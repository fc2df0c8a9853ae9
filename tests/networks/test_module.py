"""The network of NAS-Bench-101: published channels and parameters, and what a module computes."""

import pytest
import torch
from torch import Tensor, nn

from archgen.networks import OPERATIONS, ModuleNetwork, count_network
from archgen.networks.module import ConvBNReLU, DagModule, count_module_network, vertex_channels

C3, C1, MP = "conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3"
SMALL = {"stacks": 2, "cells": 2, "channels": 4, "classes": 3, "in_channels": 2}
INCEPTION = ((0, 1), (0, 2), (0, 3), (0, 5), (1, 6), (2, 6), (3, 4), (4, 6), (5, 6))


def images(size: int = 8, channels: int = 2, b: int = 4) -> Tensor:
    return torch.randn(b, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("inputs", "outputs", "edges", "expected"),
    [  # the cases of the published unit tests
        (8, 16, ((0, 1), (1, 2), (2, 3)), [8, 16, 16, 16]),
        (16, 8, ((0, 1), (1, 2), (2, 3)), [16, 8, 8, 8]),
        (5, 1, ((0, 1),), [5, 1]),
        (8, 16, ((0, 1), (0, 2), (1, 3), (2, 3), (3, 4)), [8, 16, 16, 16, 16]),
        (8, 15, ((0, 1), (0, 2), (1, 3), (2, 3)), [8, 8, 7, 15]),
        (8, 8, ((0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)), [8, 3, 3, 2, 8]),
        (8, 9, ((0, 1), (1, 2), (1, 3), (2, 4), (3, 4)), [8, 5, 5, 4, 9]),
        (8, 15, ((0, 1), (0, 3), (1, 2), (1, 4), (2, 3), (3, 4)), [8, 8, 7, 7, 15]),
    ],
)
def test_channels_of_the_vertices_are_the_published_ones(
    inputs: int, outputs: int, edges: tuple[tuple[int, int], ...], expected: list[int]
) -> None:
    assert vertex_channels(inputs, outputs, len(expected), edges) == expected


def test_too_few_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="1 channels can not be divided among 2 vertices"):
        vertex_channels(1, 1, 4, ((0, 1), (0, 2), (1, 3), (2, 3)))


def test_a_module_adds_projects_cuts_and_concatenates() -> None:
    """Vertices 1 and 3 feed the output (8 and 7 channels of 15); vertex 2 reads vertex 1 without its last channel."""
    edges = ((0, 1), (0, 3), (0, 4), (1, 2), (1, 4), (2, 3), (3, 4))
    module = DagModule([C3, MP, C1], edges, inputs=5, outputs=15).eval()
    x = images(channels=5)
    one = module.operations["1"](module.projections["1"](x))
    two = nn.functional.max_pool2d(one[:, :7], 3, stride=1, padding=1)
    three = module.operations["3"](two + module.projections["3"](x))
    assert (one.shape[1], three.shape[1]) == (8, 7)
    torch.testing.assert_close(module(x), torch.cat([one, three], 1) + module.projections["4"](x))


def test_a_module_without_vertices_is_a_projection() -> None:
    module, x = DagModule([], ((0, 1),), inputs=5, outputs=6).eval(), images(channels=5)
    torch.testing.assert_close(module(x), module.projections["1"](x))
    assert isinstance(module.projections["1"], ConvBNReLU)


def test_projections_are_convolution_norm_and_relu() -> None:
    block, x = ConvBNReLU(3, 4, 3).eval(), images(channels=3)
    expected = nn.functional.conv2d(x, block[0].weight, padding=1) / (1 + block[1].eps) ** 0.5
    torch.testing.assert_close(block(x), expected.relu())


def test_weights_start_with_the_published_variance() -> None:
    torch.manual_seed(0)
    weight = ConvBNReLU(64, 64, 3)[0].weight
    assert weight.std().item() == pytest.approx((1 / (64 * 9)) ** 0.5, rel=0.02)
    assert weight.abs().max().item() <= 2 * (1 / (64 * 9)) ** 0.5 / 0.87962566103423978


@pytest.mark.parametrize("size", [8, 7, 1])
def test_stacks_halve_the_image_and_double_the_channels(size: int) -> None:
    network = ModuleNetwork([C1, C3, C3, C3, MP], INCEPTION, **SMALL).eval()
    x, shapes = network.stem(images(size)), []
    for layer in network.layers:
        x = layer(x)
        shapes.append((x.shape[1], x.shape[2]))
    half = (size + 1) // 2
    assert shapes == [(4, size), (4, size), (4, half), (8, half), (8, half)]
    assert network(images(size)).shape == (4, 3)


def test_a_gradient_reaches_every_weight() -> None:
    network = ModuleNetwork([C1, C3, C3, C3, MP], INCEPTION, **{**SMALL, "channels": 8})
    network(images()).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())


@pytest.mark.parametrize("size", [32, 9])
@pytest.mark.parametrize(
    ("operations", "edges"),
    [
        ([C1, C3, C3, C3, MP], INCEPTION),
        ([], ((0, 1),)),
        ([C3, MP, C1], ((0, 1), (0, 3), (0, 4), (1, 2), (1, 4), (2, 3), (3, 4))),
    ],
)
def test_counts_from_layers_are_those_of_the_network(
    size: int, operations: list[str], edges: tuple[tuple[int, int], ...]
) -> None:
    arguments = {"stacks": 3, "cells": 2, "channels": 13, "classes": 7, "in_channels": 3}
    with torch.device("meta"):
        network = ModuleNetwork(operations, edges, **arguments)
    expected = count_network(network, (3, size, size))
    assert count_module_network(operations, edges, **arguments, image_size=size) == expected


def test_operations_are_registered_by_their_published_names() -> None:
    assert {C3, C1, MP} <= set(OPERATIONS)
