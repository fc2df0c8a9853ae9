"""Graphs of modules as tensors: which vertices are live, pruning, the published hash, and listing every module."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Int
from torch import Tensor

Codes = npt.NDArray[np.int64]


def live_vertices(adjacency: Bool[Tensor, "b n n"]) -> Bool[Tensor, "b n"]:
    """Which vertices lie on a path from the first to the last one; adjacency is strictly upper triangular."""
    n = adjacency.shape[-1]
    forward, backward = [torch.ones_like(adjacency[:, 0, 0])], [torch.ones_like(adjacency[:, 0, 0])]
    for j in range(1, n):
        forward.append((adjacency[:, :j, j] & torch.stack(forward, 1)).any(1))
    for i in range(n - 2, -1, -1):
        backward.insert(0, (adjacency[:, i, i + 1 :] & torch.stack(backward, 1)).any(1))
    return torch.stack(forward, 1) & torch.stack(backward, 1)


def prune(adjacency: Bool[Tensor, "b n n"]) -> Bool[Tensor, "b n n"]:
    """The edges that lie on a path from the first to the last vertex."""
    live = live_vertices(adjacency)
    return adjacency & live[:, :, None] & live[:, None, :]


def within(adjacency: Bool[Tensor, "b n n"], max_edges: int) -> Bool[Tensor, " b"]:
    """Whether each graph connects its first to its last vertex and has at most `max_edges` edges once pruned."""
    edges = prune(adjacency).sum((1, 2))
    return (edges > 0) & (edges <= max_edges)


def in_order(adjacency: Bool[Tensor, "b n n"]) -> Bool[Tensor, " b"]:
    """Whether each graph is what `compact` leaves as it is: no dead edges, live interior vertices first."""
    live = live_vertices(adjacency)
    dead = adjacency & ~(live[:, :, None] & live[:, None, :])
    interior = live[:, 1:-1]
    return ~dead.flatten(1).any(1) & (interior[:, 1:] <= interior[:, :-1]).all(1)


def compact(
    adjacency: Bool[Tensor, "b n n"], labels: Int[Tensor, "b n-2"]
) -> tuple[Bool[Tensor, "b n n"], Int[Tensor, "b n-2"]]:
    """Pruned graphs with the live interior vertices first, in their order; the others have label 0 and no edge."""
    b, n, _ = adjacency.shape
    live = live_vertices(adjacency)
    interior = live[:, 1:-1]
    order = torch.sort((~interior).to(torch.uint8), dim=1, stable=True).indices
    ends = torch.zeros(b, 1, dtype=order.dtype, device=order.device)
    places = torch.cat([ends, order + 1, ends + n - 1], 1)
    kept = adjacency & live[:, :, None] & live[:, None, :]
    kept = kept.gather(1, places[:, :, None].expand(b, n, n)).gather(2, places[:, None, :].expand(b, n, n))
    return kept, (labels * interior).gather(1, order)


Module = tuple[list[int], tuple[tuple[int, int], ...]]
"""Label of each interior vertex, and edges in order."""


def prune_raw(
    adjacency: Bool[Tensor, "b n n"],
    labels: Int[Tensor, "b n-2"],
    refused: Bool[Tensor, " b"],
    operations: int,
    max_edges: int,
) -> tuple[list[Module | None], list[int]]:
    """Pruned modules of raw ones; samples repeat, so each distinct one is pruned once.

    Args:
        adjacency: Strictly upper triangular.
        labels: Of the interior vertices, below `operations`.
        refused: Graphs to leave out.
        operations: Number of labels.
        max_edges: Most edges of a pruned module.

    Returns:
        The distinct pruned modules and, last, None; and for each of the `b` graphs which of them it is: None where
        it is refused, not connected, or has too many edges.
    """
    n = adjacency.shape[-1]
    pairs = pairs_of(n)
    rows, columns = torch.tensor(pairs).T
    powers = torch.tensor(operations) ** torch.arange(n - 2)

    def numbers(graphs: Bool[Tensor, "b n n"], labels: Int[Tensor, "b n-2"]) -> Codes:
        bits = (graphs[:, rows, columns].long() << torch.arange(len(pairs))).sum(1)
        keys: Codes = (bits + ((labels * powers).sum(1) << len(pairs))).numpy()
        return keys

    keys = np.where(refused.numpy(), -1, numbers(adjacency, labels))
    _, index, raw_of = np.unique(keys, return_index=True, return_inverse=True)
    raw = torch.from_numpy(index)
    valid = within(adjacency[raw], max_edges) & ~refused[raw]
    graphs, labels = compact(adjacency[raw[valid]], labels[raw[valid]])
    distinct, index, module_of = np.unique(numbers(graphs, labels), return_index=True, return_inverse=True)
    known: dict[int, Module] = {}
    modules: list[Module | None] = []
    for number, row in zip((distinct & ((1 << len(pairs)) - 1)).tolist(), labels[index].tolist(), strict=True):
        if number not in known:
            edges = [pair for e, pair in enumerate(pairs) if number >> e & 1]
            interior = max((j for _, j in edges if j < n - 1), default=0)
            known[number] = [0] * interior, tuple(sorted((i, min(j, interior + 1)) for i, j in edges))
        interior_labels, edges_of = known[number]
        modules.append((row[: len(interior_labels)], edges_of))
    which = np.full(len(raw), len(modules))
    which[valid.numpy()] = module_of.ravel()
    return [*modules, None], which[raw_of.ravel()].tolist()


@lru_cache(maxsize=2**17)
def module_hash(labels: tuple[int, ...], edges: tuple[tuple[int, int], ...]) -> str:
    """The hash by which NAS-Bench-101's tables name a module: rounds of colour refinement with MD5 (section 2.4).

    Equal for isomorphic modules. It tells all others apart up to 7 vertices, 9 edges and 3 operations, where the
    paper compared every pair; larger graphs may collide.

    Args:
        labels: Label of every vertex: -1 for the input, -2 for the output, the position of the operation between.
        edges: Pairs `(i, j)` of vertices.
    """
    sources: list[list[int]] = [[] for _ in labels]
    targets: list[list[int]] = [[] for _ in labels]
    for i, j in edges:
        sources[j].append(i)
        targets[i].append(j)
    hashes = [_md5(str((len(targets[v]), len(sources[v]), label))) for v, label in enumerate(labels)]
    for _ in labels:
        hashes = [
            _md5(
                "".join(sorted([hashes[u] for u in sources[v]]))
                + "|"
                + "".join(sorted([hashes[u] for u in targets[v]]))
                + "|"
                + hashes[v]
            )
            for v in range(len(labels))
        ]
    return _md5(str(sorted(hashes)))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def distinct_modules(vertices: int, operations: int, max_edges: int) -> Iterator[tuple[int, Codes, Codes]]:
    """Every module up to isomorphism, one of each class, by the number of vertices.

    Graphs are numbers: bit `e` says whether the `e`-th pair of `pairs_of` is an edge. Graphs without labels are
    put into classes by the least image under all permutations of the interior; then the labellings of one graph of
    a class differ exactly when no automorphism of it takes one to the other.

    Args:
        vertices: Largest number of vertices, 2 to 7.
        operations: Number of labels of an interior vertex.
        max_edges: Largest number of edges.

    Yields:
        Number of vertices `m`, the graph of each module (`b`), and the label of each interior vertex (`b x (m - 2)`).
    """
    for m in range(2, vertices + 1):
        graphs, automorphisms, permutations = _graph_classes(m, max_edges)
        labellings = np.array(list(itertools.product(range(operations), repeat=m - 2)), np.int64)
        places = operations ** np.arange(m - 2)
        images = np.stack([labellings[:, p] @ places for p in permutations])  # permutations x labellings
        codes: list[Codes] = []
        labels: list[Codes] = []
        groups, group_of = np.unique(automorphisms, axis=1, return_inverse=True)
        kept = [labellings[images[group].min(0) == labellings @ places] for group in groups.T]
        for graph, group in zip(graphs, group_of.ravel(), strict=True):
            labels.append(kept[group])
            codes.append(np.full(len(kept[group]), graph))
        if codes:
            yield m, np.concatenate(codes), np.concatenate(labels)


def pairs_of(vertices: int) -> list[tuple[int, int]]:
    """Pairs `i < j` in the order of the bits of a graph's number, by target, then source."""
    return [(i, j) for j in range(1, vertices) for i in range(j)]


