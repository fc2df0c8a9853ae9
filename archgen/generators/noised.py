"""Guidance by predictors of noised graphs: their gradients, or the exact ratios of single changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from archgen.generators.base import Guidance
from archgen.generators.noised_predictor import NoisedPredictor
from archgen.generators.variables import FreeVariables
from archgen.graph import GraphBatch

MISSED = 1e-6
"""Weight of what surely misses a bound, so that there is a way back from there."""


@dataclass(frozen=True)
class Tilt:
    """One wish in the scale of normal scores.

    Args:
        metric: Name of the property.
        sign: +1 where larger is better (or must be above the bound), -1 where smaller is.
        strength: Log-weight of one standard deviation, for a direction.
        bound: Normal score of the bound; None for a direction.
    """

    metric: str
    sign: int
    strength: float = 0.0
    bound: float | None = None


LogWeight = Callable[[GraphBatch, Float[Tensor, " b"]], Float[Tensor, " b"]]


class NoisedGuidance(Guidance):
    r"""Steers by :math:`r_t(x) = E[w(x_0) | x_t = x]`, the expected weight of the clean graph.

    With a predicted distribution of a property's normal score `z` it is :math:`\log E[e^{\gamma z}]` for a direction
    and :math:`\log P(z \le b)` for a bound. Since `z` is a normal score, :math:`\gamma` means the same for every
    metric, predictor and space.

    Discrete generators get the ratios of all single changes: exactly, by evaluating every changed graph, where
    there are at most `exact_below` of them; otherwise to first order from one gradient (arXiv 2406.01572, equations 2
    and 5). Generators of real numbers get the gradient (DiffusionNAG, arXiv 2305.16943, equation 9).

    Args:
        log_weight: :math:`\log r_t`, differentiable; see `expected_log_weight`.
        node_domain, edge_domain: Of the space.
        exact_below: Most single changes that are evaluated one by one.
    """

    def __init__(
        self,
        log_weight: LogWeight,
        node_domain: Bool[Tensor, "n k"],
        edge_domain: Bool[Tensor, "n n 2"],
        exact_below: int = 256,
    ) -> None:
        self.log_weight = log_weight
        self.variables = FreeVariables(node_domain, edge_domain)
        self.exact = int(self.variables.domain.sum()) <= exact_below
        self._edges_free = edge_domain.all(-1).triu(1)
        self._nodes_free = (node_domain & (node_domain.sum(-1, keepdim=True) > 1)).float()

    def changes(self, graph: GraphBatch, t: Float[Tensor, " b"]) -> GraphBatch:
        return self._all_changes(graph, t) if self.exact else self._first_order(graph, t)

    def _all_changes(self, graph: GraphBatch, t: Float[Tensor, " b"]) -> GraphBatch:
        """One column a state of each free variable; the graph itself is one of them and gives ratio 0."""
        states = self.variables.states(graph)
        where = self.variables.domain.nonzero()  # c 2: variable, state
        changed = states[:, None].repeat(1, len(where), 1)
        changed[:, torch.arange(len(where)), where[:, 0]] = where[:, 1]
        flat = self.variables.graph(changed.flatten(0, 1))
        values = torch.cat(
            [
                self.log_weight(flat[i : i + 8192], t.repeat_interleave(len(where))[i : i + 8192])
                for i in range(0, len(flat), 8192)
            ]
        ).view(len(graph), -1)
        table = torch.zeros(*states.shape, self.variables.states_each)
        table[:, where[:, 0], where[:, 1]] = values
        table = table - table.gather(-1, states[..., None])
        table = table * self.variables.domain
        f, k = len(self.variables.nodes), graph.ops.shape[-1]
        ops, edges = torch.zeros_like(graph.ops), torch.zeros_like(graph.edges)
        ops[:, self.variables.nodes] = table[:, :f, :k]
        flipped = 1 - states[:, f:]
        edges[:, self.variables.sources, self.variables.targets] = table[:, f:].gather(-1, flipped[..., None])[..., 0]
        return GraphBatch(ops, edges, graph.node_mask)

    def _first_order(self, graph: GraphBatch, t: Float[Tensor, " b"]) -> GraphBatch:
        gradient = self.score(graph, t)
        here = (gradient.ops * graph.ops).sum(-1, keepdim=True)
        return GraphBatch(gradient.ops - here, gradient.edges * (1 - 2 * graph.edges), graph.node_mask)

    def score(self, graph: GraphBatch, t: Float[Tensor, " b"]) -> GraphBatch:
        with torch.enable_grad():
            ops, edges = graph.ops.detach().requires_grad_(), graph.edges.detach().requires_grad_()
            total = self.log_weight(GraphBatch(ops, edges, graph.node_mask), t).sum()
            by_ops, by_edges = torch.autograd.grad(total, [ops, edges])
        return GraphBatch(by_ops * self._nodes_free, by_edges * self._edges_free, graph.node_mask)


class CleanGuidance(Guidance):
    """Chooses among clean graphs by the same weight at `t` = 0, for generators that draw no noised graphs.

    As `ImportanceGuidance`, but by a network on graphs: nothing is decoded, and no predictor of architectures asked.

    Args:
        log_weight: As in `NoisedGuidance`.
        candidates: Clean graphs drawn for each graph, at least 2.
    """

    def __init__(self, log_weight: LogWeight, candidates: int = 4) -> None:
        if candidates < 2:
            raise ValueError(f"expected at least 2 candidates to choose among, got {candidates}")
        self.log_weight, self.candidates = log_weight, candidates

    def log_tilt(self, clean: GraphBatch) -> Float[Tensor, " b"]:
        return self.log_weight(clean, torch.zeros(len(clean)))


def expected_log_weight(predictor: NoisedPredictor, tilts: Sequence[Tilt]) -> LogWeight:
    """The sum over `tilts` of the log-weights of `NoisedGuidance`, from a trained predictor."""
    if not tilts:
        return lambda graph, t: torch.zeros(len(graph))
    columns = [predictor.metrics.index(tilt.metric) for tilt in tilts]
    weights = torch.stack([_log_weights(tilt, predictor.levels) for tilt in tilts])  # m l

    def log_weight(graph: GraphBatch, t: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        total: Tensor = (predictor(graph, t, columns) + weights).logsumexp(-1).sum(-1)
        return total

    return log_weight


def _log_weights(tilt: Tilt, levels: Float[Tensor, " l"]) -> Float[Tensor, " l"]:
    """Log-weight of each level; the levels next to a bound count in proportion to how much of them lies within."""
    if tilt.bound is None:
        return tilt.strength * tilt.sign * levels
    within = 0.5 + tilt.sign * (levels - tilt.bound) / (levels[1] - levels[0])
    return within.clamp(MISSED, 1.0).log()
