"""AZ-NAS (Assembling Zero-Cost Proxies for NAS, arXiv 2403.19232): four proxies and their sum.

Features are the outputs of the stem and of each block (`archgen.proxies.features`), for standard normal images. As in
the published code convolutional networks get normal weights of Kaiming's scale (fan in) first, and networks with layer
normalisation keep their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor, nn

from archgen.errors import ArchgenError, UnknownName
from archgen.proxies.base import PROXIES, Proxy, Weighted, normal_like
from archgen.proxies.count import Count
from archgen.proxies.features import block_outputs

AZ_NAS = ("expressivity", "progressivity", "trainability", "complexity")
"""The four proxies, by their registered names."""


class Features(Proxy):
    """Reads the features of the blocks."""

    def features(self, network: nn.Module, images: Tensor, generator: torch.Generator) -> list[Tensor]:
        """Outputs of the stem and of the blocks."""
        if not any(isinstance(module, nn.LayerNorm) for module in network.modules()):
            _kaiming(network, generator)
        given = normal_like(images, generator) if images.is_floating_point() else images
        return block_outputs(network, given, self)

    def entropies(self, network: nn.Module, images: Tensor, generator: torch.Generator) -> list[float]:
        """Entropy of the spectrum of each block's features; NaN for features that are constant."""
        with torch.no_grad():
            return [_entropy(f.detach()) for f in self.features(network, images, generator)]


@PROXIES.register("expressivity")
class Expressivity(Features):
    r"""Expressivity: the sum over blocks of :math:`-\sum_i p_i \log p_i`.

    `p` are the eigenvalues of the covariance of the channels over images and positions, divided by their sum: large
    where features fill all their directions evenly.
    """

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        return sum(self.entropies(network, images, generator))


@PROXIES.register("progressivity")
class Progressivity(Features):
    """Progressivity: the smallest rise of the entropy from one block to the next."""

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        return float(np.diff(self.entropies(network, images, generator)).min())


@PROXIES.register("trainability")
class Trainability(Features):
    r"""Trainability: the mean over blocks of :math:`2 - \sigma - 1 / \sigma`, 0 at best.

    :math:`\sigma` is the spectral norm of the block's Jacobian between channels, averaged over images and positions:
    :math:`A = E[g_{in} g_{out}^T]` for signs :math:`g_{out}` drawn at random and their gradient :math:`g_{in}` for
    the block's input (a Hutchinson estimate). Where the block shrinks the image, the pixels that become one are
    channels. NaN where a block is an identity (the published code says minus infinity) or is cut.

    Left out are pairs of neighbours of which the second does not read the first, and pairs whose tokens differ in
    number, which no Jacobian between channels connects.
    """

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        features = self.features(network, images, generator)
        scores = []
        for before, after in pairwise(features):
            if not after.requires_grad:
                return math.nan
            signs = torch.randint(2, after.shape, generator=generator, device=generator.device).to(after) * 2 - 1
            (gradient,) = torch.autograd.grad(after, before, signs, retain_graph=True, allow_unused=True)
            if gradient is None or (before.dim(), before.shape[0]) != (after.dim(), after.shape[0]):
                continue
            if gradient.shape == signs.shape and torch.equal(gradient, signs):
                return math.nan
            if after.dim() == 3 and before.shape[1] != after.shape[1]:
                continue
            rows_in, rows_out = _rows(_aligned(gradient, after)), _rows(signs)
            sigma = float(torch.linalg.matrix_norm((rows_in.T @ rows_out / len(rows_out)).double(), ord=2))
            scores.append(2 - sigma - 1 / (sigma + 1e-6))
        return float(np.mean(scores)) if scores else math.nan


@PROXIES.register("complexity")
class Complexity(Count):
    """Complexity: FLOPs."""

    metric = "flops"


def az_nas(table: pd.DataFrame, columns: Sequence[str] = AZ_NAS) -> pd.Series:
    r"""Non-linear rank aggregation (arXiv 2403.19232): :math:`\sum_k \log(\mathrm{rank}_k / m)`.

    Ranks are among the `m` architectures of the table, the best has `m`; equal values share their mean rank, NaN is
    below all else. The logarithm punishes a low rank in any one proxy.

    Args:
        table: A row an architecture, as `compute_proxies` gives it.
        columns: Proxies to combine; the published code leaves `progressivity` out for transformers.

    Returns:
        The score of each row, at most 0, larger is better; with the table's index.

    Raises:
        UnknownName: The table lacks a column.
        ArchgenError: The table is empty, or no column is asked for.

    Example:
        >>> table = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, float("nan")]})
        >>> az_nas(table, ["a", "b"]).round(3).tolist()
        [-0.693, -0.693]
    """
    if not len(table) or not columns:
        raise ArchgenError("expected at least one architecture and one proxy to rank by, got an empty table")
    total = np.zeros(len(table))
    for name in columns:
        if name not in table.columns:
            raise UnknownName("proxy of the table", name, map(str, table.columns))
        values = table[name].to_numpy(float)
        total += np.log(rankdata(np.where(np.isnan(values), -np.inf, values)) / len(values))
    return pd.Series(total, index=table.index, name="az_nas")


def _kaiming(network: nn.Module, generator: torch.Generator) -> None:
    for module in network.modules():
        if isinstance(module, Weighted):
            with torch.no_grad():
                fan_in = module.weight[0].numel()
                module.weight.copy_(normal_like(module.weight, generator) * math.sqrt(2 / fan_in))
                if module.bias is not None:
                    module.bias.zero_()


def _rows(x: Tensor) -> Tensor:
    """Channels of each image and position: `b c h w` or `b n c` to rows of channels."""
    return (x.permute(0, 2, 3, 1) if x.dim() == 4 else x).flatten(0, -2)


def _aligned(gradient: Tensor, after: Tensor) -> Tensor:
    """The gradient with the pixels that become one as channels; an odd image is padded with zeros."""
    if gradient.dim() == 3 or gradient.shape[-2:] == after.shape[-2:]:
        return gradient
    h, w = after.shape[-2:]
    step = -(-gradient.shape[-1] // w)
    padded = F.pad(gradient, (0, step * w - gradient.shape[-1], 0, step * h - gradient.shape[-2]))
    return F.pixel_unshuffle(padded, step)


def _entropy(features: Tensor) -> float:
    rows = _rows(features).double()
    centred = rows - rows.mean(0)
    spectrum = torch.linalg.eigvalsh(centred.T @ centred / len(centred)).clamp(min=0)
    p = spectrum / spectrum.sum()
    return float(-(p * (p + 1e-8).log()).sum())
