"""GOBI: gradient-based optimisation with backpropagation to the input of a surrogate.

From COSCO (Tuli et al., IEEE Transactions on Parallel and Distributed Systems 33, 2022); with second-order steps as
in BOSHNAS (FlexiBERT, arXiv 2205.11656).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from archgen.graph import Architecture
from archgen.predictors.base import Floats
from archgen.surrogates.adahessian import AdaHessian
from archgen.surrogates.base import Surrogate

LR = 0.5
"""Step size of AdaHessian, as in the published code."""
FIRST_ORDER_LR = 0.05
"""Step size of Adam where second order is switched off."""
NEAR = 0.1
"""Share of known architectures that count as near an optimum."""
TOLERANCE = 1e-5
PATIENCE = 5
"""Steps without a change above `TOLERANCE` after which all starts count as arrived; both as in the published code."""


def ascend(
    acquisition: Callable[[Tensor], Tensor],
    starts: Float[Tensor, "k d"],
    bounds: Float[Tensor, "2 d"],
    *,
    second_order: bool = True,
    steps: int = 100,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """Ascend an acquisition function from several starts at once, within a box.

    Steps are AdaHessian's (Hutchinson's diagonal) with a step size annealed by a cosine. Against the published code:
    all starts ascend as one batch, whose Hessian is block diagonal, so each goes the way that it would alone; the
    step size is annealed once over all steps (there it swings every two); and the best point on each way is given,
    so that none ends lower than it began.

    Args:
        acquisition: Points `k x 1 x d` to values `k`, as BoTorch's acquisition functions; larger is better. Twice
            differentiable where `second_order`.
        starts: `k` points in the box.
        bounds: Lower and upper corner of the box.
        second_order: Whether to use AdaHessian; else Adam.
        steps: At most.
        generator: Of Hutchinson's signs.

    Returns:
        The best point on the way from each start, and the values there.
    """
    point = starts.detach().clone().clamp(bounds[0], bounds[1]).requires_grad_()
    optimizer: torch.optim.Optimizer
    if second_order:
        optimizer = AdaHessian([point], LR, generator=generator)
    else:
        optimizer = torch.optim.Adam([point], FIRST_ORDER_LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, highest, still = point.detach().clone(), torch.full((len(point),), -torch.inf).to(point), 0
    before = highest
    for step in range(steps + 1):
        with torch.enable_grad():
            values = acquisition(point[:, None])
        now = values.detach()
        better = now > highest
        best[better], highest = point.detach()[better], torch.where(better, now, highest)
        still = still + 1 if bool(((now - before).abs() < TOLERANCE).all()) else 0
        if still > PATIENCE or step == steps:
            break
        before = now
        (gradient,) = torch.autograd.grad(-values.sum(), point, create_graph=second_order)
        point.grad = gradient
        optimizer.step()
        schedule.step()
        point.grad = None
        with torch.no_grad():
            point.clamp_(bounds[0], bounds[1])
            point.copy_(torch.where(point.isfinite(), point, best))  # where a curvature was not finite
    return best, highest


class OptimumTilt:
    r"""The optimum of an acquisition function as a condition of a generator, so that no list of the space is needed.

    BOSHNAS goes to the listed architecture next to the optimum :math:`x^*`. A generator has no list; it is sampled
    under the log-weight

    .. math:: \log w(a) = - \tfrac{1}{2} \lVert x(a) - x^* \rVert^2 / \ell^2,

    the similarity of the features :math:`x(a)` to the optimum. The length :math:`\ell` is the distance from the
    optimum within which a tenth of some known architectures lie, so that these lose at most half a unit.

    Args:
        surrogate: Gives the features.
        optimum: Where an acquisition function over them is largest, `d`; usually the features of no architecture.
        known: Features of at least one architecture, for the length.
    """

    def __init__(self, surrogate: Surrogate, optimum: Float[Tensor, " d"], known: Float[Tensor, "b d"]) -> None:
        self.surrogate, self.optimum = surrogate, optimum
        near = torch.quantile((known - optimum).norm(dim=1), NEAR, interpolation="lower").item()
        self.length = max(near, 1e-6)  # 0 where the optimum is a known architecture

    def __call__(self, archs: Sequence[Architecture]) -> Floats:
        """Log-weight of each architecture, `b`, at most 0."""
        x = self.surrogate.features(archs)
        distance = (x - self.optimum).norm(dim=1).numpy()
        weight: Floats = -0.5 * np.square(distance / self.length)
        return weight
