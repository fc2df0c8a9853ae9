"""ProxylessNAS: one path is trained, two are compared, and latency is a part of the loss (arXiv 1812.00332)."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from archgen.errors import InvalidOption
from archgen.supernets.base import Supernet
from archgen.supernets.relaxed import RelaxedSupernet, Weights, relaxed_supernet
from archgen.supernets.training.base import TRAINING_STRATEGIES, Batch, Plan, ranged
from archgen.supernets.training.differentiable import DifferentiableSearch
from archgen.supernets.training.latencies import expected_latency, read_latencies

TINY = 1e-12
"""Least probability that an operation is drawn by."""


@TRAINING_STRATEGIES.register("proxyless")
class Proxyless(DifferentiableSearch):
    r"""Binary gates: the weights are trained on one operation an edge, drawn by its probability.

    An update of the architecture draws two operations of each edge without replacement, and by the softmax of these
    two the one that is active, with a gate of 1; the other's gate is 0, and it is computed for its gradient alone. The
    two architecture parameters descend (section 3.2.1)

    .. math::

        \frac{\partial L}{\partial \alpha_i} \approx \sum_j \frac{\partial L}{\partial g_j} p_j (\delta_{ij} - p_i)

    and are then moved together so that the sum of their exponentials, and with it the probabilities of all other
    operations, stays. With target `T` and strength :math:`\lambda` the loss is one of the published code's two,

    .. math:: L_{CE} + \lambda (E - T) / T \qquad \text{or} \qquad L_{CE} \, (\ln E / \ln T)^\lambda ,

    where `E` is the latency of the network, in expectation over the two drawn operations of each edge, as in that
    code's mode `two`; the paper adds :math:`\lambda E`.

    Against that code: the architecture is updated in each step once the warm-up is over, there in every fifth; an
    active zero operation is no exception, there its edge is left as it is; and the constant that multiplies the second
    loss is left out, since Adam does not see it. The reinforcement learning of the paper is left out. In a space of
    genotypes a node reads one operation on each of its edges, since which two it keeps is settled at the end; in a
    chain, labels share weights as its supernet has them.

    Args:
        alpha_lr: Learning rate of the architecture parameters' Adam, at least 0, whose first decay is 0: what is not
            drawn stays.
        warm_up: Share of the epochs, in [0, 1), in which weights alone are trained, never all of them; 40 of 160 in the
            paper's code.
        latency: File with the latency of each operation (`read_latencies`); their FLOPs, by the space's counts, where
            empty.
        rest: Latency of what is not searched, at least 0, in the unit of the file; FLOPs have their own.
        combine: How the latency enters the loss, `add` or `multiply`; the second needs latencies above 1.
        strength: Of the latency, at least 0; the published code adds with 0.1 and multiplies with 0.3.
        target: Latency in the unit of the file that is aimed at; that of equally probable operations where None.
        label_smoothing: Of the weights' cross-entropy, in [0, 1).

    Raises:
        InvalidOption: A number out of its range.
    """

    name, betas = "proxyless", (0.0, 0.999)

    def __init__(
        self,
        alpha_lr: float = 1e-3,
        warm_up: float = 0.25,
        latency: str = "",
        rest: float = 0.0,
        combine: Literal["add", "multiply"] = "add",
        strength: float = 0.1,
        target: float | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        if not 0 <= warm_up < 1 or strength < 0:
            raise InvalidOption(f"expected 0 <= warm_up < 1 and strength from 0, got {warm_up:g} and {strength:g}")
        super().__init__(alpha_lr, 0.0, label_smoothing)
        self.warm_up, self.latency, self.combine = warm_up, latency, combine
        self.rest = ranged("rest", rest, 0)
        self.strength, self.target = strength, target

    def prepare(self, supernet: Supernet, plan: Plan) -> None:
        """As in the base.

        Raises:
            InvalidSpace: The supernet can not mix operations.
            InvalidOption: A file of latencies that can not be used, or a target that no latency can be compared with.
        """
        super().prepare(supernet, plan)
        relaxed = relaxed_supernet(supernet, self.name)
        if self.latency:
            found, self._rest = read_latencies(Path(self.latency), relaxed.edges), self.rest
        else:
            found, self._rest = relaxed.flops()
        self.latencies = {edge: torch.tensor(values).to(self.alphas.values) for edge, values in found.items()}
        least, mean = (self._rest + sum(map(of, found.values())) for of in (min, fmean))
        self.aim = mean if self.target is None else self.target
        """The target."""
        if self.strength > 0 and self.combine == "multiply" and not (self.aim > 1 and least > 1):
            raise InvalidOption(
                f"combine=multiply takes logarithms, so it needs latencies above 1, got a target of {self.aim:g} and "
                f"{least:g} for the fastest; give them in a smaller unit, or add"
            )
        if self.strength > 0 and not self.aim > 0:
            raise InvalidOption(f"expected a target above 0, got {self.aim:g}; give target, or strength=0")

    @property
    def searching(self) -> bool:
        alone = min(round(self.warm_up * self.plan.epochs), self.plan.epochs - 1)
        return int(self.halves.steps) >= alone * self.plan.steps

    def path(self, rng: np.random.Generator) -> Weights:
        chosen: dict[str, dict[str, float]] = {}
        for edge, p in self.alphas.scores().items():
            chosen[edge] = {self.alphas.edges[edge][_drawn(p, 1, rng)[0]]: 1.0}
        return chosen

    def update(self, supernet: RelaxedSupernet, batch: Batch, rng: np.random.Generator) -> float:
        pairs = {edge: _drawn(p, 2, rng) for edge, p in self.alphas.scores().items()}
        two = {edge: alpha[pairs[edge]] for edge, alpha in self.alphas.by_edge().items()}
        p = {edge: alpha.softmax(-1) for edge, alpha in two.items()}
        gates = {}
        for edge, own in p.items():
            active = _drawn(own.tolist(), 1, rng)[0]
            gates[edge] = F.one_hot(torch.tensor(active), len(own)).to(own).requires_grad_()
        x, y = batch
        loss = self._loss(F.cross_entropy(supernet.mixed(x, self._named(gates, pairs)), y), p, pairs)
        return self._descend(loss, p, gates, pairs)

    def _named(self, gates: dict[str, Tensor], pairs: dict[str, list[int]]) -> Weights:
        weights = {}
        for edge, own in gates.items():
            names = [self.alphas.edges[edge][i] for i in pairs[edge]]
            weights[edge] = dict(zip(names, own.unbind(), strict=True))
        return weights

    def _loss(
        self, cross_entropy: Float[Tensor, ""], p: dict[str, Float[Tensor, " 2"]], pairs: dict[str, list[int]]
    ) -> Float[Tensor, ""]:
        if self.strength == 0:
            return cross_entropy
        drawn = {edge: self.latencies[edge][pair] for edge, pair in pairs.items()}
        expected = self._rest + expected_latency(p, drawn)
        if self.combine == "add":
            return cross_entropy + self.strength * (expected - self.aim) / self.aim
        return cross_entropy * (expected.log() / math.log(self.aim)) ** self.strength

    def _descend(
        self,
        loss: Float[Tensor, ""],
        p: dict[str, Float[Tensor, " 2"]],
        gates: dict[str, Float[Tensor, " 2"]],
        pairs: dict[str, list[int]],
    ) -> float:
        """One step of Adam, after which the two parameters of each edge have the sum of exponentials that they had."""
        of_latency, *of_gates = torch.autograd.grad(loss, [self.alphas.values, *gates.values()], allow_unused=True)
        gradient = torch.zeros_like(self.alphas.values.data) if of_latency is None else of_latency
        parts = self.alphas.split(gradient)
        for (edge, own), of_gate in zip(p.items(), of_gates, strict=True):
            if of_gate is not None:  # else both are zero operations
                parts[edge][pairs[edge]] += gate_gradient(own.detach(), of_gate)
        alphas = self.alphas.split(self.alphas.values.detach())
        before = {edge: alpha[pairs[edge]].logsumexp(-1) for edge, alpha in alphas.items()}
        self.alphas.descend(gradient)
        for edge, alpha in alphas.items():
            alpha[pairs[edge]] -= alpha[pairs[edge]].logsumexp(-1) - before[edge]
        return float(loss.detach())


def gate_gradient(p: Float[Tensor, " k"], of_gates: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    r"""Gradient by the architecture parameters from that by the gates (section 3.2.1 of ProxylessNAS).

    :math:`\sum_j \frac{\partial L}{\partial g_j} p_j (\delta_{ij} - p_i) = p_i (\frac{\partial L}{\partial g_i} -
    \sum_j p_j \frac{\partial L}{\partial g_j})`

    Args:
        p: Softmax of the `k` parameters.
        of_gates: Gradient by the gate of each.
    """
    return p * (of_gates - p @ of_gates)


def _drawn(p: list[float], count: int, rng: np.random.Generator) -> list[int]:
    """Positions of `count` different operations, or of all where there are fewer, by their probabilities."""
    weights = np.maximum(p, TINY)
    drawn: list[int] = rng.choice(len(p), min(count, len(p)), replace=False, p=weights / weights.sum()).tolist()
    return drawn
