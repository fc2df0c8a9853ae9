"""Fine-tuning of a network that starts from a supernet's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from archgen.design.plan import epoch_seconds
from archgen.graph import Architecture
from archgen.inheritance import CALIBRATION
from archgen.predictors.counts import Count
from archgen.spaces import SearchSpace
from archgen.study import Trial
from archgen.supernets import Supernet, recalibrate
from archgen.supernets.training import Schedule, accuracy, train_network

if TYPE_CHECKING:
    from archgen.design.pipeline import Design

FINETUNE_LR = 0.2
"""Peak learning rate: inherited weights are a compromise, so their basin has to be left."""


def inherit(design: Design, supernet: Supernet, arch: Architecture) -> nn.Module:
    """The network of an architecture with the inherited weights and the statistics of training images."""
    return recalibrate(supernet.subnet(arch), [design.data.train.images[:CALIBRATION]])


def largest(space: SearchSpace, arguments: dict[str, int]) -> Architecture:
    """The largest architecture of a space with an order, else that of the most FLOPs of a thousand."""
    if space.extremes is not None:
        return space.extremes[1]
    drawn = space.sample(1000, np.random.default_rng(0))
    return drawn[int(Count(space, "flops", arguments).predict(drawn).mean.argmax())]


def finetune(
    design: Design, supernet: Supernet, trial: Trial, epochs: int, seconds: float = float("inf")
) -> tuple[nn.Module, float]:
    """A stand-alone network that starts from the inherited weights, and its validation accuracy in percent.

    It is trained for `epochs`, or as many of them, at least one, as `seconds` are expected to allow.

    The largest architecture with its inherited weights is the teacher, where it is better than the network by more
    than two standard errors. Where the supernet was trained by single paths it rarely is, and a worse one costs several
    points (`experiments/finetune_distillation.py`).

    Training can lose, too: the inherited weights are kept when the trained ones are worse on the validation part by
    more than two standard errors. Not by less: the winner was chosen for its inherited accuracy on just these
    images, so that figure flatters it, and the trained one is not flattered.
    """
    data, request = design.data, design.request

    def validated(network: nn.Module) -> float:
        return accuracy(network, data.validation.images, data.validation.labels)[0]

    network = inherit(design, supernet, trial.arch)
    inherited = {name: value.clone() for name, value in network.state_dict().items()}
    before = validated(network)
    share = before / 100.0
    margin = 200.0 * float(np.sqrt(max(share * (1 - share), 1e-9) / len(data.validation)))
    largest_one = inherit(design, supernet, largest(design.space, design.network))
    teacher = largest_one if validated(largest_one) > before + margin else None
    if seconds < float("inf"):
        epochs = max(1, min(epochs, int(seconds / epoch_seconds(network, data, teacher))))
    with design.progress.bar("fine-tuning", epochs) as bar:
        train_network(
            network,
            data,
            Schedule(epochs=epochs, lr=FINETUNE_LR),
            seed=request.seed,
            on_epoch=lambda epoch, losses: bar.update(1, **losses),
            teacher=teacher,
        )
    after = validated(network)
    if after < before - margin:
        network.load_state_dict(inherited)
        return network, before
    return network, after
