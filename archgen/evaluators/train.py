"""Train an architecture and look how good it is: the dearest truth, and the only one that needs nothing else."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from archgen import artifacts
from archgen.data import ImageData, Split
from archgen.errors import ArchgenError, InvalidData, InvalidOption, UnknownName
from archgen.evaluators.base import Evaluator, Measurement, checked, failure
from archgen.graph import Architecture
from archgen.spaces import SearchSpace
from archgen.supernets.training import Schedule, accuracy, train_network

Weights = dict[str, Tensor]


class TrainEvaluator(Evaluator):
    """Top-1 accuracy and cross-entropy on the validation images after training `space.build(arch)`.

    Weights are drawn, and images shuffled and augmented, by the seed of the evaluation: same seed, same figures.

    With `transfer`, training starts from the weights of the nearest architecture that was trained before, as BOSHNAS
    does (FlexiBERT, arXiv 2205.11656, after the published code, where the threshold is 0.8): the nearest is the one
    with the largest overlap, the share of the space's variables that have the same value in both simplified
    architectures. From there each tensor is copied whose name and shape are those of the new network's; all else is
    drawn afresh. The paper counts an overlap from the first layer on; here each variable counts, wherever it is. The
    figures then depend on what was trained before.

    Args:
        space: Builds networks that read images.
        data: The images; the test part is never looked at.
        schedule: Epochs and learning rate.
        network: Arguments of `space.build`; classes, channels and size of the images are those of `data`.
        transfer: Least overlap in (0, 1] at which weights are transferred; None for never.
        folder: Where the weights that may be transferred are kept, for searches that are resumed or that have several
            processes; None keeps them in memory.
        device: Where to train, as torch names it.

    Raises:
        InvalidData: The networks of the space do not read such images.
        UnknownName: The networks have no such argument.
        InvalidOption: An overlap outside (0, 1].
    """

    def __init__(
        self,
        space: SearchSpace,
        data: ImageData,
        schedule: Schedule,
        *,
        network: dict[str, int] | None = None,
        transfer: float | None = None,
        folder: Path | None = None,
        device: str = "cpu",
    ) -> None:
        if transfer is not None and not 0 < transfer <= 1:
            raise InvalidOption(f"the overlap from which weights are transferred must be in (0, 1], got {transfer}")
        self.space, self.schedule, self.device = space, schedule, torch.device(device)
        self.network = image_network(space, data, network or {})
        self.data = replace(data, train=self._moved(data.train), validation=self._moved(data.validation))
        self.transfer, self.folder = transfer, folder
        self._trained: dict[Architecture, Weights] = {}

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("val_acc", "val_loss")

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        """`val_acc` in percent and `val_loss` in nats; a training that diverges is a failure."""
        return [self._evaluate(arch, seed) for arch in archs]

    def _evaluate(self, arch: Architecture, seed: int) -> Measurement:
        start = time.perf_counter()
        with torch.random.fork_rng():  # initial weights, dropout
            torch.manual_seed(seed)
            network = self.space.build(arch, **self.network).to(self.device)
            near = self._nearest(arch)
            if near is not None:
                inherit(network, self._weights(near))
            try:
                train_network(network, self.data, self.schedule, seed=seed)
            except ArchgenError as error:
                return failure(error, time.perf_counter() - start)
        val_acc, val_loss = accuracy(network, self.data.validation.images, self.data.validation.labels)
        if self.transfer is not None:
            self._keep(arch, {name: value.cpu().clone() for name, value in network.state_dict().items()})
        return checked(Measurement({"val_acc": val_acc, "val_loss": val_loss}, time.perf_counter() - start))

    def _moved(self, part: Split) -> Split:
        return Split(part.images.to(self.device), part.labels.to(self.device))

    # -- transfer -----------------------------------------------------------------------------------------------

    def overlaps(self, arch: Architecture, others: Sequence[Architecture]) -> list[float]:
        """Share of the variables, in [0, 1], whose values an architecture shares with each of the others."""
        rows = self.space.simple_choices([arch, *others])
        shares: list[float] = (rows[1:] == rows[0]).mean(axis=1).tolist()
        return shares

    def _nearest(self, arch: Architecture) -> Architecture | None:
        """The trained architecture to start from; of several the first by its string, so that order does not matter."""
        if self.transfer is None:
            return None
        others = sorted((a for a in self._known() if a != arch), key=self.space.format)
        if not others:
            return None
        shares = self.overlaps(arch, others)
        best = max(range(len(others)), key=shares.__getitem__)
        return others[best] if shares[best] >= self.transfer else None

    def _known(self) -> list[Architecture]:
        if self.folder is None:
            return list(self._trained)
        return [self.space.parse(artifacts.read_json(path)["arch"]) for path in sorted(self.folder.glob("[!.]*.json"))]

    def _weights(self, arch: Architecture) -> Weights:
        return self._trained[arch] if self.folder is None else artifacts.read_tensors(self._file(arch, "safetensors"))

    def _keep(self, arch: Architecture, weights: Weights) -> None:
        if self.folder is None:
            self._trained[arch] = weights
        else:
            artifacts.write_tensors(self._file(arch, "safetensors"), weights)
            artifacts.write_json(self._file(arch, "json"), {"arch": self.space.format(arch)})  # last: now it is known

    def _file(self, arch: Architecture, suffix: str) -> Path:
        assert self.folder is not None
        digest = hashlib.blake2b(self.space.format(arch).encode(), digest_size=12).hexdigest()
        return self.folder / f"{digest}.{suffix}"


def image_network(space: SearchSpace, data: ImageData, network: Mapping[str, int]) -> dict[str, int]:
    """Arguments of `space.build` for images: those given, but classes, channels and size as the images have them.

    Raises:
        InvalidData: The networks of the space do not read such images.
        UnknownName: The networks have no such argument.
        InvalidSpace: An argument is below the least that it may be.
    """
    images = {"classes": len(data.classes), "in_channels": data.in_channels, "image_size": data.image_size}
    known = {name: value for name, value in images.items() if name in space.network_defaults}
    arguments = {**network, **known}
    for name in network:
        if name not in space.network_defaults:
            raise UnknownName("argument of the network", name, space.network_defaults)
    space.count(space.sample(1, np.random.default_rng(0))[0], **arguments)
    shape = (data.in_channels, data.image_size, data.image_size)
    if tuple(space.example_input(1, **arguments).shape[1:]) != shape or "classes" not in known:
        raise InvalidData(f"the networks of {space.name} do not classify images of shape {shape}; use another space")
    return arguments


@torch.no_grad()
def inherit(network: nn.Module, weights: Weights) -> list[str]:
    """Copy each tensor whose name and shape are the same; returns their names."""
    own: dict[str, Any] = network.state_dict()
    shared = [name for name, value in own.items() if name in weights and weights[name].shape == value.shape]
    for name in shared:
        own[name].copy_(weights[name])
    return shared
