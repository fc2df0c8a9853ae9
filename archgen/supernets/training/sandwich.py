"""Sandwich rule with in-place distillation (arXiv 1903.05134; BigNAS, arXiv 2003.11142, section 3)."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from archgen.errors import InvalidSpace
from archgen.supernets.base import Supernet
from archgen.supernets.training.base import TRAINING_STRATEGIES, Batch, TrainingStrategy


@TRAINING_STRATEGIES.register("sandwich")
class Sandwich(TrainingStrategy):
    """Each step trains the largest architecture on the labels, the smallest and `random` others on its predictions.

    The largest one's soft predictions of the same step, detached, are the targets of the others.

    Args:
        random: Random architectures a step; BigNAS uses 2.
        label_smoothing: Of the largest architecture's cross-entropy (the only regularised one), in [0, 1).
    """

    def __init__(self, random: int = 2, label_smoothing: float = 0.0) -> None:
        self.random, self.label_smoothing = random, label_smoothing

    def step(self, supernet: Supernet, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        """As in the base.

        Raises:
            InvalidSpace: The space has no largest and smallest architecture.
        """
        if supernet.space.extremes is None:
            raise InvalidSpace(f"{supernet.space.name} has no order, so no largest path; train it with 'uniform'")
        smallest, largest = supernet.space.extremes
        x, y = batch
        logits = supernet(x, largest)
        loss = F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
        target = logits.detach().softmax(-1)
        losses = {"largest": float(loss.detach())}
        for i, arch in enumerate([smallest, *supernet.space.sample(self.random, rng)]):
            distilled = F.cross_entropy(supernet(x, arch), target)
            distilled.backward()  # type: ignore[no-untyped-call]
            losses["smallest" if i == 0 else f"random{i}"] = float(distilled.detach())
        return losses
