"""BANANAS (Bayesian Optimization with Neural Architectures for Neural Architecture Search, arXiv 1910.11858)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from archgen.encoders import PathEncoder
from archgen.errors import InvalidObjective
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.pareto import Floats
from archgen.predictors.normal_scores import NormalScores
from archgen.spaces import SearchSpace
from archgen.strategies.base import STRATEGIES, Screen, SearchStrategy
from archgen.study import Trial

LAYERS, WIDTH = 10, 20
RATE, BETAS = 0.01, (0.9, 0.99)
BATCH, EPOCHS = 32, 150
STEPS = 150
"""Most steps of a fit: the networks are fitted anew at every `ask`, not after every ten evaluations."""


@STRATEGIES.register("bananas")
class Bananas(SearchStrategy):
    r"""An ensemble of neural predictors on path encodings, independent Thompson sampling, mutation of the best.

    Algorithm 1: after `initial` random architectures, an ensemble of `members` networks is fitted to all that was told
    (10 layers of 20, Adam, mean absolute error, as in the published code); `candidates` mutations of the `mutated` best
    trials are ranked by independent Thompson sampling, a draw from :math:`N(\hat f(a), \hat\sigma(a)^2)` of the
    ensemble's mean and standard deviation for each, and the first of the ranking are asked for.

    Against the paper: paths are those of the simplified architecture (`PathEncoder`), and a space with too many of them
    for a path encoding gives all of that encoder's features; targets are normal scores of ranks; a network is
    fitted in at most 150 steps. Bounds, of which the paper has none, get ensembles of their own, and what is drawn for
    a candidate is compared like a trial: the violation of the bounds first.

    Args:
        initial: Random architectures before the first fit, at least 2.
        candidates: Mutations that are ranked, c in the paper.
        mutated: Trials that are mutated, x in the paper.
        members: Networks, M in the paper, at least 2.
        space, objectives, seed, screen, key: As in `SearchStrategy`.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int = 0,
        screen: Screen | None = None,
        key: Callable[[Architecture], Hashable] | None = None,
        initial: int = 10,
        candidates: int = 100,
        mutated: int = 10,
        members: int = 5,
    ) -> None:
        super().__init__(space, objectives, seed=seed, screen=screen, key=key)
        if initial < 2 or members < 2 or not 1 <= mutated <= candidates:
            raise InvalidObjective(
                "expected initial and members of at least 2 and 1 <= mutated <= candidates, got "
                f"{initial}, {members}, {mutated} and {candidates}"
            )
        self.initial, self.candidates, self.mutated, self.members = initial, candidates, mutated, members
        self.encoder = PathEncoder(space)

    def ask(self, n: int) -> list[Architecture]:
        rng = self.rng()
        told = self.usable
        if len(told) < self.initial:
            return self.fresh(self.opening(n, self.initial), lambda m: self.space.sample(m, rng), rng)
        ranking = self._thompson(self._mutations(told, n, rng), told, rng)
        return self.fresh(n, lambda m: ranking, rng)

    def _mutations(self, told: Sequence[Trial], n: int, rng: np.random.Generator) -> list[Architecture]:
        """New architectures, at least `n` where that many are near; the best trials are mutated in turn."""
        best = [trial.arch for trial in sorted(told, key=self.merit, reverse=True)[: self.mutated]]
        wanted = min(max(self.candidates, n), self.space.size)
        mutants = (self.space.mutate(best[i % len(best)], rng) for i in range(4 * wanted))
        return list(itertools.islice(self.unseen(mutants), wanted))

    def _thompson(
        self, archs: Sequence[Architecture], told: Sequence[Trial], rng: np.random.Generator
    ) -> list[Architecture]:
        """Candidates by one independent draw of each metric, best first."""
        if not archs:
            return []
        metrics = list(dict.fromkeys(wish.metric for wish in (self.objective, *self.bounds)))
        normal = [NormalScores(np.array([trial.values[metric] for trial in told])) for metric in metrics]
        rows = self.features([trial.arch for trial in told])
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        targets = torch.from_numpy(np.stack([scale.scores for scale in normal])).float()
        predicted = predict_ensemble(rows, targets, self.features(archs), members=self.members, generator=noise)
        drawn = rng.normal(predicted.mean(1), predicted.std(1))
        return self.ranked(archs, {m: scale.values(z) for m, scale, z in zip(metrics, normal, drawn, strict=True)})

    def features(self, archs: Sequence[Architecture]) -> Tensor:
        """Which paths each architecture has, `b x paths`; all features of the encoder where it has no paths."""
        rows, blocks = self.encoder(archs).float(), self.encoder.blocks
        return (rows[:, -blocks["paths"] :] > 0).float() if "paths" in blocks else rows


def predict_ensemble(
    rows: Tensor, targets: Tensor, others: Tensor, *, members: int, generator: torch.Generator
) -> Floats:
    """Fit networks to each of `k` targets, all at once, and predict with each.

    Args:
        rows: Features, `n x d`.
        targets: `k x n`.
        others: Features, `b x d`.
        members: Networks for each target; they differ in their start and in the order of their batches.
        generator: Source of randomness.

    Returns:
        `k x members x b`.
    """
    k, n = targets.shape
    copies = k * members
    widths = [rows.shape[1], *[WIDTH] * LAYERS, 1]
    layers = [_layer(copies, a, b, generator) for a, b in itertools.pairwise(widths)]
    optimizer = torch.optim.Adam([p for layer in layers for p in layer], lr=RATE, betas=BETAS, fused=True)
    wanted = targets.repeat_interleave(members, 0)
    batches = math.ceil(n / BATCH)
    for _ in range(min(EPOCHS, math.ceil(STEPS / batches))):
        order = torch.rand(copies, n, generator=generator).argsort(1)
        for chosen in torch.split(order, math.ceil(n / batches), 1):
            loss = (_forward(layers, rows[chosen]) - wanted.gather(1, chosen)).abs().mean(1).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        found = _forward(layers, others.expand(copies, *others.shape))
    return np.asarray(found.view(k, members, len(others)).double().numpy())


def _layer(copies: int, inputs: int, outputs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Weights by Glorot's uniform rule and biases of zero."""
    limit = math.sqrt(6 / (inputs + outputs))
    weight = (2 * torch.rand(copies, inputs, outputs, generator=generator) - 1) * limit
    return weight.requires_grad_(), torch.zeros(copies, 1, outputs, requires_grad=True)


def _forward(layers: Sequence[tuple[Tensor, Tensor]], x: Tensor) -> Tensor:
    """Outputs, `copies x b`, of inputs `copies x b x d`."""
    for weight, bias in layers[:-1]:
        x = F.relu(torch.baddbmm(bias, x, weight))
    weight, bias = layers[-1]
    return torch.baddbmm(bias, x, weight)[..., 0]
