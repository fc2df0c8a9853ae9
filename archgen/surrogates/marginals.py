"""Marginal beliefs of a Gaussian process with an additive kernel over blocks of features, for thousands of points."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from botorch.models import SingleTaskGP
from gpytorch.kernels import LinearKernel
from jaxtyping import Float
from torch import Tensor

from archgen.predictors.distinct import distinct

DistinctBlock = tuple[Tensor, Tensor]
"""Distinct rows of a block of features, and which of them each of `b` architectures has, `b`."""


class Marginals:
    """Marginal mean and standard deviation (Rasmussen and Williams, algorithm 2.1).

    The model's own posterior computes the joint covariance of all points first; guidance asks for thousands of
    marginals a step and needs none of it. Labels of one feature row count as one, their mean with a part of the noise,
    which gives the same posterior. The mean is computed in double precision; of the variance, what the labels explain
    in single, which leaves its root right to about four digits.

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
        train, inverse, weights = self._factor
        blocks = self._split(x)
        cross = self._covariance(blocks, train)
        explained = (cross.float() @ inverse.mT).square().sum(1)
        variance = (self._prior(blocks) - explained).clamp(min=1e-12)
        return self.model.mean_module(x) + cross @ weights, variance.sqrt()

    @cached_property
    def _factor(self) -> tuple[list[DistinctBlock], Tensor, Tensor]:
        """Blocks of the `m` distinct rows; inverse Cholesky root (single precision); weights of the mean."""
        model = self.model
        rows, which = distinct(model.train_inputs[0].numpy())
        times = torch.from_numpy(np.bincount(which)).double()
        train = torch.from_numpy(rows)
        blocks = self._split(train)
        root = torch.linalg.cholesky(self._covariance(blocks, blocks) + torch.diag(model.likelihood.noise / times))
        sums = torch.zeros(len(rows)).double().index_add_(0, torch.from_numpy(which), model.train_targets)
        centred = sums / times - model.mean_module(train)
        inverse = torch.linalg.solve_triangular(root, torch.eye(len(rows)).double(), upper=False)
        return blocks, inverse.float(), torch.cholesky_solve(centred[:, None], root)[:, 0]

    def _split(self, x: Float[Tensor, "b d"]) -> list[DistinctBlock]:
        """Of each block of features the distinct rows, of which there are few, and which of them each row has."""
        found = [distinct(block.numpy()) for block in torch.split(x, self._widths, 1)]
        return [(torch.from_numpy(rows), torch.from_numpy(which)) for rows, which in found]

    def _covariance(self, x: Sequence[DistinctBlock], others: Sequence[DistinctBlock]) -> Float[Tensor, "b m"]:
        """The model's own covariance, block by block and in place: its kernels copy as much as they compute."""
        total = torch.zeros(len(x[0][1]), len(others[0][1])).double()
        for kernel, block in zip(self.model.covar_module.kernels, self._blocks, strict=True):
            (rows, i), (columns, j) = x[block], others[block]
            if isinstance(kernel, LinearKernel):
                part = (rows @ columns.mT).mul_(kernel.variance.item())
            else:
                d = torch.cdist(rows, columns).mul_(5**0.5 / kernel.base_kernel.lengthscale.item())
                part = (d * (d / 3 + 1)).add_(1).mul_(d.neg_().exp_()).mul_(kernel.outputscale.item())
            if len(columns) < len(j):
                part = part[:, j]
            total += part[i] if len(rows) < len(i) else part
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
