"""The kernels against their closed forms, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from gpytorch.kernels import Kernel, LinearKernel, MaternKernel
from torch import Tensor

from archgen.surrogates.kernels import DenseLinearKernel, SmoothMaternKernel


def points(n: int, seed: int) -> Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize(("ours", "theirs"), [(DenseLinearKernel, LinearKernel), (SmoothMaternKernel, MaternKernel)])
def test_covariances_are_those_of_the_library(ours: Callable[[], Kernel], theirs: Callable[[], Kernel]) -> None:
    x, known = points(4, 0), points(7, 1)
    kernel, reference = ours().double(), theirs().double()
    expected = reference(x, known).to_dense()
    torch.testing.assert_close(kernel(x, known).to_dense(), expected)
    torch.testing.assert_close(kernel(x.clone().requires_grad_(), known).to_dense(), expected)
    torch.testing.assert_close(kernel(x, diag=True), reference(x, diag=True))


def test_a_linear_kernel_is_a_matrix_and_no_product() -> None:
    x, known = points(4, 0), points(7, 1)
    assert isinstance(DenseLinearKernel().double().forward(x, known), Tensor)
    assert not isinstance(LinearKernel().double().forward(x, known), Tensor)


@pytest.mark.parametrize("n", [3, 40])
def test_a_matern_kernel_has_second_derivatives_between_few_and_many_points(n: int) -> None:
    kernel, known = SmoothMaternKernel().double(), points(n, 1)
    x = points(2, 0).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: kernel(x, known).to_dense(), (x,))


def test_its_slope_is_zero_at_a_known_point() -> None:
    kernel, known = SmoothMaternKernel().double(), points(3, 1)
    x = known[:1].clone().requires_grad_()
    (slope,) = torch.autograd.grad(kernel(x, known[:1]).to_dense().sum(), x)
    assert slope.tolist() == [[0.0, 0.0, 0.0]]
