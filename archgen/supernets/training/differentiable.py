"""What differentiable searches share: architecture parameters that are trained in turn with the weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from archgen.graph import Architecture
from archgen.supernets.base import Supernet
from archgen.supernets.relaxed import RelaxedSupernet, Weights, relaxed_supernet
from archgen.supernets.training.architecture_parameters import ArchitectureParameters
from archgen.supernets.training.base import Batch, Plan, TrainingStrategy, ranged
from archgen.supernets.training.halves import Halves


class DifferentiableSearch(TrainingStrategy):
    """Each step updates the architecture on one half of the batch, then gives gradients to the weights on the other.

    Half of the training images are for the architecture alone, in every epoch the same ones (`Halves`), so a step
    trains the weights on half as many images as that of another strategy.

    Args:
        alpha_lr: Learning rate of the architecture's Adam, at least 0.
        alpha_weight_decay: Its L2 penalty, at least 0.
        label_smoothing: Of the weights' cross-entropy, in [0, 1).

    Raises:
        InvalidOption: A number out of its range.
    """

    alone = True
    least_batch = 8  # half as many in the last batch, in two halves: normalisation needs two images
    name: ClassVar[str]
    betas: ClassVar[tuple[float, float]]
    """Decays of the two moments of the architecture's Adam."""

    def __init__(self, alpha_lr: float, alpha_weight_decay: float, label_smoothing: float = 0.0) -> None:
        self.alpha_lr = ranged("alpha_lr", alpha_lr, 0)
        self.alpha_weight_decay = ranged("alpha_weight_decay", alpha_weight_decay, 0)
        self.label_smoothing = ranged("label_smoothing", label_smoothing, 0, 1)

    def prepare(self, supernet: Supernet, plan: Plan) -> None:
        """As in the base.

        Raises:
            InvalidSpace: The supernet can not mix operations.
        """
        super().prepare(supernet, plan)
        self.halves = Halves(plan)
        self.alphas = ArchitectureParameters(
            relaxed_supernet(supernet, self.name).edges,
            lr=self.alpha_lr,
            betas=self.betas,
            weight_decay=self.alpha_weight_decay,
            device=next(supernet.parameters()).device,
        )

    def order(self, generator: torch.Generator) -> Int[Tensor, " n"]:
        return self.halves.order(generator)

    def step(self, supernet: Supernet, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        relaxed, losses = relaxed_supernet(supernet, self.name), {}
        searching = self.searching
        (x, y), held_out = self.halves.split(batch)
        if searching and len(held_out[1]):
            losses["architecture"] = self.update(relaxed, held_out, rng)
        loss = F.cross_entropy(relaxed.mixed(x, self.path(rng)), y, label_smoothing=self.label_smoothing)
        self.gradients.backward(loss)
        return {"loss": float(loss.detach()), **losses}

    @property
    def searching(self) -> bool:
        """Whether the next step updates the architecture."""
        return True

    @abstractmethod
    def update(self, supernet: RelaxedSupernet, batch: Batch, rng: np.random.Generator) -> float:
        """Update the architecture parameters, and no weight; returns the loss."""

    @abstractmethod
    def path(self, rng: np.random.Generator) -> Weights:
        """What the weights are trained on; no gradient flows to the architecture parameters."""

    def found(self, supernet: Supernet) -> Architecture:
        return relaxed_supernet(supernet, self.name).strongest(self.alphas.scores())

    def state(self) -> dict[str, Tensor]:
        parts = {"alphas": self.alphas.state(), "halves": self.halves.state()}
        return {f"{part}.{name}": value for part, own in parts.items() for name, value in own.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.alphas.load_state(_part(state, "alphas."))
        self.halves.load_state(_part(state, "halves."))


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
