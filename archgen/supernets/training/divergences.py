"""How far a path's predictions are from those of the largest: cross-entropy, and AlphaNet's alpha-divergences."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

ALPHAS = (-1.0, 1.0)
CLIP = 5.0
"""Range of alpha and largest importance weight, as in the published training of AlphaNet."""


def soft_cross_entropy(logits: Float[Tensor, "b k"], target: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Mean cross-entropy to the probabilities of other logits, which get no gradient; BigNAS's distillation."""
    return F.cross_entropy(logits, target.detach().softmax(-1))


def adaptive_alpha_divergence(
    logits: Float[Tensor, "b k"],
    target: Float[Tensor, "b k"],
    alphas: tuple[float, float] = ALPHAS,
    clip: float = CLIP,
) -> Float[Tensor, ""]:
    r"""The larger of two alpha-divergences for each image (AlphaNet, arXiv 2102.07954), in the mean.

    A small alpha punishes where the path is sure and the target is not, a large one the converse, so that uncertainty
    is neither over- nor underestimated. The value is that of a function whose gradient is the divergence's with
    clipped importance weights, as in the published code; it is not the divergence itself.

    Args:
        logits: Of the path.
        target: Of the largest path; they get no gradient.
        alphas: The smaller and the larger alpha.
        clip: Largest value of :math:`(p / q)^\alpha`.
    """
    (low, by_low), (high, by_high) = (alpha_divergence(logits, target, alpha, clip) for alpha in alphas)
    return torch.where(low > high, by_low, by_high).mean()


def alpha_divergence(
    logits: Float[Tensor, "b k"], target: Float[Tensor, "b k"], alpha: float, clip: float = torch.inf
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    r"""The divergence of the target `p` from the path `q`, and a loss that has its gradient, of each image.

    .. math::

        D_\alpha(p \| q) = \frac{1}{\alpha (\alpha - 1)} \sum_i q_i \left[ (p_i / q_i)^\alpha - 1 \right], \qquad
        \nabla D_\alpha = - \sum_i q_i \, \rho_\alpha(p_i / q_i) \, \nabla \ln q_i

    with :math:`\rho_\alpha(t) = t^\alpha / \alpha + 1 / \alpha (\alpha - 1)`. At 1 it is the Kullback-Leibler
    divergence of `p` from `q`, at 0 that of `q` from `p`.
    """
    p, q = target.detach().softmax(-1), logits.detach().softmax(-1)
    log_ratio = target.detach().log_softmax(-1) - logits.detach().log_softmax(-1)
    if alpha == 1:
        value, rho = p * log_ratio, log_ratio.exp()
    elif alpha == 0:
        value, rho = -q * log_ratio, log_ratio - 1
    else:
        power, constant = (alpha * log_ratio).exp().clamp(max=clip), 1 / (alpha * (alpha - 1))
        value, rho = q * (power - 1) * constant, power / alpha + constant
    return value.sum(-1), -(q * rho * logits.log_softmax(-1)).sum(-1)
