"""Several architectures in one batch (ViT-ResNAS, arXiv 2109.00642)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from archgen.errors import InvalidOption
from archgen.supernets.base import Supernet
from archgen.supernets.training.base import TRAINING_STRATEGIES, Batch, TrainingStrategy, ranged


@TRAINING_STRATEGIES.register("multi_architecture")
class MultiArchitecture(TrainingStrategy):
    """Each step trains `architectures` random ones, each on a share of the batch, by one backward pass.

    A step costs what one path costs, and its gradient is of several. The paper runs all in one forward pass, widths
    masked example by example, so that a batch is normalised as a whole; here each share is a pass of its own, and is
    normalised by its own statistics, since operations differ as well as widths.

    Args:
        architectures: At least 1; fewer where a share would have fewer than `least` images.
        least: Images of a share, at least 2: fewer have poor statistics.
        label_smoothing: Of the cross-entropy, in [0, 1).

    Raises:
        InvalidOption: A number out of its range.
    """

    def __init__(self, architectures: int = 4, least: int = 8, label_smoothing: float = 0.0) -> None:
        if architectures < 1 or least < 2:
            raise InvalidOption(
                f"expected at least 1 architecture and shares of at least 2, got {architectures} and {least}"
            )
        self.architectures, self.least = architectures, least
        self.label_smoothing = ranged("label_smoothing", label_smoothing, 0, 1)

    def step(self, supernet: Supernet, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        x, y = batch
        count = max(min(self.architectures, self.gradients.fewest(len(x)) // self.least), 1)
        parts = zip(supernet.space.sample(count, rng), x.tensor_split(count), strict=True)
        logits = torch.cat([supernet(share, arch) for arch, share in parts])
        loss = F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)
        self.gradients.backward(loss)
        return {"loss": float(loss.detach())}
