"""The CIFAR network of DARTS (arXiv 1806.09055): stacked normal and reduction cells, auxiliary head, drop-path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.networks.cell_operations import CELL_OPERATIONS, FactorizedReduce
from archgen.networks.count import count_network
from archgen.networks.operations import ReLUConvBN

Inputs = Sequence[tuple[str | None, int]]
"""Operation (None: no connection) and source of the inputs of a cell's nodes, two a node; sources are the cell's two
inputs, then its nodes."""


class Place(NamedTuple):
    """A cell's place in the network: its channels, those of its two inputs, and where the image is halved."""

    before_previous: int
    previous: int
    channels: int
    size: int
    reduction: bool
    reduction_previous: bool


def places(nodes: int, cells: int, channels: int, image_size: int) -> list[Place]:
    """Places of all cells: reduction cells with twice the channels at one and two thirds of the depth (section 3).

    Args:
        nodes: Nodes a cell, each of which adds its channels to the cell's output.
        cells: Number of cells.
        channels: Channels of a node of the first cell.
        image_size: Height and width of the image; `size` of a place is that of the previous cell's output.
    """
    before_previous = previous = 3 * channels
    width, size, reduction_previous, found = channels, image_size, False, []
    for i in range(cells):
        reduction = i in (cells // 3, 2 * cells // 3)
        width *= 1 + reduction
        found.append(Place(before_previous, previous, width, size, reduction, reduction_previous))
        before_previous, previous = previous, nodes * width
        size, reduction_previous = (size + 1) // 2 if reduction else size, reduction
    return found


class DartsCell(nn.Module):
    """A cell: each node sums two operations on earlier nodes or on the cell's inputs; all nodes are concatenated.

    An operation on a node that nothing feeds is built but not run, and such a node is zero (the published code runs
    it on zeros, which leaves a batch-norm offset). In a reduction cell what reads the cell's inputs has stride 2.

    Args:
        inputs: Operation and source of each node's inputs.
        place: Channels and strides.
    """

    def __init__(self, inputs: Inputs, place: Place) -> None:
        super().__init__()
        self.channels, self.reduction = place.channels, place.reduction
        self.nodes = len(inputs) // 2
        self.preprocess_0: nn.Module = (
            FactorizedReduce(place.before_previous, place.channels)
            if place.reduction_previous
            else ReLUConvBN(place.before_previous, place.channels, 1)
        )
        self.preprocess_1 = ReLUConvBN(place.previous, place.channels, 1)
        self.sources = [source for _, source in inputs]
        self.operations = nn.ModuleDict(
            {
                str(i): CELL_OPERATIONS[operation](place.channels, 2 if place.reduction and source < 2 else 1, True)
                for i, (operation, source) in enumerate(inputs)
                if operation is not None
            }
        )

    def forward(
        self, s0: Float[Tensor, "b c i j"], s1: Float[Tensor, "b d h w"], drop_path_prob: float = 0.0
    ) -> Float[Tensor, "b e k l"]:
        s0, s1 = self.preprocess_0(s0), self.preprocess_1(s1)
        values: list[Tensor | None] = [s0, s1]
        for node in range(self.nodes):
            total: Tensor | None = None
            for i in (2 * node, 2 * node + 1):
                x = values[self.sources[i]]
                if x is None or str(i) not in self.operations:
                    continue
                operation = self.operations[str(i)]
                out = operation(x)
                if self.training and drop_path_prob > 0 and not isinstance(operation, nn.Identity):
                    out = drop_path(out, drop_path_prob)
                total = out if total is None else total + out
            values.append(total)
        halved = s1[:, :, ::2, ::2] if self.reduction else s1
        return torch.cat([torch.zeros_like(halved) if v is None else v for v in values[2:]], 1)


def drop_path(x: Float[Tensor, "b c h w"], probability: float) -> Float[Tensor, "b c h w"]:
    """Zero each example with the given probability, and scale the others so that the mean stays."""
    keep = 1.0 - probability
    return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(keep) / keep


class AuxiliaryHead(nn.Sequential):
    """Class logits from the features at two thirds of the depth, to train on beside the network's own.

    Args:
        channels: Channels of the features.
        size: Height and width of the features, at least 6. The published head is that for 8, where the pooling has
            stride 3; others get the stride that leaves 2 x 2 as well.
        classes: Number of classes.

    Raises:
        ValueError: Features smaller than that.
    """

    def __init__(self, channels: int, size: int, classes: int) -> None:
        if size < 6:
            raise ValueError(f"the auxiliary head needs features of at least 6 x 6, got {size} x {size}")
        super().__init__(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=size - 5, count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, classes),
        )


