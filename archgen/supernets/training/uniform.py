"""Uniform single-path training (SPOS, arXiv 1904.00420, section 3.2)."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from archgen.supernets.base import Supernet
from archgen.supernets.training.base import TRAINING_STRATEGIES, Batch, TrainingStrategy, ranged


@TRAINING_STRATEGIES.register("uniform")
class Uniform(TrainingStrategy):
    """Each step trains `paths` architectures drawn uniformly from the space, by cross-entropy, gradients averaged.

    Args:
        paths: Architectures a step, at least 1; 1 is the paper's.
        label_smoothing: Of the cross-entropy, in [0, 1).

    Raises:
        InvalidOption: A number out of its range.
    """

    def __init__(self, paths: int = 1, label_smoothing: float = 0.0) -> None:
        self.paths = ranged("paths", paths, 1)
        self.label_smoothing = ranged("label_smoothing", label_smoothing, 0, 1)

    def step(self, supernet: Supernet, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        x, y = batch
        total = 0.0
        for arch in supernet.space.sample(self.paths, rng):
            loss = F.cross_entropy(supernet(x, arch), y, label_smoothing=self.label_smoothing) / self.paths
            self.gradients.backward(loss)
            total += float(loss.detach())
        return {"loss": total}
