"""Strict fairness: every value of every variable is trained equally often (FairNAS, arXiv 1907.01845)."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from archgen.graph import Architecture
from archgen.spaces import SearchSpace
from archgen.supernets.base import Supernet
from archgen.supernets.training.base import TRAINING_STRATEGIES, Batch, TrainingStrategy, ranged
from archgen.supernets.training.paths import nearest_architecture


@TRAINING_STRATEGIES.register("fair")
class Fair(TrainingStrategy):
    """Each step trains as many architectures as a variable has values, so that each value is in one (algorithm 1).

    The values of each variable are shuffled; the `k`-th architecture has the `k`-th of each. Gradients of all are
    summed, and the optimiser takes one step, as in the paper. A variable with fewer values than another begins again.
    Where the values of a space exclude each other (blocks beyond a stage's depth), a value that does not fit into its
    architecture is left as a random draw has it: there, fairness holds among the blocks that are there.

    Args:
        label_smoothing: Of the cross-entropy, in [0, 1).

    Raises:
        InvalidOption: A number out of its range.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = ranged("label_smoothing", label_smoothing, 0, 1)

    def step(self, supernet: Supernet, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        x, y = batch
        archs = fair_architectures(supernet.space, rng)
        total = 0.0
        for arch in archs:
            loss = F.cross_entropy(supernet(x, arch), y, label_smoothing=self.label_smoothing)
            self.gradients.backward(loss)
            total += float(loss.detach()) / len(archs)
        return {"loss": total}


def fair_architectures(space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
    """Architectures among which each value of each variable occurs as often as any other, as far as they can."""
    count = max(map(len, space.variables.values()))
    columns = {}
    for name, values in space.variables.items():
        rounds = [rng.permutation(len(values)) for _ in range(-(-count // len(values)))]
        columns[name] = np.concatenate(rounds)[:count].tolist()
    archs = []
    for k in range(count):
        archs.append(nearest_architecture(space, {name: column[k] for name, column in columns.items()}, rng))
    return archs
