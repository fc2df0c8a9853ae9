"""Sandwich rule with in-place distillation (arXiv 1903.05134; BigNAS, arXiv 2003.11142, section 3.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from archgen.errors import InvalidSpace
from archgen.graph import Architecture
from archgen.registry import Registry
from archgen.supernets.base import Supernet, without_dropout
from archgen.supernets.training.base import TRAINING_STRATEGIES, Batch, Plan, TrainingStrategy, ranged
from archgen.supernets.training.divergences import adaptive_alpha_divergence, soft_cross_entropy
from archgen.supernets.training.loop import Schedule

DISTILLATIONS: Registry[Callable[[Tensor, Tensor], Tensor]] = Registry("distillation")
"""Losses of a path's logits and those of the largest, by name."""
DISTILLATIONS.register("cross_entropy")(soft_cross_entropy)
DISTILLATIONS.register("alpha_divergence")(adaptive_alpha_divergence)


@TRAINING_STRATEGIES.register("sandwich")
class Sandwich(TrainingStrategy):
    """Each step trains the largest architecture on the labels, the smallest and `random` others on its predictions.

    The largest one's soft predictions of the same step, detached, are the targets of the others. It is the only one
    that is regularised (BigNAS, section 3.1): labels are smoothed and features dropped for it alone. Weight decay is
    the optimiser's, and the largest has all weights. See `Schedule.tail` for the constant end of the learning rate and
    `ElasticSupernet.silence_residuals` for the start, which BigNAS adds.

    Args:
        random: Random architectures a step, at least 0; BigNAS uses 2.
        label_smoothing: Of the largest architecture's cross-entropy, in [0, 1).
        distillation: A name in `DISTILLATIONS`: `cross_entropy` (BigNAS) or `alpha_divergence` (AlphaNet, arXiv
            2102.07954).
        tail: Least share of the peak learning rate, in [0, 1); BigNAS has 0.05.

    Raises:
        UnknownName: No such distillation.
        InvalidOption: A number out of its range.
    """

    def __init__(
        self,
        random: int = 2,
        label_smoothing: float = 0.0,
        distillation: str = "cross_entropy",
        tail: float = 0.05,
    ) -> None:
        self.random, self.tail = ranged("random", random, 0), ranged("tail", tail, 0, 1)
        self.label_smoothing = ranged("label_smoothing", label_smoothing, 0, 1)
        self._distil = DISTILLATIONS[distillation]

    def schedule(self, given: Schedule) -> Schedule:
        return dataclasses.replace(given, tail=self.tail)

    def begin(self, supernet: Supernet) -> None:
        supernet.silence_residuals()

    def prepare(self, supernet: Supernet, plan: Plan) -> None:
        """As in the base.

        Raises:
            InvalidSpace: The space has no largest and smallest architecture.
        """
        super().prepare(supernet, plan)
        self._extremes(supernet)

    def _extremes(self, supernet: Supernet) -> tuple[Architecture, Architecture]:
        if supernet.space.extremes is None:
            raise InvalidSpace(f"{supernet.space.name} has no order, so no largest path; train it with 'uniform'")
        return supernet.space.extremes

    def step(self, supernet: Supernet, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        smallest, largest = self._extremes(supernet)
        x, y = batch
        target = supernet(x, largest)
        loss = F.cross_entropy(target, y, label_smoothing=self.label_smoothing)
        self.gradients.backward(loss)
        losses = {"largest": float(loss.detach())}
        with without_dropout(supernet):
            for i, arch in enumerate([smallest, *supernet.space.sample(self.random, rng)]):
                distilled = self._distil(supernet(x, arch), target)
                self.gradients.backward(distilled)
                losses["smallest" if i == 0 else f"random{i}"] = float(distilled.detach())
        return losses
