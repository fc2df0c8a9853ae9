"""Alpha-divergences against their definition, differentiated by autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from archgen.supernets.training.divergences import (
    adaptive_alpha_divergence,
    alpha_divergence,
    soft_cross_entropy,
)


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    path, target = (torch.randn(7, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    return path.requires_grad_(), target


def definition(path: Tensor, target: Tensor, alpha: float) -> Tensor:
    p, q = target.softmax(-1), path.softmax(-1)
    if alpha == 1:
        return (p * (p / q).log()).sum(-1)
    if alpha == 0:
        return (q * (q / p).log()).sum(-1)
    return (q * ((p / q) ** alpha - 1)).sum(-1) / (alpha * (alpha - 1))


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5, 1.0, 2.0])
def test_values_and_gradients_are_those_of_the_definition(logits: tuple[Tensor, Tensor], alpha: float) -> None:
    path, target = logits
    value, loss = alpha_divergence(path, target, alpha)
    torch.testing.assert_close(value, definition(path, target, alpha).detach())
    got = torch.autograd.grad(loss.sum(), path)[0]
    torch.testing.assert_close(got, torch.autograd.grad(definition(path, target, alpha).sum(), path)[0])


def test_equal_predictions_are_a_minimum(logits: tuple[Tensor, Tensor]) -> None:
    path, _ = logits
    for alpha in (-1.0, 0.0, 1.0, 1.5):
        value, loss = alpha_divergence(path, path.detach(), alpha)
        torch.testing.assert_close(value, torch.zeros(7, dtype=torch.float64))
        torch.testing.assert_close(torch.autograd.grad(loss.sum(), path)[0], torch.zeros_like(path), atol=1e-12, rtol=0)


def test_the_adaptive_one_takes_the_larger_for_each_image(logits: tuple[Tensor, Tensor]) -> None:
    path, target = logits
    larger = torch.maximum(*(definition(path, target, alpha) for alpha in (-1.0, 1.0))).mean()
    got = torch.autograd.grad(adaptive_alpha_divergence(path, target, clip=torch.inf), path)[0]
    torch.testing.assert_close(got, torch.autograd.grad(larger, path)[0])


def test_importance_weights_are_clipped() -> None:
    """A target that the path thinks impossible would else have an unbounded weight."""
    path, target = torch.tensor([[9.0, -9.0]], requires_grad=True), torch.tensor([[-9.0, 9.0]])
    _, loss = alpha_divergence(path, target, 2.0, clip=5.0)
    assert torch.autograd.grad(loss.sum(), path)[0].abs().max() < 5
    _, loss = alpha_divergence(path, target, 2.0)
    assert torch.autograd.grad(loss.sum(), path)[0].abs().max() > 1e6


def test_the_cross_entropy_gives_the_target_no_gradient(logits: tuple[Tensor, Tensor]) -> None:
    path, target = logits
    target.requires_grad_()
    loss = soft_cross_entropy(path, target)
    torch.testing.assert_close(loss, F.cross_entropy(path, target.softmax(-1)))
    assert torch.autograd.grad(loss, [path, target], allow_unused=True)[1] is None
