"""Free labels: zero-cost proxies of any architecture of a space, learnt from a sample on which they were computed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from archgen import artifacts
from archgen.artifacts import Checkpoint
from archgen.config import checkpoints_dir
from archgen.encoders.paths import PathEncoder
from archgen.encoders.side_by_side import SideBySideLinear
from archgen.errors import ArchgenError, InvalidCheckpoint
from archgen.graph import Architecture
from archgen.predictors.base import Floats
from archgen.predictors.normal_scores import NormalScores
from archgen.row_memory import REMEMBERED, RowMemory
from archgen.spaces import SearchSpace

LEARNABLE = 0.8
"""Least rank correlation with unseen values; what can not be told from the architecture is noise of the weights."""
STEPS, BATCH = 4000, 256
LEARNING_RATE, DECAY = 2e-3, 1e-3
PREFIX = "free_labels."


class FreeLabels:
    """Predicts zero-cost proxies, so that they can be features of architectures whose network is never built.

    Computing the proxies of a network takes seconds; a sampler asks for thousands a second. A small ensemble of
    perceptrons over path features is regressed on the normal scores of each proxy's ranks. Proxies are a function of
    the architecture up to the draw of the weights, so a thousand of them suffice, and those that hang on the draw
    alone are left out. No measured accuracy is ever seen.

    Args:
        space: A space that `PathEncoder` takes.
        width: Width of the two hidden layers.
        members: Perceptrons that are averaged.

    Example:
        >>> import numpy as np
        >>> from archgen import spaces
        >>> space = spaces.load("nasbench201")
        >>> archs = space.sample(60, np.random.default_rng(0))
        >>> flops = [space.count(space.simplify(arch))["flops"] for arch in archs]
        >>> labels = FreeLabels(space, width=32, members=1).fit(archs, {"flops": flops}, steps=200)
        >>> labels.names, labels(archs).shape
        (('flops',), (60, 1))
    """

    def __init__(self, space: SearchSpace, width: int = 160, members: int = 3) -> None:
        self.space, self.width, self.members = space, width, members
        self.encoder = PathEncoder(space)
        self.names: tuple[str, ...] = ()
        """The proxies that it predicts."""
        self.figures: dict[str, float] = {}
        """Spearman's correlation of each proxy given to `fit` with values that were held out."""
        self._set_network(None)

    def fit(
        self,
        archs: Sequence[Architecture],
        values: Mapping[str, Sequence[float] | Floats],
        *,
        steps: int = STEPS,
        seed: int = 0,
    ) -> FreeLabels:
        """Learn from `b` architectures; a tenth is held out first, to find which proxies can be learnt.

        Args:
            archs: `b` architectures, at least 20.
            values: `b` values of each proxy; NaN, a network that has none, ranks below all others.
            steps: Optimiser steps of AdamW, each on 256 architectures.
            seed: Of the weights, the batches and the part that is held out.

        Raises:
            ArchgenError: Too few architectures, or none of the proxies can be learnt.
        """
        if len(archs) < 20:
            raise ArchgenError(f"expected at least 20 architectures with their proxies, got {len(archs)}")
        x = self.encoder(archs).float()
        scores = np.stack(
            [NormalScores(np.nan_to_num(np.asarray(v, float), nan=-1e300)).scores for v in values.values()], 1
        )
        y = torch.from_numpy(scores).float()
        order = np.random.default_rng(seed).permutation(len(archs))
        held, kept = order[: len(order) // 10], order[len(order) // 10 :]
        trial = self._train(x[kept], y[kept], steps, seed)
        with torch.no_grad():
            guessed = trial(x[held]).numpy()
        self.figures = {name: _agreement(guessed[:, i], scores[held, i]) for i, name in enumerate(values)}
        columns = [i for i, rho in enumerate(self.figures.values()) if rho >= LEARNABLE]
        if not columns:
            found = ", ".join(f"{name} {rho:.2f}" for name, rho in self.figures.items())
            raise ArchgenError(f"no proxy can be learnt (rank correlation with unseen values: {found}); compute more")
        self.names = tuple(name for i, name in enumerate(values) if i in columns)
        self._set_network(self._train(x, y[:, columns], steps, seed))
        return self

    def _set_network(self, network: nn.Module | None) -> None:
        self._network, self._memory = network, RowMemory(self._predict, len(self.names), chunk=REMEMBERED)

    def _train(self, x: Tensor, y: Tensor, steps: int, seed: int) -> nn.Module:
        network = self._build(y.shape[1])
        network.draw(torch.Generator().manual_seed(seed))
        network.standardise(x)
        generator = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            rows = torch.randint(len(x), (min(BATCH, len(x)),), generator=generator)
            loss = (network.each(x[rows]) - y[rows]).square().mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        return network.eval()

    def _build(self, outputs: int) -> _Perceptrons:
        with torch.random.fork_rng(devices=[]):  # the layers draw weights that are not used
            return _Perceptrons(sum(self.encoder.blocks.values()), self.width, outputs, self.members)

    def __call__(self, archs: Sequence[Architecture]) -> Floats:
        """Normal scores of `len(names)` proxies for each of `b` architectures, `b x p`.

        Raises:
            ArchgenError: Not fitted.
        """
        if self._network is None:
            raise ArchgenError("the free labels have seen no proxies yet; call fit first")
        return self._memory(archs)

    @torch.no_grad()
    def _predict(self, archs: Sequence[Architecture]) -> Floats:
        assert self._network is not None
        out: Floats = self._network(self.encoder(archs).float()).double().numpy()
        return out

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Config (JSON types) and tensors of a checkpoint."""
        assert self._network is not None
        config: dict[str, Any] = {
            "names": list(self.names),
            "width": self.width,
            "members": self.members,
            "figures": self.figures,
        }
        return config, dict(self._network.state_dict())

    @classmethod
    def restore(cls, space: SearchSpace, config: dict[str, Any], tensors: dict[str, Tensor]) -> FreeLabels:
        """The fitted free labels of a `state`."""
        self = cls(space, config["width"], config["members"])
        self.names, self.figures = tuple(config["names"]), dict(config["figures"])
        network = self._build(len(self.names)).eval()
        network.load_state_dict(tensors)
        self._set_network(network)
        return self


class _Perceptrons(nn.Module):
    """An ensemble of perceptrons with two hidden layers and standardised inputs, computed as one."""

    mean: Tensor
    scale: Tensor

    def __init__(self, inputs: int, width: int, outputs: int, members: int) -> None:
        super().__init__()
        sizes = [inputs, width, width, outputs]
        layers = [SideBySideLinear(members, i, o) for i, o in itertools.pairwise(sizes)]
        self.layers: Sequence[SideBySideLinear] = nn.ModuleList(layers)  # type: ignore[assignment]
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))

    def draw(self, generator: torch.Generator) -> None:
        """Normal weights of variance one over the inputs, no bias: an output is then of order 1, as its targets are."""
        with torch.no_grad():
            for layer in self.layers:
                weight = layer.weight
                weight.copy_(torch.randn(weight.shape, generator=generator) * weight.shape[1] ** -0.5)
                layer.bias.zero_()

    def standardise(self, x: Tensor) -> None:
        """Centre and scale the inputs as those of `x`, `b x d`; a constant feature is left out."""
        deviation = x.std(0, correction=0)
        self.mean.copy_(x.mean(0))
        self.scale.copy_(torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), 0.0))

    def each(self, x: Tensor) -> Tensor:
        """What each member says, `members x b x p`."""
        h = ((x - self.mean) * self.scale).expand(len(self.layers[0].weight), *x.shape)
        for i, layer in enumerate(self.layers):
            h = layer(nn.functional.gelu(h) if i else h)
        return h

    def forward(self, x: Tensor) -> Tensor:
        return self.each(x).mean(0)


def join_free_labels(
    labels: FreeLabels | None, config: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a predictor's checkpoint with those of its free labels, if it has any."""
    if labels is None:
        return config, tensors
    own, weights = labels.state()
    return {**config, "free_labels": own}, {**tensors, **{f"{PREFIX}{name}": w for name, w in weights.items()}}


def split_free_labels(space: SearchSpace, config: dict[str, Any], tensors: dict[str, Tensor]) -> FreeLabels | None:
    """The free labels of a predictor's checkpoint that `join_free_labels` made; None where it has none."""
    if "free_labels" not in config:
        return None
    own = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    return FreeLabels.restore(space, config["free_labels"], own)


def drop_free_labels(config: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a predictor's checkpoint without its free labels, which another checkpoint holds."""
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIX)}
    return {key: value for key, value in config.items() if key != "free_labels"}, kept


