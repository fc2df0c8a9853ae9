"""Losses of neural predictors: of predicted scores against targets, by name.

All take scores `b` and targets `b`, larger is better in both, and give a scalar to minimise. The ranking losses depend
on differences of scores only, so what they train has no zero of its own. Fewer than two targets, or equal ones, have
no order: the gradients of the ranking losses are then zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from archgen.registry import Registry

RANKING_LOSSES: Registry[type[RankingLoss]] = Registry("loss of a predictor")


class RankingLoss(ABC):
    """A loss of scores against targets; constructor arguments are its settings."""

    @abstractmethod
    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The loss.

        Args:
            scores: Of `b` architectures, as predicted; gradients flow to them.
            targets: What they are worth, `b`, of the same type.
        """


@RANKING_LOSSES.register("mse")
class MeanSquaredError(RankingLoss):
    """The mean squared difference: knows the scale of targets, not only their order."""

    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(scores, targets)


@RANKING_LOSSES.register("hinge")
class PairwiseHinge(RankingLoss):
    r"""Mean of :math:`\max(0, m - (s_i - s_j))` over the pairs with :math:`y_i > y_j`; ties are left out.

    The pairwise hinge ranking loss that predictor-based NAS took from learning to rank (GATES, arXiv 2004.01899;
    NASFLAT, arXiv 2403.02446).

    Args:
        margin: Difference `m` of scores from which a pair in the right order costs nothing; positive.
    """

    def __init__(self, margin: float = 0.1) -> None:
        if margin <= 0:
            raise ValueError(f"a hinge needs a positive margin, got {margin}")
        self.margin = margin

    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        better = targets[:, None] > targets
        cost = F.relu(self.margin - (scores[:, None] - scores)) * better
        return cost.sum() / better.sum().clamp(min=1)


@RANKING_LOSSES.register("listmle")
class ListMLE(RankingLoss):
    r"""Negative log-likelihood of the targets' order under the Plackett-Luce model of the scores, over `b`.

    :math:`-\frac{1}{b} \sum_i \big(s_{\pi(i)} - \log \sum_{k \ge i} e^{s_{\pi(k)}}\big)`, where :math:`\pi` sorts the
    targets in descending order ("Listwise approach to learning to rank: theory and algorithm", Xia et al., ICML 2008).
    Equal targets have no order; they are taken in the order given, so a tie pulls its first member up a little.
    """

    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        if len(targets) < 2 or bool((targets == targets[0]).all()):
            return 0.0 * scores.sum()
        ranked = scores[torch.argsort(targets, descending=True, stable=True)]
        rest = torch.logcumsumexp(ranked.flip(0), 0).flip(0)
        return (rest - ranked).mean()


def soft_kendall(x: Tensor, y: Tensor, sharpness: float, joint: bool = False) -> Tensor:
    r"""A differentiable Kendall tau: the sign of a difference `d` becomes `tanh(sharpness * d / 2)`.

    The mean over the `b (b - 1) / 2` pairs of :math:`\tanh(\alpha \Delta x / 2) \tanh(\alpha \Delta y / 2)`; that is
    the product of differences of sigmoids in ParZC's code (arXiv 2402.02105), or with `joint` that of DiffKendall's
    (arXiv 2307.15317), :math:`\tanh(\beta \Delta x \Delta y / 2) = 2 \sigma(\beta \Delta x \Delta y) - 1`. Both tend
    to tau-a, in which a tie counts 0, as the sharpness grows. ParZC's code adds each pair twice and divides by the
    number of pairs, so its values reach 2; here the bounds are -1 and 1.

    Args:
        x, y: `b` values each, at least two.
        sharpness: `alpha` or `beta`, positive, in the unit of one over a difference (`joint`: of a product of two).
        joint: Whether the two differences are multiplied before they are squashed.
    """
    i, j = torch.triu_indices(len(x), len(x), 1, device=x.device)
    dx, dy = x[i] - x[j], y[i] - y[j]
    if joint:
        return torch.tanh(sharpness * dx * dy / 2).mean()
    return (torch.tanh(sharpness * dx / 2) * torch.tanh(sharpness * dy / 2)).mean()


@RANKING_LOSSES.register("diff_kendall")
class DiffKendall(RankingLoss):
    """One minus `soft_kendall`: 0 for the same order at any distance, 2 for the reverse.

    Args:
        sharpness: See `soft_kendall`. ParZC's code has 0.5, for accuracies in its own standardisation; with targets of
            variance 1 the default makes half of a standard deviation count as 0.85 of a sign.
        joint: The form of DiffKendall's own code; the default is that of ParZC.
    """

    def __init__(self, sharpness: float = 5.0, joint: bool = False) -> None:
        if sharpness <= 0:
            raise ValueError(f"expected a positive sharpness, got {sharpness}")
        self.sharpness, self.joint = sharpness, joint

    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        if len(targets) < 2:
            return 0.0 * scores.sum()
        return 1 - soft_kendall(scores, targets, self.sharpness, self.joint)
