"""Supernets whose edges can run several operations at once, weighed: what differentiable searches train."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.errors import InvalidSpace
from archgen.graph import Architecture
from archgen.supernets.base import Supernet

Weights = Mapping[str, Mapping[str, Tensor | float]]
"""Weight of each operation of each edge. Operations, and edges, that are not named are not computed."""


class RelaxedSupernet(Supernet):
    """A supernet that can sum the operations of an edge, the continuous relaxation of DARTS (arXiv 1806.09055).

    An edge is a place where the space has a choice of operations. Where each edge has one operation, of weight 1, and
    these are an architecture, `mixed` computes to the bit what `forward` computes of it.
    """

    @property
    @abstractmethod
    def edges(self) -> dict[str, tuple[str, ...]]:
        """The operations that `space` has on each edge, by the edge's name.

        Raises:
            InvalidSpace: The space's choices are no operations on edges that can be mixed.
        """

    @abstractmethod
    def mixed(self, x: Float[Tensor, "b ..."], weights: Weights) -> Float[Tensor, "b classes"]:
        """Logits where each edge computes the weighted sum of its operations.

        A weight of 0 that is there gets its gradient, but the operation gets none and keeps nothing in memory.

        Args:
            x: Inputs.
            weights: Of edges and operations in `edges`; the zero operation may have one, which changes nothing.
        """

    @abstractmethod
    def strongest(self, scores: Mapping[str, Sequence[float]]) -> Architecture:
        """The architecture that keeps what has the largest scores.

        Args:
            scores: Of the operations of each edge, in the order of `edges`; of equal ones the first counts.
        """

    @abstractmethod
    def variant(self, operations: Mapping[str, str]) -> Architecture:
        """An architecture with one given operation on at most one edge; on the others it always has the same."""

    def flops(self) -> tuple[dict[str, list[float]], float]:
        """FLOPs in the space's own convention, which add up over edges.

        Returns:
            Those of each operation of each edge beyond the cheapest one's, and those of the network with the cheapest
            everywhere.
        """
        found, base = {}, self._flops({})
        rest = base
        for edge, operations in self.edges.items():
            counts = [self._flops({edge: operation}) for operation in operations]
            found[edge] = [count - min(counts) for count in counts]
            rest -= base - min(counts)
        return found, rest

    def _flops(self, operations: Mapping[str, str]) -> float:
        return self.whole.count(self.variant(operations), **self.network)["flops"]


def relaxed_supernet(supernet: Supernet, strategy: str) -> RelaxedSupernet:
    """The supernet itself.

    Args:
        supernet: To be trained.
        strategy: Name of the training strategy, for the message.

    Raises:
        InvalidSpace: It has no edges that can be mixed.
    """
    if not isinstance(supernet, RelaxedSupernet):
        raise InvalidSpace(
            f"'{strategy}' mixes operations on edges, which the supernet of {supernet.space.name} can not do; "
            "train it with 'uniform'"
        )
    _ = supernet.edges
    return supernet


def weighed(
    operations: nn.ModuleDict | Mapping[str, Callable[[Tensor], Tensor]],
    x: Tensor,
    weights: Mapping[str, Tensor | float],
) -> Tensor | None:
    """Weighted sum of those operations that have a weight; None where there are none.

    Args:
        operations: By name; a weight without operation is that of the zero operation.
        x: What they read.
        weights: By name. The output of an operation of weight 0 is computed without its graph.
    """
    total: Tensor | None = None
    for name, weight in weights.items():
        if name in operations:
            with torch.set_grad_enabled(torch.is_grad_enabled() and bool(weight != 0)):
                out = operations[name](x)
            out = weight * out
            total = out if total is None else total + out
    return total


def strongest_values(edges: Mapping[str, tuple[str, ...]], scores: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """The operation of each edge that has the largest score, the first of equal ones."""
    return {
        edge: max(zip(operations, scores[edge], strict=True), key=lambda pair: pair[1])[0]
        for edge, operations in edges.items()
    }


def open_values(supernet: Supernet) -> dict[str, tuple[str, ...]]:
    """Values that each variable of the whole space may have in the part that is trained."""
    whole, part = supernet.whole, supernet.space
    fixed = whole.to_choices(part.sample(1, np.random.default_rng(0))[0])  # the part names only what is open
    return {name: part.variables.get(name, (values[fixed[name]],)) for name, values in whole.variables.items()}
