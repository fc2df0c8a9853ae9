"""Kernels of GPyTorch as the Gaussian process needs them."""

from __future__ import annotations

from typing import Any

from gpytorch.kernels import LinearKernel, MaternKernel
from torch import Tensor

SMALLEST = 1e-30
"""Squared distance below which points are the same, as GPyTorch has it: the root has no slope at 0."""


class DenseLinearKernel(LinearKernel):  # type: ignore[misc]
    """A linear kernel as a matrix.

    As a product of two, its sum with other kernels would be rooted to exploit a low rank, which takes a Cholesky
    decomposition of the others without any noise.
    """

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: Any) -> Tensor:
        """Covariances, `b x m`, or the variances `b`."""
        found = super().forward(x1, x2, diag=diag, **params)
        covariance: Tensor = found if diag else found.to_dense()
        return covariance


class SmoothMaternKernel(MaternKernel):  # type: ignore[misc]
    """A Matern kernel with second derivatives by its points, which ascents to its optimum follow (`gobi.ascend`).

    GPyTorch takes distances from `torch.cdist`, which has none between fewer than 26 points.
    """

    def covar_dist(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: Any) -> Tensor:
        """Distances `... b x m` of points `... b x d` and `... m x d`, or `... b` of the pairs."""
        if diag or not (x1.requires_grad or x2.requires_grad):
            distances: Tensor = super().covar_dist(x1, x2, diag=diag, **params)
            return distances
        squared = (x1[..., :, None, :] - x2[..., None, :, :]).square().sum(-1)
        return squared.clamp_min(SMALLEST).sqrt()
