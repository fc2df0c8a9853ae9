"""Fine-tuning of a network that starts from a supernet's weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from archgen.artifacts import remove_unfinished
from archgen.data import ImageData
from archgen.design.plan import epoch_seconds
from archgen.graph import Architecture
from archgen.inheritance import CALIBRATION
from archgen.predictors.counts import Count
from archgen.run_folder import RunFolder
from archgen.spaces import SearchSpace
from archgen.study import Trial
from archgen.supernets import Supernet, calibrated
from archgen.supernets.training import Schedule, accuracy, train_network

if TYPE_CHECKING:
    from archgen.design.pipeline import Design

FINETUNE_LR = 0.2
"""Peak learning rate: inherited weights are a compromise, so their basin has to be left."""
KEPT, SUFFIX = "finetuning", ".safetensors"
"""Of the files that keep how far the trainings are until the run is finished."""
LEAD = 10.0
"""Points on the validation part by which a teacher must be ahead.

Fine-tuning alone gains about as much, and a teacher that its student overtakes costs accuracy, up to several points
(`experiments/finetune_distillation.py`, `experiments/finetune_start.py`), and the time of its own steps.
"""
OnEpoch = Callable[[int, dict[str, float]], None]
"""Is told the number of an epoch and its losses."""


def inherit(design: Design, supernet: Supernet, arch: Architecture) -> nn.Module:
    """The network of an architecture with the inherited weights and the statistics of training images."""
    return calibrated(supernet, arch, design.data.train.images[:CALIBRATION])


def largest(space: SearchSpace, arguments: dict[str, int]) -> Architecture:
    """The largest architecture of a space with an order, else that of the most FLOPs of a thousand."""
    if space.extremes is not None:
        return space.extremes[1]
    drawn = space.sample(1000, np.random.default_rng(0))
    return drawn[int(Count(space, "flops", arguments).predict(drawn).mean.argmax())]


@dataclass(frozen=True)
class Tuning:
    """A network that is to be fine-tuned, with a teacher or without.

    Args:
        network: Stand-alone, with inherited weights; training changes it.
        teacher: For the same images, or None.
        before: Accuracy of the network on the validation part, percent.
        seed: Of the training.
        kept: Path of the file that keeps how far the training is, but for its ending, which tells the epochs; None
            keeps nothing.
    """

    network: nn.Module
    teacher: nn.Module | None
    before: float
    seed: int
    kept: Path | None = None

    def affordable(self, data: ImageData, epochs: int, seconds: float) -> int:
        """`epochs`, or as many of them, at least one, as `seconds` are expected to allow; of a begun training its."""
        if self.kept is not None and (begun := [*self.kept.parent.glob(f"{self.kept.name}-*{SUFFIX}")]):
            return int(begun[0].name.removesuffix(SUFFIX).rpartition("-")[2])
        if seconds == float("inf"):
            return epochs
        return max(1, min(epochs, int(seconds / epoch_seconds(self.network, data, self.teacher))))

    def run(self, data: ImageData, epochs: int, on_epoch: OnEpoch | None = None) -> float:
        """Train the network, or go on with that, and its accuracy on the validation part in percent.

        Training can lose, too: the inherited weights are kept when the trained ones are worse by more than two standard
        errors. Not by less: the winner was chosen for its inherited accuracy on just these images, so that figure
        flatters it, and the trained one is not flattered.

        Raises:
            ArchgenError: The loss became NaN or infinite.
        """
        inherited = {name: value.clone() for name, value in self.network.state_dict().items()}
        schedule = Schedule(epochs=epochs, lr=FINETUNE_LR)
        file = None if self.kept is None else self.kept.with_name(f"{self.kept.name}-{epochs}{SUFFIX}")
        train_network(
            self.network,
            data,
            schedule,
            seed=self.seed,
            checkpoint=file,
            on_epoch=on_epoch,
            teacher=self.teacher,
        )
        after = _validated(self.network, data)
        if after < self.before - _margin(self.before, data):
            self.network.load_state_dict(inherited)
            return self.before
        return after


def prepare(design: Design, supernet: Supernet, trial: Trial) -> Tuning:
    """The network of a trial with the inherited weights.

    The largest architecture with its inherited weights is the teacher, where it leads by more than `LEAD`.
    """
    data = design.data
    network = inherit(design, supernet, trial.arch)
    teacher = inherit(design, supernet, largest(design.space, design.network))
    before = _validated(network, data)
    leads = _validated(teacher, data) > before + LEAD
    kept = design.folder.file(f"{KEPT}-{trial.number}")
    return Tuning(network, teacher if leads else None, before, design.request.seed, kept)


def finetune(
    design: Design, supernet: Supernet, trial: Trial, epochs: int, seconds: float = float("inf")
) -> tuple[nn.Module, float]:
    """A stand-alone network that starts from the inherited weights, and its validation accuracy in percent.

    It is trained for `epochs`, or as many of them as `seconds` allow.
    """
    tuning = prepare(design, supernet, trial)
    epochs = tuning.affordable(design.data, epochs, seconds)
    with design.progress.bar("fine-tuning", epochs) as bar:

        def show(epoch: int, losses: dict[str, float]) -> None:
            bar.update(1, **losses)
            design.folder.book()

        after = tuning.run(design.data, epochs, show)
    return tuning.network, after


def forget(folder: RunFolder) -> None:
    """Remove what kept how far trainings are, and what a process of theirs was writing when it was ended."""
    remove_unfinished(folder.path)
    for path in folder.path.glob(f"{KEPT}-*{SUFFIX}"):
        path.unlink()


def _validated(network: nn.Module, data: ImageData) -> float:
    return accuracy(network, data.validation.images, data.validation.labels)[0]


def _margin(percent: float, data: ImageData) -> float:
    """Two standard errors of an accuracy on the validation part, in points."""
    share = percent / 100.0
    return 200.0 * float(np.sqrt(max(share * (1 - share), 1e-9) / len(data.validation)))
