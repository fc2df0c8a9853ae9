"""The CIFAR network of NAS-Bench-201 (arXiv 2001.00326, figure 1): stem, three stages of cells, classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain, repeat

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.networks.operations import OPERATIONS, ResidualReduction

Edges = Mapping[tuple[int, int], str]


def edge_name(pair: tuple[int, int]) -> str:
    """Name of the module on a cell's edge; the same in a network and in the supernet, so weights copy by name."""
    return f"{pair[0]}-{pair[1]}"


class Cell(nn.Module):
    """A cell: each node sums its incoming edges; a node without any is zero.

    Args:
        edges: Operation of each edge `(source, target)` that exists.
        nodes: Number of nodes; node 0 is the input, the last one the output.
        channels: Channels, the same for all nodes.
    """

    def __init__(self, edges: Edges, nodes: int, channels: int) -> None:
        super().__init__()
        self.pairs = sorted(edges, key=lambda pair: (pair[1], pair[0]))
        self.nodes = nodes
        self.edges = nn.ModuleDict({edge_name(pair): OPERATIONS[edges[pair]](channels) for pair in self.pairs})

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        values: list[Tensor | None] = [x] + [None] * (self.nodes - 1)
        for source, target in self.pairs:
            value = values[source]
            if value is not None:
                out = self.edges[edge_name((source, target))](value)
                before = values[target]
                values[target] = out if before is None else before + out
        last = values[-1]
        return torch.zeros_like(x) if last is None else last


class CellSkeleton(nn.Module):
    """What surrounds the cells: 3x3 stem, stages of C, 2C and 4C channels with residual reductions between, head.

    Args:
        make_cell: Makes a cell of the given number of channels.
        cells: Cells a stage, N.
        channels: Channels of the first stage, C.
        classes: Number of classes.
        in_channels: Channels of the image.
    """

    def __init__(
        self, make_cell: Callable[[int], nn.Module], cells: int, channels: int, classes: int, in_channels: int
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        widths = list(
            chain(repeat(channels, cells), [0], repeat(2 * channels, cells), [0], repeat(4 * channels, cells))
        )
        self.layers = nn.ModuleList()
        width = channels
        for wanted in widths:
            if wanted == 0:
                self.layers.append(ResidualReduction(width, 2 * width))
                width *= 2
            else:
                self.layers.append(make_cell(wanted))
        self.lastact = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, classes)

    def head(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Class logits of the last layer's output."""
        logits: Tensor = self.classifier(self.pool(self.lastact(x)).flatten(1))
        return logits


class CellNetwork(CellSkeleton):
    """The stand-alone network of one cell.

    Args:
        edges: Operation of each edge that exists.
        nodes: Nodes a cell.
        cells, channels, classes, in_channels: As in `CellSkeleton`.

    Shapes:
        images `b in_channels h w` to logits `b classes`.
    """

    def __init__(self, edges: Edges, nodes: int, cells: int, channels: int, classes: int, in_channels: int) -> None:
        super().__init__(lambda width: Cell(edges, nodes, width), cells, channels, classes, in_channels)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)
