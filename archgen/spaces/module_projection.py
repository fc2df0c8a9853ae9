"""Drawing a module's edges from independent probabilities, given that the module is valid."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from archgen.spaces.module_graphs import in_order, prune, within

CANDIDATES, ROUNDS = 8, 8


def draw_valid_edges(
    adjacency: Bool[Tensor, "b n n"],
    probabilities: Float[Tensor, "b n n"],
    max_edges: int,
    *,
    generator: torch.Generator,
) -> Bool[Tensor, "b n n"]:
    """Encoded graphs as they are, a draw of the same probabilities given that it is one in place of the others.

    Encoded are the graphs that `ModuleSpace.encode` gives: valid, without dead edges, live vertices first. Those are
    what a generator has learnt; it can not go on from others, which may need more edges than the budget has. Rejection
    sampling, which is exact, of at most 64 candidates a graph; what then is none yet is completed by `complete`, which
    is not a draw but always ends, and pruned.

    Args:
        adjacency: Graphs, strictly upper triangular.
        probabilities: Of every edge being present, in [0, 1].
        max_edges: Most edges of a pruned graph, at least 1.
        generator: Source of randomness.
    """
    n = adjacency.shape[-1]
    rows, columns = torch.triu_indices(n, n, 1, device=adjacency.device)
    drawn, left = adjacency.clone(), (~_encoded(adjacency, max_edges)).nonzero().flatten()
    for _ in range(ROUNDS):
        if not len(left):
            return drawn
        p = probabilities[left][:, rows, columns].clamp(0.0, 1.0)
        u = torch.rand(len(left), CANDIDATES, len(rows), generator=generator, device=p.device)
        candidates = torch.zeros(len(left), CANDIDATES, n, n, dtype=torch.bool, device=p.device)
        candidates[:, :, rows, columns] = u < p[:, None]
        valid = _encoded(candidates.flatten(0, 1), max_edges).view(len(left), CANDIDATES)
        found, first = valid.any(1), valid.int().argmax(1)
        drawn[left[found]] = candidates[found, first[found]]
        left = left[~found]
    if len(left):
        drawn[left] = prune(complete(adjacency[left], probabilities[left], max_edges))
    return drawn


def _encoded(adjacency: Bool[Tensor, "b n n"], max_edges: int) -> Bool[Tensor, " b"]:
    return within(adjacency, max_edges) & in_order(adjacency)


def complete(
    adjacency: Bool[Tensor, "b n n"], probabilities: Float[Tensor, "b n n"], max_edges: int
) -> Bool[Tensor, "b n n"]:
    """Valid graphs near the given ones, greedily by probability.

    A graph that does not connect its ends gets the most probable path between them. One with too many edges loses
    the least probable live edge that is not on its most probable path, again and again.

    Args:
        adjacency, probabilities, max_edges: As in `draw_valid_edges`; `max_edges` at least `n - 1`.
    """
    p = probabilities.double().clamp(1e-12, 1 - 1e-12)
    gain = p.log() - (-p).log1p()
    upper = torch.ones_like(adjacency[0]).triu(1)
    cut = prune(adjacency).sum((1, 2)) == 0
    added = _best_path(gain.masked_fill(adjacency, 0.0).masked_fill(~upper, -torch.inf))
    graphs = adjacency | (added & cut[:, None, None])
    while True:
        live = prune(graphs)
        many = (live.sum((1, 2)) > max_edges).nonzero().flatten()
        if not len(many):
            return graphs
        kept = _best_path(gain[many].masked_fill(~live[many], -torch.inf))
        loss = gain[many].masked_fill(~live[many] | kept, torch.inf)
        worst = loss.flatten(1).argmin(1)
        graphs.flatten(1)[many, worst] = False


def _best_path(gain: Float[Tensor, "b n n"]) -> Bool[Tensor, "b n n"]:
    """The path from the first to the last vertex whose edges have the largest sum of `gain`."""
    b, n, _ = gain.shape
    best = [torch.zeros(b, dtype=gain.dtype, device=gain.device)]
    before: list[Int[Tensor, " b"]] = [torch.zeros(b, dtype=torch.long, device=gain.device)]
    for j in range(1, n):
        total, source = (torch.stack(best, 1) + gain[:, :j, j]).max(1)
        best.append(total)
        before.append(source)
    path = torch.zeros_like(gain, dtype=torch.bool)
    predecessor, rows = torch.stack(before, 1), torch.arange(b, device=gain.device)
    at = torch.full_like(rows, n - 1)
    for _ in range(n - 1):
        source = predecessor[rows, at]
        path[rows, source, at] |= at > 0
        at = torch.where(at > 0, source, at)
    return path
