"""What the check of generators watches with: guidance that forbids, a projector that looks, comparisons."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from archgen.generators.base import Guidance
from archgen.graph import GraphBatch
from archgen.spaces import SearchSpace


class Forbid(Guidance):
    """Forbids one state, a label of one node or the presence of one edge: by choosing among candidates."""

    candidates = 12

    def __init__(self, ops: Tensor, edges: Tensor) -> None:
        self.ops, self.edges = ops, edges

    def hits(self, clean: GraphBatch) -> Tensor:
        return ((clean.ops * self.ops).sum((1, 2)) + (clean.edges * self.edges).sum((1, 2))) > 0

    def log_tilt(self, clean: GraphBatch) -> Float[Tensor, " b"]:
        return torch.zeros(len(clean)).masked_fill(self.hits(clean), -torch.inf)


class Discard(Guidance):
    """Forbids what a `Forbid` does: by keeping, at the end, one of eight particles that has not the state."""

    def __init__(self, forbid: Forbid) -> None:
        self.forbid, self.times = forbid, list[float]()
        self.last: GraphBatch | None = None

    def population(self, n: int) -> int:
        return 8 * n

    def resample(self, clean: GraphBatch, t: float, *, generator: torch.Generator) -> Int[Tensor, " b"] | None:
        self.times.append(t)
        if t > 0:
            return None
        good = (~self.forbid.hits(clean)).view(-1, 8).int().argmax(1)
        chosen = good + 8 * torch.arange(len(good))
        self.last = clean[chosen]
        return chosen


class Recorded:
    """A space's projector that looks at what it is given."""

    def __init__(self, space: SearchSpace) -> None:
        self.space, self.calls = space, 0
        self.known: set[tuple[float, ...]] = set()

    def __call__(self, drawn: GraphBatch, probabilities: GraphBatch, *, generator: torch.Generator) -> GraphBatch:
        self.calls += 1
        check_inside(drawn, self.space, "the projector is given graphs")
        p = torch.cat([probabilities.ops.flatten(1), probabilities.edges.flatten(1)], 1)
        assert bool(((p >= -1e-6) & (p <= 1 + 1e-6)).all()), "the projector is given probabilities outside [0, 1]"
        total = probabilities.ops.sum(-1)
        one = torch.allclose(total, torch.ones_like(total), atol=1e-4)
        assert one, "the projector is given probabilities of a node's labels that do not add up to one"
        upper = not bool(probabilities.edges.tril().any())
        assert upper, "the projector is given edges that are not strictly upper triangular"
        mended = self.space.project(drawn, probabilities, generator=generator)
        self.known |= set(rows(mended))
        return mended


class Silent(Guidance):
    """Wants candidates and has no opinion of them."""

    candidates = 3


def forbid_common(drawn: GraphBatch) -> Forbid:
    """Forbids the most frequent state among those that at most half of the graphs have: a label, if there is one."""
    shares = torch.cat([1 + drawn.ops.mean(0).flatten(), drawn.edges.mean(0).flatten()])
    shares[(shares % 1 > 0.5) | (shares % 1 == 0)] = 0.0
    assert bool(shares.any()), "sample: no state is drawn by some and avoided by most; there is nothing to forbid"
    chosen = torch.zeros_like(shares)
    chosen[shares.argmax()] = 1.0
    nodes = drawn.ops[0].numel()
    return Forbid(chosen[:nodes].view_as(drawn.ops[0]), chosen[nodes:].view_as(drawn.edges[0]))


def same(a: GraphBatch, b: GraphBatch) -> bool:
    return all(torch.equal(getattr(a, f), getattr(b, f)) for f in ("ops", "edges", "node_mask"))


def check_inside(batch: GraphBatch, space: SearchSpace, what: str) -> None:
    """One-hot labels and edges of 0 and 1, inside the domains."""
    one_hot = bool(((batch.ops == 0) | (batch.ops == 1)).all()) and bool((batch.ops.sum(-1) == 1).all())
    assert one_hot, f"{what} whose labels are not one-hot"
    binary = bool(((batch.edges == 0) | (batch.edges == 1)).all()) and not bool(batch.edges.tril().any())
    assert binary, f"{what} whose edges are not a strictly upper triangular matrix of 0 and 1"
    states = torch.stack([1 - batch.edges, batch.edges], -1).bool() & ~space.edge_domain
    upper = torch.ones_like(batch.edges[0]).triu(1).bool()[..., None]
    outside = bool((batch.ops.bool() & ~space.node_domain).any()) or bool((states & upper).any())
    assert not outside, f"{what} outside the domains"


def rows(batch: GraphBatch) -> list[tuple[float, ...]]:
    """Each graph as one hashable value."""
    return [tuple(row) for row in torch.cat([batch.ops.flatten(1), batch.edges.flatten(1)], 1).tolist()]
