"""The CIFAR network of NAS-Bench-101 (arXiv 1902.09635, section 2): stem, stacks of modules, dense layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.networks.count import count_network
from archgen.networks.operations import OPERATIONS

Edges = Sequence[tuple[int, int]]


class ConvBNReLU(nn.Sequential):
    """Convolution without bias, batch normalisation, ReLU; keeps the image size.

    Weights start as published: a normal distribution of variance `1 / fan_in`, cut at two deviations. Batch
    normalisation keeps PyTorch's momentum: the published 0.997 needs thousands of steps before its averages can
    be used, and says nothing about the function.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        kernel: Odd kernel size.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        scale = math.sqrt(1.0 / (inputs * kernel**2)) / 0.87962566103423978  # the deviation that is left by the cut
        nn.init.trunc_normal_(convolution.weight, std=scale, a=-2 * scale, b=2 * scale)
        super().__init__(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


@OPERATIONS.register("conv3x3-bn-relu")
def conv3x3_bn_relu(channels: int) -> nn.Module:
    """3x3 convolution, batch normalisation, ReLU."""
    return ConvBNReLU(channels, channels, 3)


@OPERATIONS.register("conv1x1-bn-relu")
def conv1x1_bn_relu(channels: int) -> nn.Module:
    """1x1 convolution, batch normalisation, ReLU."""
    return ConvBNReLU(channels, channels, 1)


@OPERATIONS.register("maxpool3x3")
def maxpool3x3(channels: int) -> nn.Module:
    """3x3 maximum, stride 1."""
    return nn.MaxPool2d(3, stride=1, padding=1)


def vertex_channels(inputs: int, outputs: int, vertices: int, edges: Edges) -> list[int]:
    """Channels of every vertex of a module (paper, section 2.2).

    The output's channels are divided among the vertices that feed it, the first ones taking one more where the
    division leaves a remainder; every other interior vertex has the most channels of those that it feeds.

    Args:
        inputs: Channels of the module's input.
        outputs: Channels of the module's output.
        vertices: Number of vertices; the first is the input, the last the output.
        edges: Pairs `(i, j)`, `i < j`; every vertex must lie on a path from input to output.

    Raises:
        ValueError: Fewer output channels than vertices that feed the output.
    """
    channels = [0] * vertices
    channels[0], channels[-1] = inputs, outputs
    last = vertices - 1
    feeding = sorted(i for i, j in edges if j == last and i > 0)
    if len(feeding) > outputs:
        raise ValueError(f"{outputs} channels can not be divided among {len(feeding)} vertices; give more channels")
    for rank, vertex in enumerate(feeding):
        channels[vertex] = outputs // len(feeding) + (rank < outputs % len(feeding))
    for i, j in sorted(edges, reverse=True):
        if i > 0 and j < last and i not in feeding:
            channels[i] = max(channels[i], channels[j])
    return channels


class DagModule(nn.Module):
    """A module: interior vertices sum their inputs and apply their operation, the output concatenates.

    The module's input reaches a vertex through a 1x1 projection; a vertex with one channel more than its reader is
    cut to fit; an edge from input to output adds a projection to the concatenation.

    Args:
        operations: Operation of each interior vertex, in order.
        edges: Pairs `(i, j)`, `i < j`; every vertex must lie on a path from input to output.
        inputs: Input channels.
        outputs: Output channels.
    """

    def __init__(self, operations: Sequence[str], edges: Edges, inputs: int, outputs: int) -> None:
        super().__init__()
        vertices = len(operations) + 2
        self.channels = vertex_channels(inputs, outputs, vertices, edges)
        self.sources = [sorted(i for i, j in edges if j == v) for v in range(vertices)]
        self.projections = nn.ModuleDict(
            {str(v): ConvBNReLU(inputs, self.channels[v], 1) for v in range(1, vertices) if 0 in self.sources[v]}
        )
        self.operations = nn.ModuleDict(
            {str(v): OPERATIONS[operation](self.channels[v]) for v, operation in enumerate(operations, start=1)}
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        values = [x]
        for v, operation in self.operations.items():
            width = self.channels[int(v)]
            terms = [self.projections[v](x) if i == 0 else values[i][:, :width] for i in self.sources[int(v)]]
            values.append(operation(summed(terms)))
        last = str(len(self.channels) - 1)
        direct = [self.projections[last](x)] if last in self.projections else []
        interior = [values[i] for i in self.sources[-1] if i > 0]
        return summed([torch.cat(interior, 1), *direct] if interior else direct)


def summed(terms: list[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


class ModuleSkeleton(nn.Module):
    """Stem, `stacks` stacks of `cells` modules with max pooling between them, global mean, dense layer.

    Args:
        make_module: Makes a module of the given numbers of input and output channels.
        stacks: Number of stacks; each doubles the channels and halves the image of the one before.
        cells: Modules a stack.
        channels: Channels of the stem and of the first stack.
        classes: Number of classes.
        in_channels: Channels of the image.
    """

    def __init__(
        self,
        make_module: Callable[[int, int], nn.Module],
        stacks: int,
        cells: int,
        channels: int,
        classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        self.stem = ConvBNReLU(in_channels, channels, 3)
        self.layers = nn.ModuleList()
        widths = [channels, *(channels * 2**stack for stack in range(stacks))]
        for stack, (before, width) in enumerate(pairwise(widths)):
            if stack > 0:
                self.layers.append(nn.MaxPool2d(2, stride=2, ceil_mode=True))
            for cell in range(cells):
                self.layers.append(make_module(before if cell == 0 else width, width))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(widths[-1], classes)
        nn.init.xavier_uniform_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def run(
        self, x: Float[Tensor, "b c h w"], layer: Callable[[nn.Module, Tensor], Tensor]
    ) -> Float[Tensor, "b classes"]:
        """Logits, where `layer` runs a module or the pooling between stacks on its input."""
        x = self.stem(x)
        for module in self.layers:
            x = layer(module, x)
        logits: Tensor = self.classifier(self.pool(x).flatten(1))
        return logits


class ModuleNetwork(ModuleSkeleton):
    """The stand-alone network: `stacks` times `cells` copies of one module, weights of their own.

    Args:
        operations: Operation of each interior vertex of the module, in order.
        edges: Edges of the module, as in `DagModule`.
        stacks, cells, channels, classes, in_channels: As in `ModuleSkeleton`.

    Shapes:
        images `b in_channels h w` to logits `b classes`. Odd image sizes are rounded up when halved.
    """

    def __init__(
        self,
        operations: Sequence[str],
        edges: Edges,
        stacks: int,
        cells: int,
        channels: int,
        classes: int,
        in_channels: int,
    ) -> None:
        super().__init__(
            lambda inputs, outputs: DagModule(operations, edges, inputs, outputs),
            stacks,
            cells,
            channels,
            classes,
            in_channels,
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        return self.run(x, lambda module, x: module(x))


def count_module_network(
    operations: Sequence[str],
    edges: Edges,
    stacks: int,
    cells: int,
    channels: int,
    classes: int,
    in_channels: int,
    image_size: int,
) -> dict[str, float]:
    """`count_network` of the `ModuleNetwork` with these arguments, from the counts of its layers, which are kept.

    Args:
        operations, edges, stacks, cells, channels, classes, in_channels: As in `ModuleNetwork`.
        image_size: Height and width of the image, pixels.
    """
    total = [0.0, 0.0, 0.0]

    def add(times: int, *layer: str | int) -> None:
        if times:
            for i, value in enumerate(_layer_cost(*layer)):
                total[i] += times * value

    vertices = len(operations) + 2
    projected = [j for i, j in edges if i == 0]
    add(1, "conv", in_channels, channels, 3, image_size)
    before, width, size = channels, channels, image_size
    for stack in range(stacks):
        if stack > 0:
            before, width, size = width, 2 * width, (size + 1) // 2
            add(1, "downsample", before, size)
        at = vertex_channels(before, width, vertices, edges)
        for v, operation in enumerate(operations, start=1):
            add(cells, operation, at[v], size)
        for v in projected:
            add(1, "conv", before, at[v], 1, size)
            add(cells - 1, "conv", width, at[v], 1, size)
    add(1, "head", width, classes, size)
    return dict(zip(("params", "flops", "macs"), total, strict=True))


@lru_cache(maxsize=2**16)
def _layer_cost(kind: str, *arguments: int) -> tuple[float, float, float]:
    *numbers, size = arguments
    with torch.device("meta"):
        layer: nn.Module
        if kind == "conv":
            layer = ConvBNReLU(*numbers)
        elif kind == "head":
            layer = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(numbers[0], numbers[1]))
        elif kind == "downsample":
            layer, size = nn.MaxPool2d(2, stride=2), 2 * size
        else:
            layer = OPERATIONS[kind](*numbers)
    counts = count_network(layer, (numbers[0], size, size))
    return counts["params"], counts["flops"], counts["macs"]
