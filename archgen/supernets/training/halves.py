"""Training images in two halves that never mix: one for weights, one for architecture parameters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from archgen.supernets.training.base import Batch, Plan


class Halves:
    """Which images each half has, and where they are in the batches of an epoch.

    The halves are drawn once, by a seed of their own, since images that lie side by side may be of one class; the same
    number of images is always divided in the same way. Batches take images of both in turn.

    Args:
        plan: Number of images and of batches an epoch.
    """

    def __init__(self, plan: Plan) -> None:
        self._batches = plan.steps
        drawn = torch.randperm(plan.images, generator=torch.Generator().manual_seed(0))
        count = (plan.images + 1) // 2
        self.weights: Int[Tensor, " w"] = drawn[:count].sort().values
        """Positions of the images that weights are trained on; one more where the number is odd."""
        self.held_out: Int[Tensor, " a"] = drawn[count:].sort().values
        """Positions of the others, for the architecture."""
        self._is_held_out = torch.zeros(plan.images, dtype=torch.bool).index_fill(0, self.held_out, True)
        self._order = self._in_turn(self.weights, self.held_out)
        self.steps = torch.zeros((), dtype=torch.long)
        """Batches that were divided."""
        self._shown = torch.zeros((), dtype=torch.long)

    def order(self, generator: torch.Generator) -> Int[Tensor, " n"]:
        """Positions of the images of an epoch, each half shuffled, the two in turn."""
        shuffled = [part[torch.randperm(len(part), generator=generator)] for part in (self.weights, self.held_out)]
        self._order = self._in_turn(*shuffled)
        return self._order

    @staticmethod
    def _in_turn(weights: Tensor, held_out: Tensor) -> Tensor:
        pairs = torch.stack([weights[: len(held_out)], held_out], 1).flatten()
        return torch.cat([pairs, weights[len(held_out) :]])

    def split(self, batch: Batch) -> tuple[Batch, Batch]:
        """The weights' and the architecture's part of the next batch of the epoch.

        The last batch of a very small set may have no part for the architecture.
        """
        x, y = batch
        start = int(self._shown)
        held_out = self._is_held_out[self._order[start : start + len(y)]].to(y.device)
        self.steps += 1
        self._shown += len(y)
        if int(self.steps) % self._batches == 0:
            self._shown.zero_()
        return (x[~held_out], y[~held_out]), (x[held_out], y[held_out])

    def state(self) -> dict[str, Tensor]:
        """How far the epoch is."""
        return {"steps": self.steps, "shown": self._shown}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` gave."""
        self.steps, self._shown = state["steps"].clone(), state["shown"].clone()
