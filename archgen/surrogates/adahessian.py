"""AdaHessian: an adaptive second-order optimiser (Yao et al., arXiv 2006.00719, algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class AdaHessian(Optimizer):
    r"""Adam with the diagonal of the Hessian in place of the squared gradient.

    The diagonal is Hutchinson's estimate (equation 8 of the paper), :math:`D = z \circ (H z)` with
    :math:`z` of independent signs: its mean is the diagonal, and where the Hessian is diagonal it is that to the bit.
    Then, with means :math:`m` and :math:`v` of :math:`g` and :math:`D^2` corrected for their start as in Adam,

    .. math:: \theta \leftarrow \theta - \eta \, m / (\sqrt{v}^{\,k} + \epsilon).

    The magnitude of the diagonal is used, so a step descends at a saddle too. The paper averages the diagonal over
    the filter of a convolution; what is optimised here are vectors, so nothing is averaged.

    The gradients must have a graph: call `loss.backward(create_graph=True)`.

    Args:
        params: Parameters, or groups of them.
        lr: Step size; 1 is a Newton step.
        betas: Decay of the means of gradient and diagonal, in [0, 1).
        eps: Added to the denominator, positive.
        hessian_power: `k`, in [0, 1]; 0 is gradient descent with momentum.
        generator: Of the signs.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.15,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-4,
        hessian_power: float = 1.0,
        generator: torch.Generator,
    ) -> None:
        if lr < 0 or eps <= 0 or not 0 <= hessian_power <= 1 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(
                f"expected lr >= 0, eps > 0, betas in [0, 1) and hessian_power in [0, 1], "
                f"got {lr}, {eps}, {betas} and {hessian_power}"
            )
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "hessian_power": hessian_power})
        self._generator = generator

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step from the gradients that `backward(create_graph=True)` left.

        Raises:
            RuntimeError: A gradient has no graph.
        """
        loss = None if closure is None else closure()
        moved = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if any(p.grad.grad_fn is None for _, p in moved):
            raise RuntimeError("the Hessian needs the graph of the gradient: call backward(create_graph=True)")
        diagonals = self._diagonal([p for _, p in moved])
        with torch.no_grad():
            for (group, p), diagonal in zip(moved, diagonals, strict=True):
                self._move(p, p.grad.detach(), diagonal, group)
        return loss

    def _diagonal(self, params: list[Tensor]) -> tuple[Tensor, ...]:
        """Hutchinson's estimate of the diagonal of the Hessian, of the shapes of the parameters."""
        signs = [
            torch.randint(0, 2, p.shape, generator=self._generator).to(p).mul_(2).sub_(1) for p in params
        ]  # Rademacher
        grads = [p.grad for p in params if p.grad is not None]
        products = torch.autograd.grad(grads, params, grad_outputs=signs)
        return tuple(z * product for z, product in zip(signs, products, strict=True))

    def _move(self, p: Tensor, grad: Tensor, diagonal: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state.update(step=0, mean=torch.zeros_like(p), square=torch.zeros_like(p))
        (beta1, beta2), k = group["betas"], group["hessian_power"]
        state["step"] += 1
        state["mean"].lerp_(grad, 1 - beta1)
        state["square"].lerp_(diagonal.square(), 1 - beta2)
        mean = state["mean"] / (1 - beta1 ** state["step"])
        curvature = (state["square"] / (1 - beta2 ** state["step"])).sqrt()
        p.sub_(group["lr"] * mean / (curvature**k + group["eps"]))
