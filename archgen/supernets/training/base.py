"""Training strategies: which paths a step trains, and on what loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from archgen.registry import Registry
from archgen.supernets.base import Supernet

TRAINING_STRATEGIES: Registry[type[TrainingStrategy]] = Registry("training strategy")

Batch = tuple[Float[Tensor, "b c h w"], Int[Tensor, " b"]]


class TrainingStrategy(ABC):
    """Accumulates the gradients of one step; the optimiser is the loop's."""

    @abstractmethod
    def step(self, supernet: Supernet, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        """Call `backward` on the losses of the paths that this step trains; returns the losses by name."""


def default_strategy(supernet: Supernet) -> TrainingStrategy:
    """Sandwich rule where the space has an order, uniform single paths where it has not."""
    return TRAINING_STRATEGIES["uniform" if supernet.space.extremes is None else "sandwich"]()
