"""Which architectures share weights is learnt (balanced mixture of supernets, arXiv 2306.11982)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from archgen.errors import InvalidOption, InvalidSpace
from archgen.supernets.base import Supernet
from archgen.supernets.mixture import MixtureSupernet
from archgen.supernets.training.base import TRAINING_STRATEGIES, Batch, Plan, TrainingStrategy, ranged

MEMORY = 0.5
"""Weight of an epoch's losses in the next; so the assignment follows the weights that change."""


@TRAINING_STRATEGIES.register("balanced_mixture")
class BalancedMixture(TrainingStrategy):
    r"""Uniform single paths, each trained in the set of weights that its group is assigned to; a share `explore` of
    the steps in another one.

    After each epoch groups are assigned anew, to where their losses are least in sum, each set with as many groups as
    any other (give or take one that is left over): without the balance the set that is ahead would take them all.

    The idea is that of the paper: sets of weights, to which configurations are associated automatically and evenly, so
    that those that harm each other share nothing. The rules here are ours: there the configurations are 36 places of
    pooling layers, each its own group; here spaces have millions, so that a group is what agrees in some variables
    (`MixtureSupernet`), and assignments are the optimal ones of linear assignment, by losses in training.

    Args:
        explore: Share of the steps in which the path is trained in a set drawn uniformly, in (0, 1].
        label_smoothing: Of the cross-entropy, in [0, 1).

    Raises:
        InvalidOption: A number out of its range.
    """

    def __init__(self, explore: float = 0.2, label_smoothing: float = 0.0) -> None:
        if not 0 < explore <= 1:
            raise InvalidOption(f"expected explore in (0, 1], got {explore}")
        self.explore = explore
        self.label_smoothing = ranged("label_smoothing", label_smoothing, 0, 1)

    def prepare(self, supernet: Supernet, plan: Plan) -> None:
        """As in the base.

        Raises:
            InvalidSpace: The supernet has one set of weights only.
        """
        super().prepare(supernet, plan)
        if not isinstance(supernet, MixtureSupernet):
            raise InvalidSpace("'balanced_mixture' trains several sets of weights, got one; give --mixture 2 or more")
        shape = (supernet.groups, len(supernet.parts))
        self._sum, self._count = torch.zeros(shape).double(), torch.zeros(shape).double()
        self._steps = torch.zeros((), dtype=torch.long)

    def step(self, supernet: Supernet, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        assert isinstance(supernet, MixtureSupernet)
        x, y = batch
        (arch,) = supernet.space.sample(1, rng)
        curious = rng.random() < self.explore
        place = int(rng.integers(len(supernet.parts))) if curious else supernet.place(arch)
        path = supernet(x, arch, place)
        losses = F.cross_entropy(path, y, label_smoothing=self.label_smoothing, reduction="none")
        loss = self.descend(losses)
        at = supernet.group(arch), place
        self._sum[at] += loss
        self._count[at] += 1
        self._steps += 1
        if int(self._steps) % self.plan.steps == 0:
            supernet.assignment.copy_(balanced_assignment(self._sum.numpy(), self._count.numpy()))
            self._sum *= MEMORY
            self._count *= MEMORY
        return {"loss": loss}

    def state(self) -> dict[str, Tensor]:
        return {"sum": self._sum, "count": self._count, "steps": self._steps}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._sum, self._count, self._steps = (state[name].clone() for name in ("sum", "count", "steps"))


def balanced_assignment(
    total: Float[NDArray[np.float64], "g m"], count: Float[NDArray[np.float64], "g m"]
) -> Int[Tensor, " g"]:
    """The set of each group such that the sum of mean losses is least and numbers of groups differ by one at most.

    What was never tried counts as what the set, and the group, lose on average.

    Args:
        total: Sum of the losses of each group in each set.
        count: How many there were.
    """
    groups, parts = total.shape
    overall = total.sum() / max(count.sum(), 1e-12)
    usual = _mean(total.sum(0), count.sum(0), overall)[None] + _mean(total.sum(1), count.sum(1), overall)[:, None]
    cost = np.where(count > 0, total / np.maximum(count, 1e-12), usual - overall)
    places = -(-groups // parts)
    free = np.full((places * parts - groups, parts, places), np.inf)
    free[:, :, -1] = 0.0  # what takes the places that stay free: the last ones of different sets
    filled = np.concatenate([np.repeat(cost, places, axis=1), free.reshape(len(free), parts * places)])
    _, columns = linear_sum_assignment(filled)
    return torch.from_numpy(columns[:groups] // places)


def _mean(
    total: Float[NDArray[np.float64], " n"], count: Float[NDArray[np.float64], " n"], otherwise: float
) -> Float[NDArray[np.float64], " n"]:
    mean: NDArray[np.float64] = np.where(count > 0, total / np.maximum(count, 1e-12), otherwise)
    return mean