def _graph_classes(m: int, max_edges: int) -> tuple[Codes, npt.NDArray[np.bool_], Sequence[list[int]]]:
    """One graph a class, which of the interior's permutations are its automorphisms (`p x b`), and these."""
    pairs = pairs_of(m)
    graphs = np.arange(2 ** len(pairs), dtype=np.int64)
    graphs = graphs[np.bitwise_count(graphs) <= max_edges]
    for v in range(m):  # an acyclic graph whose vertices all have an input and an output has no dead ones
        into = sum(1 << e for e, (_, j) in enumerate(pairs) if j == v)
        out = sum(1 << e for e, (i, _) in enumerate(pairs) if i == v)
        graphs = graphs[((graphs & into > 0) | (v == 0)) & ((graphs & out > 0) | (v == m - 1))]
    permutations = [list(p) for p in itertools.permutations(range(m - 2))]
    least = np.full(len(graphs), np.iinfo(np.int64).max)
    for permutation in permutations:
        np.minimum(least, _image(graphs, pairs, permutation, m), out=least)
    _, first = np.unique(least, return_index=True)
    graphs = graphs[np.sort(first)]
    own = _image(graphs, pairs, list(range(m - 2)), m)
    automorphisms = np.stack([_image(graphs, pairs, p, m) == own for p in permutations])
    return graphs, automorphisms, permutations


def _image(graphs: Codes, pairs: Sequence[tuple[int, int]], permutation: list[int], m: int) -> Codes:
    """Numbers of the permuted graphs, as adjacency matrices of `m x m` bits."""
    places = [0, *(1 + p for p in permutation), m - 1]
    bits = np.array([1 << (places[i] * m + places[j]) for i, j in pairs], np.int64)
    half = (len(pairs) + 1) // 2  # two look-ups instead of one bit at a time
    low, high = (_subset_sums(part) for part in (bits[:half], bits[half:]))
    image: Codes = low[graphs & ((1 << half) - 1)] | high[graphs >> half]
    return image


def _subset_sums(bits: Codes) -> Codes:
    sums = np.zeros(1, np.int64)
    for bit in bits:
        sums = np.concatenate([sums, sums | bit])
    return sums
