"""Training strategies: which paths a step trains, on which images, and on what loss."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from archgen.errors import InvalidOption
from archgen.graph import Architecture
from archgen.registry import Registry
from archgen.supernets.base import Supernet
from archgen.supernets.training.gradients import Gradients
from archgen.supernets.training.loop import Schedule
from archgen.supernets.training.processes import Processes

TRAINING_STRATEGIES: Registry[type[TrainingStrategy]] = Registry("training strategy")

Number = TypeVar("Number", int, float)
Batch = tuple[Float[Tensor, "b c h w"], Int[Tensor, " b"]]


def ranged(name: str, value: Number, least: float, below: float = math.inf) -> Number:
    """The value of a strategy's argument.

    Args:
        name: Of the argument.
        value: What was given.
        least, below: It must be in `[least, below)`.

    Raises:
        InvalidOption: It is not.
    """
    if not least <= value < below:
        upper = "" if below == math.inf else f" and below {below:g}"
        raise InvalidOption(f"expected {name} of at least {least:g}{upper}, got {value:g}")
    return value


@dataclass(frozen=True)
class Plan:
    """What a strategy is told before the training begins.

    Args:
        images: Number of training images.
        steps: Batches an epoch.
        epochs: Passes over the data.
    """

    images: int
    steps: int
    epochs: int


class TrainingStrategy(ABC):
    """Accumulates the gradients of one step; the optimiser is the loop's.

    A strategy that learns while it trains keeps what it knows in `state`, so that a resumed training goes on as if it
    had not been stopped. What it learns must be the same in all processes that train together: what it sees of images
    and gradients goes through `gradients`.
    """

    alone = False
    """Whether it trains in one process only."""
    least_batch = 1
    """Images that a batch needs."""
    gradients = Gradients()
    """What its losses go to; the training puts its own in this place."""

    def schedule(self, given: Schedule) -> Schedule:
        """The schedule of the weights' training; a strategy may change how the learning rate of a given one falls."""
        return given

    def begin(self, supernet: Supernet) -> None:  # noqa: B027  most begin with what was drawn
        """Change weights that were just drawn, before any of them is trained, or replaced by what a training kept."""

    def check(self, processes: Processes, size: int) -> None:
        """Refuse processes that it can not train in, and batches that are too small for it.

        Args:
            processes: Which train together.
            size: Images a batch; the last one of an epoch may be half as large.

        Raises:
            InvalidOption: There are several processes, and it learns from what one of them sees; or too few images.
        """
        if self.alone and processes.count > 1:
            raise InvalidOption(f"{type(self).__name__} trains in one process only, got {processes.count}")
        if size < self.least_batch:
            raise InvalidOption(
                f"{type(self).__name__} needs batches of at least {self.least_batch} images, got {size}; "
                "give a larger --batch"
            )

    def prepare(self, supernet: Supernet, plan: Plan) -> None:
        """Called once, before the first step or before `load_state`."""
        self.plan = plan

    def order(self, generator: torch.Generator) -> Int[Tensor, " n"] | None:
        """Positions of the images of the epoch that begins, or goes on; None for a random permutation."""
        return None

    @property
    def restarted(self) -> bool:
        """Whether the last step changed weights by itself, so that momenta mean nothing any more."""
        return False

    @abstractmethod
    def step(self, supernet: Supernet, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        """Give the losses of the paths that this step trains to `gradients.backward`; returns the losses by name.

        Args:
            supernet: In training mode.
            batch: The part of the step's images that this process has.
            rng: Draws the same paths in all processes.
        """

    def found(self, supernet: Supernet) -> Architecture | None:
        """The architecture that the training has chosen; None for a strategy that chooses none.

        Args:
            supernet: The one that was trained.
        """
        return None

    def descend(self, losses: Float[Tensor, " b"]) -> float:
        """Give the mean of the losses of this process's images to `gradients`.

        Returns:
            The mean over the whole batch, the same in all processes, so that a strategy may learn from it.
        """
        self.gradients.backward(losses.mean())
        return float(self.gradients.gather(losses.detach()).mean())

    def state(self) -> dict[str, Tensor]:
        """What was learnt, by name."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take what an equally prepared strategy gave as its `state`."""
        if state:
            raise ValueError(f"{type(self).__name__} learns nothing, got a state of {sorted(state)}")


def default_strategy(supernet: Supernet) -> TrainingStrategy:
    """Sandwich rule where the space has an order, uniform single paths where it has not."""
    return TRAINING_STRATEGIES["uniform" if supernet.space.extremes is None else "sandwich"]()
