"""DARTS: every edge is a softmax mixture of its operations (arXiv 1806.09055)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from archgen.supernets.relaxed import RelaxedSupernet, Weights
from archgen.supernets.training.base import TRAINING_STRATEGIES, Batch
from archgen.supernets.training.differentiable import DifferentiableSearch


@TRAINING_STRATEGIES.register("darts")
class Darts(DifferentiableSearch):
    r"""The edge from node `i` to node `j` computes

    .. math:: \bar o^{(i,j)}(x) = \sum_o \frac{\exp(\alpha_o^{(i,j)})}{\sum_{o'} \exp(\alpha_{o'}^{(i,j)})} \, o(x) ,

    where `none` takes part in the softmax and adds nothing. Each step descends the loss of the held-out half by
    :math:`\alpha`, with the weights as they are (the first-order approximation, :math:`\xi = 0`), then that of the
    other half by the weights. What is found keeps the strongest operation of each edge, in a space of genotypes the
    two strongest edges into each node (`RelaxedSupernet.strongest`).

    Against the published code: operations are those of the space's networks, so batch normalisation is affine, and
    pooling is not followed by one; held-out images come in turn with the others, not drawn with replacement; the
    weights' optimiser and learning rate are the loop's. The second-order approximation is left out.

    Args:
        alpha_lr: Learning rate of the architecture parameters' Adam, at least 0.
        alpha_weight_decay: Its L2 penalty, at least 0.
        label_smoothing: Of the weights' cross-entropy, in [0, 1).

    Raises:
        InvalidOption: A number out of its range.
    """

    name, betas = "darts", (0.5, 0.999)

    def __init__(self, alpha_lr: float = 3e-4, alpha_weight_decay: float = 1e-3, label_smoothing: float = 0.0) -> None:
        super().__init__(alpha_lr, alpha_weight_decay, label_smoothing)

    def multipliers(self) -> dict[str, Float[Tensor, " k"]]:
        """What the operations of each edge are multiplied by; differentiable by the architecture parameters."""
        return self.alphas.probabilities()

    def update(self, supernet: RelaxedSupernet, batch: Batch, rng: np.random.Generator) -> float:
        x, y = batch
        loss = F.cross_entropy(supernet.mixed(x, self._named(self.multipliers())), y)
        (gradient,) = torch.autograd.grad(loss, [self.alphas.values])
        self.alphas.descend(gradient)
        return float(loss.detach())

    def path(self, rng: np.random.Generator) -> Weights:
        return self._named({edge: values.detach() for edge, values in self.multipliers().items()})

    def _named(self, values: dict[str, Float[Tensor, " k"]]) -> Weights:
        return {edge: dict(zip(self.alphas.edges[edge], each.unbind(), strict=True)) for edge, each in values.items()}
