"""sharpDARTS: DARTS whose weights decay by a power of the cosine and whose strongest operation is not scaled."""

from __future__ import annotations

import dataclasses

from jaxtyping import Float
from torch import Tensor

from archgen.errors import InvalidOption
from archgen.supernets.training.base import TRAINING_STRATEGIES
from archgen.supernets.training.darts import Darts
from archgen.supernets.training.loop import Schedule


@TRAINING_STRATEGIES.register("sharpdarts")
class SharpDarts(Darts):
    r"""DARTS with cosine power annealing and Max-W regularisation (sharpDARTS, arXiv 1903.09900).

    The learning rate of the weights falls by `Schedule.power`,

    .. math:: \eta = \frac{p^{c + 1} - p}{p^2 - p} \, \eta_{max}, \qquad c = \tfrac12 (1 + \cos(\pi t / T)),

    and an operation whose softmax is :math:`w` is multiplied by :math:`1 - \max w + w`, so that the strongest of an
    edge always counts in full, and the others are told from it alone.

    As in the published code as it is now, the gradient flows through the maximum too, so that of the strongest
    operation's own multiplier is 0; earlier versions detached it. `none` takes part in the maximum. Against that code:
    the rate ends at 0, or at `Schedule.tail`, where there it ends at a least rate that is added, and the warm-up is the
    loop's. SharpSepConv, its block, is an operation of a space, and no part of the training: it is left out.

    Args:
        alpha_lr, alpha_weight_decay, label_smoothing: As in `Darts`.
        power: Base of the annealing, at least 1, which is a cosine; the published search has 2.
        max_w: Whether the strongest operation counts in full; else operations are weighed as in DARTS.

    Raises:
        InvalidOption: A number out of its range.
    """

    name = "sharpdarts"

    def __init__(
        self,
        alpha_lr: float = 3e-4,
        alpha_weight_decay: float = 1e-3,
        label_smoothing: float = 0.0,
        power: float = 2.0,
        max_w: bool = True,
    ) -> None:
        if power < 1:
            raise InvalidOption(f"expected a power of at least 1 (a cosine), got {power:g}")
        super().__init__(alpha_lr, alpha_weight_decay, label_smoothing)
        self.power, self.max_w = power, max_w

    def schedule(self, given: Schedule) -> Schedule:
        return dataclasses.replace(given, power=self.power)

    def multipliers(self) -> dict[str, Float[Tensor, " k"]]:
        found = super().multipliers()
        return {edge: 1 - w.max() + w for edge, w in found.items()} if self.max_w else found
