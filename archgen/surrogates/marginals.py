"""Marginal beliefs of a Gaussian process with an additive kernel over blocks of features, for thousands of points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from botorch.models import SingleTaskGP
from gpytorch.kernels import Kernel, LinearKernel
from jaxtyping import Float
from scipy.linalg.lapack import dtrtri
from torch import Tensor

from archgen.predictors.distinct import distinct

DistinctBlock = tuple[Tensor, Tensor]
"""Distinct rows of a block of features, and which of them each of `b` architectures has, `b`."""
PANEL = 256
"""Rows of the triangular root that are multiplied at a time: what lies beyond its diagonal is not."""


class Marginals:
    """Marginal mean and standard deviation (Rasmussen and Williams, algorithm 2.1).

    The model's own posterior computes the joint covariance of all points first; guidance asks for thousands of
    marginals a step and needs none of it. Labels of one feature row count as one, their mean with a part of the noise,
    which gives the same posterior. The mean is computed in double precision; of the variance, what the labels explain
    in single, which leaves its root right to about four digits. Covariances are found once for each pair of distinct
    rows of a block, and no pair of points is gathered in double precision: the mean needs sums of weights alone.

    Args:
        model: Its kernel is a sum of scaled Matern-5/2 and of linear kernels.
        widths: Of the blocks of features, side by side.
        blocks: Which block each kernel of the sum looks at.
    """

    def __init__(self, model: SingleTaskGP, widths: Sequence[int], blocks: Sequence[int]) -> None:
        self.model, self._widths, self._blocks = model, list(widths), blocks

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "b d"]) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """Mean and standard deviation of the noise-free value at each of `b` points."""
        train, panels, weights = self._factor
        blocks = self._split(x)
        mean, cross = self.model.mean_module(x).clone(), torch.zeros(len(x), len(train[0][1]))
        for kernel, block, weight in zip(self.model.covar_module.kernels, self._blocks, weights, strict=True):
            (rows, i), (columns, j) = blocks[block], train[block]
            part = _covariances(kernel, rows, columns)
            mean += (part @ weight)[i]
            cross += part.float().index_select(1, j).index_select(0, i)
        explained = sum((cross[:, : len(panel)] @ panel).square().sum(1) for panel in panels)
        variance = (self._prior(blocks) - explained).clamp(min=1e-12)
        return mean, variance.sqrt()

    @cached_property
    def _factor(self) -> tuple[list[DistinctBlock], list[Tensor], list[Tensor]]:
        """What the labels say, of `m` distinct rows.

        Returns:
            Their blocks; panels of the transposed inverse Cholesky root, single precision, without the zeros below its
            diagonal; the weights of the mean by kernel, summed over the rows that are equal to it.
        """
        model = self.model
        rows, which = distinct(model.train_inputs[0].numpy())
        times = torch.from_numpy(np.bincount(which)).double()
        train = torch.from_numpy(rows)
        blocks = self._split(train)
        root = torch.linalg.cholesky(self._covariance(blocks) + torch.diag(model.likelihood.noise / times))
        sums = torch.zeros(len(rows)).double().index_add_(0, torch.from_numpy(which), model.train_targets)
        centred = sums / times - model.mean_module(train)
        weights = torch.cholesky_solve(centred[:, None], root)[:, 0]
        by_kernel = [
            torch.zeros(len(own)).double().index_add_(0, place, weights)
            for own, place in (blocks[block] for block in self._blocks)
        ]
        inverse = torch.from_numpy(dtrtri(root.mT.numpy())[0]).float()  # upper; a third of the work of a solve
        panels = [inverse[: start + PANEL, start : start + PANEL].contiguous() for start in range(0, len(rows), PANEL)]
        return blocks, panels, by_kernel

    def _split(self, x: Float[Tensor, "b d"]) -> list[DistinctBlock]:
        """Of each block of features the distinct rows, of which there are few, and which of them each row has."""
        found = [distinct(block.numpy()) for block in torch.split(x, self._widths, 1)]
        return [(torch.from_numpy(rows), torch.from_numpy(which)) for rows, which in found]

    def _covariance(self, x: Sequence[DistinctBlock]) -> Float[Tensor, "m m"]:
        """The model's own covariance, block by block and in place: its kernels copy as much as they compute."""
        total = torch.zeros(len(x[0][1]), len(x[0][1])).double()
        for kernel, block in zip(self.model.covar_module.kernels, self._blocks, strict=True):
            rows, i = x[block]
            total += _covariances(kernel, rows, rows)[:, i][i]
        return total

    def _prior(self, x: Sequence[DistinctBlock]) -> Float[Tensor, " b"]:
        """The variance before any label."""
        total = torch.zeros(len(x[0][1])).double()
        for kernel, block in zip(self.model.covar_module.kernels, self._blocks, strict=True):
            if isinstance(kernel, LinearKernel):
                rows, which = x[block]
                total += kernel.variance.item() * rows.square().sum(1)[which]
            else:
                total += kernel.outputscale.item()
        return total


def _covariances(kernel: Kernel, rows: Float[Tensor, "r d"], columns: Float[Tensor, "c d"]) -> Float[Tensor, "r c"]:
    """What a linear or a scaled Matern-5/2 kernel says."""
    if isinstance(kernel, LinearKernel):
        return (rows @ columns.mT).mul_(kernel.variance.item())
    # Squares of distances by one product; what cancels near 0 is lost on a kernel that is flat there.
    scale = 5**0.5 / kernel.base_kernel.lengthscale.item()
    x, y = rows * scale, columns * scale
    ones = torch.ones(len(x), 1).double(), torch.ones(len(y), 1).double()
    left = torch.cat([x, x.square().sum(1, keepdim=True), ones[0]], 1)
    right = torch.cat([-2 * y, ones[1], y.square().sum(1, keepdim=True)], 1)
    squares = (left @ right.mT).clamp_min_(0.0)
    r = squares.sqrt()
    tail = torch.rsub(r, math.log(kernel.outputscale.item())).exp_()
    return torch.addcmul(tail, tail, r.add_(squares, alpha=1 / 3))
