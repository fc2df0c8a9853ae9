"""What a Gaussian process sees of an architecture: blocks of features, each with a kernel of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from archgen.encoders import PathEncoder, WeisfeilerLehmanEncoder
from archgen.graph import Architecture
from archgen.predictors.free_labels import FreeLabels
from archgen.predictors.latency_features import LatencyFeatures
from archgen.predictors.sizes import Sizes
from archgen.spaces import SearchSpace

LAYERS, FREE, NEAR, SIZES = "layers", "free_labels", "neighbourhoods", "sizes"


class FeatureBlocks:
    """Blocks of features side by side, each divided by the square root of its width, so that rows are of length 1.

    They are those of `PathEncoder` (one-hot of the pruned cell, counts, longest paths, live paths), of
    `WeisfeilerLehmanEncoder`, the free labels, the sizes (`Sizes`), and the layers as written (`LatencyFeatures`).

    Args:
        space: A space that `PathEncoder` takes.
        free_labels: Gives a block, where there are any.
        neighbourhoods, sizes, layers: Whether there are these blocks.
    """

    def __init__(
        self,
        space: SearchSpace,
        free_labels: FreeLabels | None,
        *,
        neighbourhoods: bool = False,
        sizes: bool = False,
        layers: bool = False,
    ) -> None:
        self.paths = PathEncoder(space) if free_labels is None else free_labels.encoder  # each remembers its rows
        self.free_labels = free_labels
        self._neighbourhoods = WeisfeilerLehmanEncoder(space) if neighbourhoods else None
        self.sizes = Sizes(self.paths) if sizes else None
        self._layers = LatencyFeatures(space, simplify=False) if layers else None
        self.widths: dict[str, int] = dict(self.paths.blocks)
        """Width of each block, in order."""
        if self._neighbourhoods is not None:
            self.widths[NEAR] = self._neighbourhoods.width
        if free_labels is not None:
            self.widths[FREE] = len(free_labels.names)
        if self.sizes is not None:
            self.widths[SIZES] = len(self.sizes.names)
        if self._layers is not None:
            self.widths[LAYERS] = sum(self._layers.widths)
        scales = {**self.widths, NEAR: len(space.node_domain)}  # so many of the hashed neighbourhoods are not zero
        self._scale = torch.cat([torch.full((d,), scales[name] ** -0.5).double() for name, d in self.widths.items()])

    def __call__(self, archs: Sequence[Architecture]) -> Float[Tensor, "b d"]:
        """Features of `b` architectures."""
        found = [self.paths(archs)]
        if self._neighbourhoods is not None:
            found.append(self._neighbourhoods(archs))
        if self.free_labels is not None:
            found.append(torch.from_numpy(self.free_labels(archs)))
        if self.sizes is not None:
            found.append(torch.from_numpy(self.sizes(found[0].numpy())))
        if self._layers is not None:
            found.append(torch.from_numpy(self._layers.standardise(self._layers(archs))))
        return torch.cat(found, 1) * self._scale

    def columns(self, name: str) -> tuple[int, ...]:
        """Places of a block's features, as many as it is wide."""
        widths = list(self.widths.values())
        place = list(self.widths).index(name)
        start = sum(widths[:place])
        return tuple(range(start, start + widths[place]))
