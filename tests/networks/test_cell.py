"""The published network: shapes, arguments, and what dead and cut-off edges do to it."""

import numpy as np
import pytest
import torch
from torch import nn

from archgen.networks import CellNetwork
from archgen.spaces import SearchSpace

SMALL = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 2}
FULL = dict.fromkeys([(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)], "nor_conv_3x3")


def images(size: int = 8, channels: int = 2, b: int = 4) -> torch.Tensor:
    return torch.randn(b, channels, size, size, generator=torch.Generator().manual_seed(0))


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and batch-norm statistics everywhere, as training leaves them, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0, generator=generator)
        elif value.is_floating_point():
            value.normal_(0.0, 0.5, generator=generator)
    return network.eval()


def pairs_of_networks(space: SearchSpace, text: str) -> tuple[nn.Module, nn.Module]:
    """The network of an architecture and that of its simplification, with the weights that both have copied over."""
    arch = space.parse(text)
    full, simple = randomised(space.build(arch, **SMALL)), space.build(space.simplify(arch), **SMALL).eval()
    weights = full.state_dict()
    assert simple.state_dict().keys() <= weights.keys()
    simple.load_state_dict({name: weights[name] for name in simple.state_dict()})
    return full, simple


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|nor_conv_3x3~0|none~1|none~2|",
            id="edges into nodes that end there",
        ),
        pytest.param(
            "|avg_pool_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|", id="a path that ends"
        ),
        pytest.param(
            "|none~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|none~0|nor_conv_3x3~1|skip_connect~2|",
            id="edges from a cut-off node",
        ),
        pytest.param("|none~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_3x3~2|", id="no path at all"),
        pytest.param(
            "|nor_conv_3x3~0|+|avg_pool_3x3~0|skip_connect~1|+|none~0|nor_conv_1x1~1|nor_conv_3x3~2|", id="nothing dead"
        ),
    ],
)
def test_simplify_keeps_the_logits(space: SearchSpace, text: str) -> None:
    full, simple = pairs_of_networks(space, text)
    with torch.no_grad():
        torch.testing.assert_close(simple(images()), full(images()), rtol=0, atol=0)


def test_simplify_keeps_the_logits_of_random_cells(space: SearchSpace, rng: np.random.Generator) -> None:
    """For every cell: here an edge from a node that nothing reaches adds nothing, not even a batch-norm offset."""
    dead = [arch for arch in space.sample(200, rng) if space.simplify(arch) != arch]
    assert len(dead) > 30
    for arch in dead[:30]:
        full, simple = pairs_of_networks(space, space.format(arch))
        with torch.no_grad():
            torch.testing.assert_close(simple(images()), full(images()), rtol=0, atol=0)


def test_a_cell_without_a_path_gives_logits_that_do_not_depend_on_the_image(space: SearchSpace) -> None:
    arch = space.parse("|none~0|+|none~0|nor_conv_3x3~1|+|none~0|skip_connect~1|nor_conv_3x3~2|")
    network = randomised(space.build(arch, **SMALL))
    with torch.no_grad():
        logits = network(images())
    assert torch.equal(logits, logits[:1].expand_as(logits))


def test_a_cell_with_a_path_gives_logits_that_depend_on_the_image(space: SearchSpace) -> None:
    arch = space.parse("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    network = randomised(space.build(arch, **SMALL))
    with torch.no_grad():
        logits = network(images())
    assert not torch.allclose(logits[0], logits[1])


def test_each_node_sums_its_edges() -> None:
    """With identities only, the output counts the paths: 0->3, 0->1->3, 0->2->3, 0->1->2->3."""
    network = CellNetwork(dict.fromkeys(FULL, "skip_connect"), 4, cells=1, channels=4, classes=3, in_channels=2)
    x = images(channels=4)
    torch.testing.assert_close(network.layers[0](x), 4 * x)


@pytest.mark.parametrize("size", [7, 8, 9, 1])
def test_odd_image_sizes_work(size: int) -> None:
    network = randomised(CellNetwork(FULL, 4, **SMALL))
    with torch.no_grad():
        logits = network(images(size))
    assert logits.shape == (4, 3)
    assert bool(torch.isfinite(logits).all())


def test_images_need_not_be_square() -> None:
    with torch.no_grad():
        assert randomised(CellNetwork(FULL, 4, **SMALL))(images()[..., :5]).shape == (4, 3)


@pytest.mark.parametrize(("cells", "channels", "classes", "in_channels"), [(1, 4, 3, 1), (2, 8, 10, 3), (3, 6, 7, 2)])
def test_the_network_has_the_size_asked_for(cells: int, channels: int, classes: int, in_channels: int) -> None:
    network = CellNetwork(FULL, 4, cells=cells, channels=channels, classes=classes, in_channels=in_channels)
    assert len(network.layers) == 3 * cells + 2
    widths = [layer.edges["0-1"][1].out_channels for layer in network.layers if hasattr(layer, "edges")]
    assert widths == [channels] * cells + [2 * channels] * cells + [4 * channels] * cells
    assert network.stem[0].in_channels == in_channels
    assert network.eval()(images(channels=in_channels)).shape == (4, classes)


def test_stages_halve_the_image() -> None:
    network = CellNetwork(FULL, 4, **SMALL).eval()
    x, sizes = network.stem(images(16)), []
    for layer in network.layers:
        x = layer(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes == [(4, 16, 16), (8, 8, 8), (8, 8, 8), (16, 4, 4), (16, 4, 4)]


def test_a_gradient_reaches_every_live_weight() -> None:
    network = CellNetwork(FULL, 4, **SMALL)
    network(images()).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())
