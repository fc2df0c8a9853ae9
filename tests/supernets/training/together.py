"""Trains what `test_accelerated.py` trains alone, in each of two processes; the argument is a folder for what came out.

At the end the second process fails, and the first one notices.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archgen import artifacts
from archgen.cli.terminal import fail, say
from archgen.data import load_data
from archgen.errors import ArchgenError
from archgen.spaces import CellSpace
from archgen.supernets import make_supernet, mixture
from archgen.supernets.training import TRAINING_STRATEGIES, Batches, Processes, Schedule, Updates, train, train_supernet
from archgen.supernets.training import launched_processes as launched

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 8, "classes": 10, "in_channels": 1, "image_size": 8}
SPACE = CellSpace("ordered", 3, ROLES, NETWORK, ("skip_connect", "nor_conv_3x3"))
EPOCHS = 6


def paths(processes: Processes) -> dict[str, Tensor]:
    """A chain without normalisation, of which each step takes another path, on batches that can not be halved."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.ModuleList([nn.Linear(64, 10), nn.Linear(64, 10), nn.Linear(64, 10)])
    updates = Updates(net, Schedule(3).optimizer(net), processes=processes)
    images = load_data("digits", limit=200).train
    losses = []

    def step(batch: tuple[Tensor, Tensor], rng: np.random.Generator) -> dict[str, float]:
        path = int(rng.integers(2))
        loss = F.cross_entropy(net[path](batch[0].flatten(1)), batch[1])
        updates.backward(loss)
        return {"loss": float(loss.detach())}

    def draw(generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
        return list(zip(images.images.split(13), images.labels.split(13), strict=True))[:9]

    schedule = Schedule(3)
    train(
        net, step, Batches(9, draw), schedule, seed=0, updates=updates, on_epoch=lambda n, x: losses.append(x["loss"])
    )
    return {**net.state_dict(), "losses": torch.tensor(losses)}


def trained(strategy: str) -> Callable[[Processes], dict[str, Tensor]]:
    """A small convolutional supernet, whose batch statistics are those of a process."""

    def run(processes: Processes) -> dict[str, Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = make_supernet(SPACE)
            net = mixture(net, 2) if strategy == "balanced_mixture" else net
        member, losses = TRAINING_STRATEGIES[strategy](), []
        train_supernet(
            net,
            member,
            load_data("digits", limit=250),
            Schedule(EPOCHS),
            seed=0,
            batch=31,
            processes=processes,
            on_epoch=lambda number, mean: losses.append(list(mean.values())),
        )
        learnt = {f"learnt.{name}": value for name, value in member.state().items()}
        return {**net.state_dict(), **learnt, "losses": torch.tensor(losses)}

    return run


def gathered(processes: Processes) -> dict[str, Tensor]:
    """What strategies see: a gradient over the whole batch, values in its order, one that only one process has."""
    net = nn.Linear(1, 1, bias=False)
    other = nn.Linear(1, 1)
    both = nn.ModuleList([net, other])
    updates = Updates(both, Schedule(1).optimizer(both), processes=processes)
    x, y = updates.batch((torch.arange(5.0)[:, None], torch.arange(5)))
    updates.backward((net.weight * x).mean())
    (gradient,) = updates.of(net.parameters())
    values = updates.gather(y)
    if processes.rank == processes.count - 1:
        updates.backward((other.weight * x).mean())
    updates.apply(100.0)
    found = {"gradient": gradient, "values": values, "applied": net.weight.grad, "agree": processes.agree(3)}
    found |= {"disagree": processes.agree(processes.rank), "absent": other.bias.grad is not None}
    return {name: torch.as_tensor(value).detach() for name, value in found.items()}


STRATEGIES = ("sandwich", "pa_da", "multi_architecture", "shiftnas", "balanced_mixture")
WORK = {"paths": paths, "gathered": gathered, **{name: trained(name) for name in STRATEGIES}}

if __name__ == "__main__":
    torch.set_num_threads(1)
    processes = launched()
    say("the first one speaks")
    for name, work in WORK.items():
        artifacts.write_tensors(Path(sys.argv[1]) / f"{name}{processes.rank}.safetensors", work(processes))
    try:
        if processes.rank == 1:
            raise ArchgenError("no more images")
        processes.wait()
    except ArchgenError as error:
        sys.exit(fail(str(error)))
