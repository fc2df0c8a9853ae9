"""Proxies from how the sum of the logits changes with each image: the rows of the batch's Jacobian."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from archgen.proxies.base import PROXIES, Proxy

EPSILON = 1e-5
"""Added under logarithms and in denominators, as published."""
MANY_CLASSES = 100
"""EPE-NAS averages where there are more classes than this, and sums otherwise (the paper's tau)."""


class Jacobian(Proxy):
    """Reads the gradient of the sum of all logits for the images; batch normalisation couples the images a little."""

    reads_images: ClassVar[bool] = True

    def rows(self, network: nn.Module, images: Tensor) -> tuple[NDArray[np.float64], int]:
        """The gradient for each image, `b d`, and the number of classes."""
        x = images.clone().requires_grad_(True)
        logits = network(x)
        (gradient,) = torch.autograd.grad(logits.sum(), x, allow_unused=True)
        found = torch.zeros_like(x) if gradient is None else gradient
        return found.flatten(1).double().cpu().numpy(), logits.shape[-1]


def _correlations(rows: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Correlations of the rows with each other; None where one row is constant, which correlates with nothing."""
    if (np.ptp(rows, axis=1) == 0).any():
        return None
    return np.atleast_2d(np.corrcoef(rows))


@PROXIES.register("jacov")
class Jacov(Jacobian):
    r"""Jacobian covariance (first version of arXiv 2006.04647): are the gradients of different images different?

    :math:`-\sum_i \log(v_i + k) + 1 / (v_i + k)` over the eigenvalues :math:`v` of the rows' correlations, k = 1e-5.
    At most about `-b`, for rows without any correlation.
    """

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        correlations = _correlations(self.rows(network, images)[0])
        if correlations is None:
            return math.nan
        v = np.linalg.eigvalsh(correlations).clip(min=0) + EPSILON  # rounding may put a zero below zero
        return -float(np.sum(np.log(v) + 1 / v))


@PROXIES.register("epe_nas")
class EpeNas(Jacobian):
    r"""EPE-NAS (arXiv 2102.08099): how alike the gradients of images of one class are.

    For each class in the batch :math:`e_c = \sum \log(|C_c| + k)` over the correlations of its rows. Up to 100 classes
    the score is :math:`\sum_c |e_c|`; beyond, :math:`e_c` is divided by the class's number of images and the score is
    the sum of :math:`|e_c - e_d|` over all pairs, by the number of classes in the batch.

    A class with few images has few pairs, and a correlation near zero has a very negative logarithm: the value hangs
    on which images are in the batch, so it agrees less with published ones than `jacov` does.
    """

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        rows, classes = self.rows(network, images)
        labels = targets.cpu().numpy()
        each: list[float] = []
        for label in np.unique(labels):
            correlations = _correlations(rows[labels == label])
            if correlations is None:
                return math.nan
            total = float(np.log(np.abs(correlations) + EPSILON).sum())
            each.append(total / len(correlations) if classes > MANY_CLASSES else total)
        e = np.array(each)
        if classes > MANY_CLASSES:
            return float(np.abs(e[:, None] - e).sum() / len(e))
        return float(np.abs(e).sum())