def _agreement(a: Floats, b: Floats) -> float:
    return float(spearmanr(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0


def save_free_labels(labels: FreeLabels, folder: Path, card: str) -> None:
    """Write fitted free labels to a checkpoint folder with their card."""
    config, tensors = labels.state()
    checkpoint = Checkpoint("free_labels", "perceptrons", {"space": labels.space.name, **config}, tensors)
    artifacts.save_checkpoint(folder, checkpoint, card)


def load_free_labels(folder: Path, space: SearchSpace) -> FreeLabels:
    """Free labels from their checkpoint.

    Raises:
        InvalidCheckpoint: None there, for another space, or a truncated one.
    """
    checkpoint = artifacts.load_checkpoint(folder, "free_labels")
    config = dict(checkpoint.config)
    origin = config.pop("space", None)
    if origin != space.name:
        raise InvalidCheckpoint(f"{folder} has the free labels of space '{origin}', expected '{space.name}'")
    try:
        return FreeLabels.restore(space, config, checkpoint.tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InvalidCheckpoint(f"{folder} is not a whole checkpoint of free labels ({error!r})") from None


def pretrained_free_labels(space: SearchSpace) -> FreeLabels | None:
    """The free labels of the checkpoints for a space, or None where there are none."""
    folder = checkpoints_dir() / "free_labels" / space.name
    return load_free_labels(folder, space) if folder.is_dir() else None