class DartsSkeleton(nn.Module):
    """What surrounds the cells: stem, the chain in which each cell reads the two before it, classifier.

    Args:
        make_cell: Makes the cell of a place.
        nodes: Nodes a cell.
        cells: Number of cells.
        channels: Channels of a node of the first cell.
        classes: Number of classes.
        in_channels: Channels of the image.
        image_size: Height and width of the image, which only the auxiliary head depends on.
        auxiliary: 1 for an auxiliary head, 0 for none.

    Raises:
        ValueError: The image is too small for the auxiliary head.
    """

    def __init__(
        self,
        make_cell: Callable[[Place], nn.Module],
        nodes: int,
        cells: int,
        channels: int,
        classes: int,
        in_channels: int,
        image_size: int = 32,
        auxiliary: int = 0,
    ) -> None:
        super().__init__()
        at = places(nodes, cells, channels, image_size)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels)
        )
        self.cells = nn.ModuleList(make_cell(place) for place in at)
        self.auxiliary_at = 2 * cells // 3
        self.auxiliary_head: AuxiliaryHead | None = None
        if auxiliary:
            place = at[self.auxiliary_at]
            self.auxiliary_head = AuxiliaryHead(nodes * place.channels, (place.size + 1) // 2, classes)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(nodes * at[-1].channels, classes)

    def run(self, x: Tensor, cell: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Logits, and the features that the auxiliary head reads; `cell` runs a cell on its two inputs."""
        s0 = s1 = features = self.stem(x)
        for i, module in enumerate(self.cells):
            s0, s1 = s1, cell(module, s0, s1)
            if i == self.auxiliary_at:
                features = s1
        return self.classifier(self.pool(s1).flatten(1)), features


class DartsNetwork(DartsSkeleton):
    """The network of a genotype.

    Scheduled drop-path (NASNet, arXiv 1707.07012, section A.7): in training mode every operation but the identity is
    dropped for an example with probability `drop_path_prob`, which is 0 until it is set; call `schedule_drop_path`
    once an epoch. The auxiliary logits come from `with_auxiliary`, and are trained on with weight 0.4 as published;
    calling the network gives its own logits alone.

    Args:
        normal: Operation and source of each input of the normal cell's nodes.
        reduce: The same for the reduction cell.
        cells, channels, classes, in_channels, image_size, auxiliary: As in `DartsSkeleton`.

    Shapes:
        images `b in_channels h w` to logits `b classes`.

    Raises:
        ValueError: The image is too small for the auxiliary head.
    """

    def __init__(
        self,
        normal: Inputs,
        reduce: Inputs,
        cells: int,
        channels: int,
        classes: int,
        in_channels: int,
        image_size: int = 32,
        auxiliary: int = 0,
    ) -> None:
        def make(place: Place) -> nn.Module:
            return DartsCell(reduce if place.reduction else normal, place)

        super().__init__(make, len(normal) // 2, cells, channels, classes, in_channels, image_size, auxiliary)
        self.drop_path_prob = 0.0

    def schedule_drop_path(self, progress: float, final: float = 0.2) -> None:
        """Set the probability of dropping a path, which grows linearly over training.

        Args:
            progress: Fraction of training done, in [0, 1].
            final: Probability at the end, in [0, 1).

        Raises:
            ValueError: An argument outside its range.
        """
        if not (0 <= progress <= 1 and 0 <= final < 1):
            raise ValueError(f"expected progress in [0, 1] and final in [0, 1), got {progress} and {final}")
        self.drop_path_prob = final * progress

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        return self._run(x)[0]

    def with_auxiliary(
        self, x: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b classes"], Float[Tensor, "b classes"]]:
        """The logits and those of the auxiliary head.

        Raises:
            ValueError: The network was built without one.
        """
        if self.auxiliary_head is None:
            raise ValueError("this network has no auxiliary head: build it with auxiliary=1")
        logits, features = self._run(x)
        return logits, self.auxiliary_head(features)

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.run(x, lambda cell, s0, s1: cell(s0, s1, self.drop_path_prob))


def count_darts_network(
    normal: Inputs,
    reduce: Inputs,
    cells: int,
    channels: int,
    classes: int,
    in_channels: int,
    image_size: int,
    auxiliary: int,
) -> dict[str, float]:
    """Parameters and multiply-adds of a `DartsNetwork` with these arguments; costs of operations are kept.

    Operations on nodes that nothing feeds count, as the published code runs them; the auxiliary head counts among
    the parameters alone, as it is not run after training.

    Returns:
        `params`, `macs`, and `flops`, which in this space's publications are the `macs`.
    """
    network = (len(normal) // 2, cells, channels, image_size)
    params, macs = _fixed_cost(network, classes, in_channels, auxiliary)
    for reduction, inputs in ((False, normal), (True, reduce)):
        for operation, source in inputs:
            if operation is not None:
                more = _operation_cost(operation, reduction, source < 2, network)
                params, macs = params + more[0], macs + more[1]
    return {"params": params, "flops": macs, "macs": macs}


def _cost(module: nn.Module, channels: int, size: int) -> tuple[float, float]:
    counts = count_network(module, (channels, size, size))
    return counts["params"], counts["macs"]


@lru_cache(maxsize=4096)
def _operation_cost(
    operation: str, reduction: bool, from_input: bool, network: tuple[int, int, int, int]
) -> tuple[float, float]:
    """Cost of an operation in all cells of one kind."""
    params = macs = 0.0
    found = Counter((place.channels, place.size) for place in places(*network) if place.reduction == reduction)
    for (channels, size), times in found.items():
        halves = reduction and from_input
        with torch.device("meta"):
            module = CELL_OPERATIONS[operation](channels, 1 + halves, True)
        more = _cost(module, channels, (size + 1) // 2 if reduction and not halves else size)
        params, macs = params + times * more[0], macs + times * more[1]
    return params, macs


@lru_cache(maxsize=64)
def _fixed_cost(
    network: tuple[int, int, int, int], classes: int, in_channels: int, auxiliary: int
) -> tuple[float, float]:
    """Cost of the network of cells without any connection."""
    nodes, cells, channels, image_size = network
    cut: Inputs = [(None, 0)] * (2 * nodes)
    with torch.device("meta"):
        module = DartsNetwork(cut, cut, cells, channels, classes, in_channels, image_size, auxiliary)
    return _cost(module, in_channels, image_size)
