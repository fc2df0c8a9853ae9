"""Data sets of images as vectors, similar ones near (after the set encoder of MetaD2A, arXiv 2107.00860)."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from archgen.errors import ArchgenError

SIDE = 32
"""Images are resized to so many pixels a side before they meet the network."""
WIDTHS = (32, 64, 128)
BATCH = 512
FLOOR = 1e-6


class DataSetEncoder:
    """A fixed, permutation-invariant encoder of labelled images.

    As in MetaD2A images become features, features of a class become one vector, and vectors of classes become that of
    the data set, so that neither the order of the images nor the numbers of the classes matter. Nothing here is
    trained, where MetaD2A trains all of it with its predictor on thousands of data sets: features are those of a small
    convolutional network with random weights instead of a ResNet-18 trained on ImageNet, and pooling takes means and
    deviations instead of set attention. Such features tell textures, contrasts and colours apart and know nothing of
    what is shown. Simple statistics are added: the resolution, the number of classes, how far classes lie apart.

    Blocks, each divided by the square root of its width: mean of the class means, deviation between class means, mean
    deviation within a class (of the network's features); mean and deviation of red, green and blue; log2 of the
    resolution over 32, log10 of the classes over 10, log10 of the ratio of the variances between and within classes.

    What distances are worth was measured on twelve tasks of small images, 34 cells ordered by validation loss without
    a label of the target (`experiments/meta_transfer.py`): little. How far two tasks disagree goes with their distance
    (Spearman .43, p .002), but through the last block alone (.43; the others .11 to .20, p .14 or more). Where the
    sources have labels of the cells in question, weights by distance raise Kendall's tau from .431 (equal weights) to
    .453, in 10 of 12 targets, p .003, and embeddings interchanged at random do not (.428); on cells that no source has
    a label of they change nothing (.376 and .377). By accuracies, which are noisier, it is .439 and .453 (p .08), on
    new cells .381 and .372 (worse, p .03). Learning from a target's sources how sharply weights fall, which block
    counts, or a factor of each block gave no more than the untrained distances (+.008 at best, p .08, and -.016 on new
    cells), so nothing is learnt here.

    Args:
        seed: Of the random weights; embeddings of different seeds can not be compared.

    Example:
        >>> images = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> DataSetEncoder()(images, torch.arange(40) % 4).shape
        (393,)
    """

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._weights: list[Tensor] = []
        inputs = 3
        for width in WIDTHS:
            scale = math.sqrt(2 / (9 * inputs))  # He: activations keep their size
            self._weights.append(scale * torch.randn(width, inputs, 3, 3, generator=generator))
            inputs = width

    @property
    def blocks(self) -> dict[str, int]:
        """Width of each block of the embedding, in order."""
        width = WIDTHS[-1]
        return {"mean": width, "between": width, "within": width, "channels": 6, "shape": 3}

    @torch.no_grad()
    def __call__(
        self, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " m"]
    ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Encode a data set, in double precision; some twenty images a class say enough.

        Args:
            images: Pixels in [0, 1], *not* normalised (of an `ImageData`: times its `std`, plus its `mean`). One
                channel is taken for grey, of two or more than three the mean is.
            labels: Class of each image, `m = n`.

        Raises:
            ArchgenError: Fewer than two classes, not one label an image, or pixels that are not in [0, 1].
        """
        _check(images, labels)
        colours = images.float() if images.shape[1] == 3 else images.float().mean(1, keepdim=True).expand(-1, 3, -1, -1)
        features = torch.cat([self._features(part) for part in torch.split(colours, BATCH)]).double()
        classes, codes = torch.unique(labels, return_inverse=True)
        each = [features[codes == k] for k in range(len(classes))]
        means = torch.stack([part.mean(0) for part in each])
        within = torch.stack([part.var(0, correction=0) for part in each]).mean(0)
        between = means.var(0, correction=0)
        ratio = (between.sum() + FLOOR) / (within.sum() + FLOOR)
        pixels = colours.double().transpose(0, 1).flatten(1)
        shape = [
            math.log2(math.sqrt(images.shape[2] * images.shape[3]) / 32),
            math.log10(len(classes) / 10),
            float(ratio.log10()),
        ]
        blocks = [
            means.mean(0),
            between.sqrt(),
            within.sqrt(),
            torch.cat([pixels.mean(1), pixels.std(1, correction=0)]),
            torch.tensor(shape, dtype=torch.float64),
        ]
        return torch.cat([block / math.sqrt(len(block)) for block in blocks]).numpy()

    def _features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        h = images
        if h.shape[-2:] != (SIDE, SIDE):
            h = F.interpolate(h, (SIDE, SIDE), mode="bilinear", antialias=True)
        h = 4 * (h - 0.5)  # about unit variance for natural images
        for weight in self._weights:
            h = F.conv2d(h, weight, stride=2, padding=1).relu()
        return h.mean((2, 3))


def _check(images: Tensor, labels: Tensor) -> None:
    if len(images) != len(labels):
        raise ArchgenError(f"expected one label an image, got {len(labels)} labels of {len(images)} images")
    if len(torch.unique(labels)) < 2:
        raise ArchgenError(f"expected images of at least two classes, got {len(torch.unique(labels))}")
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise ArchgenError("pixels must be in [0, 1]: undo the normalisation, divide 8-bit pixels by 255")
