"""Rooted trees of operations: which of them compute the same, and one of each, as NAS-Bench-Graph names them.

A tree of `n` nodes is written as a *link*, the node that each node reads (0 is the input, `i` the `i`-th node before),
and the positions of the nodes' operations. What no node reads is joined to the output.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

Link = tuple[int, ...]
Labels = tuple[int, ...]


@lru_cache(maxsize=2**18)
def canonical_tree(link: Link, labels: Labels, skip: int) -> tuple[Link, Labels]:
    """The published form of a tree: identities moved to the front, then the least of its orders.

    By `move_skip_op` of the published code a node that only passes on what it reads is moved to the front, between the
    input and all else, if another node reads it, or if no other node reads what it reads, or if it passes the raw input
    to the output, which joins no raw features. What is left is a leaf beside other nodes: with it the output reads its
    parent too.

    Args:
        link: What each node reads; `link[i] <= i`.
        labels: Position of each node's operation.
        skip: Position of the identity.

    Returns:
        The link, the least one of all orders of the nodes, and the labels, the least ones with that link.
    """
    parents = dict(enumerate(link, start=1))
    moved: list[int] = []
    while (node := _removable(parents, labels, skip)) is not None:
        parent = parents.pop(node)
        parents = {n: parent if p == node else p for n, p in parents.items()}
        moved.append(node)
    for node in moved:  # one after the other between the input and what read it
        parents = {n: node if p == 0 else p for n, p in parents.items()} | {node: 0}
    return _least(parents, labels)


def _removable(parents: dict[int, int], labels: Labels, skip: int) -> int | None:
    for node, parent in parents.items():
        if labels[node - 1] != skip:
            continue
        alone = sum(p == parent for p in parents.values()) == 1
        if node in parents.values() or alone or parent == 0:  # with those before it moved, a raw leaf reads the input
            return node
    return None


def _least(parents: dict[int, int], labels: Labels) -> tuple[Link, Labels]:
    forms = []
    for order in itertools.permutations(parents):
        place = {0: 0, **{node: i for i, node in enumerate(order, start=1)}}
        found = tuple(place[parents[node]] for node in order)
        if all(source <= i for i, source in enumerate(found)):
            forms.append((found, tuple(labels[node - 1] for node in order)))
    return min(forms)


@cache
def links(nodes: int) -> tuple[Link, ...]:
    """One link of each unlabelled tree, in the published order: for 4 nodes the 9 macro spaces of NAS-Bench-Graph."""
    every = itertools.product(*(range(i + 1) for i in range(nodes)))
    blank = (0,) * nodes
    return tuple(sorted({_least(dict(enumerate(link, start=1)), blank)[0] for link in every}))


def distinct_trees(nodes: int, labels: int, skip: int) -> Iterator[tuple[Link, NDArray[np.int64]]]:
    """Every tree that `canonical_tree` leaves as it is, except the one of identities alone.

    Yields:
        Each link with the labels of its trees, `b x nodes`, in lexicographic order.
    """
    every = np.indices((labels,) * nodes).reshape(nodes, -1).T
    places = labels ** np.arange(nodes - 1, -1, -1)
    number = every @ places
    identity = every == skip
    for link in links(nodes):
        good = ~identity.all(1)
        readers = [link.count(node) for node in range(nodes + 1)]
        raw = np.ones((nodes + 1, len(every)), dtype=bool)  # whether a node carries the raw input
        chain = [True]  # whether all else hangs on the chain from the input to a node
        for i, source in enumerate(link):
            raw[i + 1] = raw[source] & identity[:, i]
            chain.append(chain[source] and readers[source] == 1)
            movable = identity[:, i] if readers[i + 1] or readers[source] == 1 else raw[i + 1]
            good &= ~movable | (raw[i + 1] if chain[i + 1] else False)
        for order in _automorphisms(link):
            good &= number <= every[:, order] @ places
        yield link, every[good]


def _automorphisms(link: Link) -> Iterator[list[int]]:
    """Orders of the nodes that give the same link."""
    for order in itertools.permutations(range(len(link))):
        place = {0: 0, **{node + 1: i for i, node in enumerate(order, start=1)}}
        if all(place[link[node]] == source for node, source in zip(order, link, strict=True)):
            yield list(order)
