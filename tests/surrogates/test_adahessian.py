"""AdaHessian: Newton steps where the Hessian is diagonal, its own formula elsewhere."""

from typing import Any

import pytest
import torch
from torch import Tensor

from archgen.surrogates import AdaHessian

CURVATURE = torch.tensor([0.5, 3.0, 40.0]).double()
OPTIMUM = torch.tensor([1.0, -2.0, 0.25]).double()


def quadratic(x: Tensor) -> Tensor:
    return 0.5 * (CURVATURE * (x - OPTIMUM).square()).sum()


def optimiser(x: Tensor, **options: Any) -> AdaHessian:
    return AdaHessian([x], **{"lr": 1.0, "generator": torch.Generator().manual_seed(0), **options})


def step(optimizer: AdaHessian, x: Tensor, loss: Tensor) -> None:
    (x.grad,) = torch.autograd.grad(loss, x, create_graph=True)
    optimizer.step()
    x.grad = None


def test_one_step_on_a_diagonal_quadratic_is_newtons() -> None:
    x = torch.zeros(3).double().requires_grad_()
    step(optimiser(x, betas=(0.0, 0.0), eps=1e-12), x, quadratic(x))
    assert torch.allclose(x.detach(), OPTIMUM)


def test_the_first_step_is_newtons_whatever_the_decay() -> None:
    """Both means are corrected for their start."""
    x = torch.zeros(3).double().requires_grad_()
    step(optimiser(x, eps=1e-12), x, quadratic(x))
    assert torch.allclose(x.detach(), OPTIMUM)


def test_two_steps_follow_the_formula() -> None:
    """x^4 from 1: gradients and curvatures known in closed form, means and corrections by hand."""
    lr, (b1, b2), eps = 0.1, (0.9, 0.99), 1e-4
    x = torch.ones(1).double().requires_grad_()
    optimizer = optimiser(x, lr=lr, betas=(b1, b2), eps=eps)
    by_hand, mean, square = 1.0, 0.0, 0.0
    for t in (1, 2):
        step(optimizer, x, (x**4).sum())
        g, d = 4 * by_hand**3, 12 * by_hand**2
        mean, square = b1 * mean + (1 - b1) * g, b2 * square + (1 - b2) * d**2
        by_hand -= lr * (mean / (1 - b1**t)) / ((square / (1 - b2**t)) ** 0.5 + eps)
        assert x.item() == pytest.approx(by_hand)


def test_without_hessian_power_it_is_gradient_descent() -> None:
    x = torch.zeros(3).double().requires_grad_()
    step(optimiser(x, lr=0.01, betas=(0.0, 0.0), eps=1e-12, hessian_power=0.0), x, quadratic(x))
    assert torch.allclose(x.detach(), 0.01 * CURVATURE * OPTIMUM)


def test_it_descends_from_a_saddle_and_a_maximum() -> None:
    """Where the curvature is negative, Newton's own step would go up."""
    x = torch.tensor([0.1]).double().requires_grad_()
    optimizer = optimiser(x, lr=0.1)
    for _ in range(200):
        step(optimizer, x, (x**4 - x**2).sum())
    assert abs(x.item()) == pytest.approx(2**-0.5, abs=1e-2)


def test_hutchinsons_estimate_has_the_mean_of_the_diagonal() -> None:
    """Of a full Hessian, over 2,000 draws; each entry's error has a standard deviation of 0.02 to 0.05."""
    half = torch.randn(4, 4, generator=torch.Generator().manual_seed(2)).double()
    hessian = half @ half.T
    x = torch.ones(4).double().requires_grad_()
    optimizer = optimiser(x)
    total = torch.zeros(4).double()
    for _ in range(2000):
        (x.grad,) = torch.autograd.grad(0.5 * x @ hessian @ x, x, create_graph=True)
        total += optimizer._diagonal([x])[0]
    assert torch.allclose(total / 2000, hessian.diagonal(), atol=0.3)


def test_a_gradient_without_a_graph_is_refused() -> None:
    x = torch.zeros(3).double().requires_grad_()
    optimizer = optimiser(x)
    quadratic(x).backward()
    with pytest.raises(RuntimeError, match="create_graph=True"):
        optimizer.step()


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"betas": (1.0, 0.9)}, {"eps": 0.0}, {"hessian_power": 1.5}])
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected lr >= 0"):
        optimiser(torch.zeros(1).requires_grad_(), **wrong)
