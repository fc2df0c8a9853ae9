"""Marginal beliefs against the model's own joint posterior."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from botorch.models import SingleTaskGP
from gpytorch.kernels import AdditiveKernel, MaternKernel, ScaleKernel
from torch import Tensor

from archgen.surrogates.kernels import DenseLinearKernel
from archgen.surrogates.marginals import Marginals

WIDTHS = [3, 2]


def matern(columns: tuple[int, ...], lengthscale: float, outputscale: float) -> ScaleKernel:
    kernel = ScaleKernel(MaternKernel(nu=2.5, active_dims=columns))
    kernel.outputscale, kernel.base_kernel.lengthscale = outputscale, lengthscale
    return kernel


@pytest.fixture(scope="module")
def points() -> Tensor:
    """Rows of two blocks, many of them there more than once."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 3, (40, sum(WIDTHS))).astype(float))


@pytest.fixture(scope="module")
def model(points: Tensor) -> SingleTaskGP:
    """Two Matern kernels and a linear one over the second block; labels that differ where rows are equal."""
    linear = DenseLinearKernel(active_dims=(3, 4))
    linear.variance = 0.7
    kernel = AdditiveKernel(matern((0, 1, 2), 0.8, 1.5), matern((3, 4), 2.0, 0.4), linear).double()
    x = torch.cat([points[:25], points[:5]])
    y = torch.from_numpy(np.random.default_rng(1).normal(size=len(x)))
    made = SingleTaskGP(x, y[:, None], covar_module=kernel, outcome_transform=None)
    made.likelihood.noise = 0.2
    made.mean_module.constant.data.fill_(0.3)
    return made.eval()


def test_they_are_those_of_the_joint_posterior(model: SingleTaskGP, points: Tensor) -> None:
    with torch.no_grad():
        joint = model.posterior(points)
    mean, std = Marginals(model, WIDTHS, [0, 1, 1])(points)
    torch.testing.assert_close(mean, joint.mean[:, 0], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(std, joint.variance[:, 0].sqrt(), rtol=1e-3, atol=1e-4)


def test_they_do_not_depend_on_what_else_is_asked(model: SingleTaskGP, points: Tensor) -> None:
    marginals = Marginals(model, WIDTHS, [0, 1, 1])
    together = torch.stack(marginals(points))
    alone = torch.cat([torch.stack(marginals(row[None])) for row in points], 1)
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)


def test_panels_of_the_root_leave_nothing_out(
    model: SingleTaskGP, points: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archgen.surrogates.marginals.PANEL", 4)  # 22 distinct rows: the last is of two
    with torch.no_grad():
        joint = model.posterior(points)
    mean, std = Marginals(model, WIDTHS, [0, 1, 1])(points)
    torch.testing.assert_close(mean, joint.mean[:, 0], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(std, joint.variance[:, 0].sqrt(), rtol=1e-3, atol=1e-4)


def test_each_kernel_needs_its_block(model: SingleTaskGP, points: Tensor) -> None:
    with pytest.raises(ValueError, match="zip"):
        Marginals(model, WIDTHS, [0, 1])(points)
