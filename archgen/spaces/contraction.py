"""Contracting identities in a graph whose nodes sum their inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence


def contract(reads: Sequence[Sequence[int]], identities: Collection[int]) -> tuple[list[int], Counter[tuple[int, int]]]:
    """Drop nodes that only pass on the sum of their inputs.

    Args:
        reads: Positions of the inputs of each node, in topological order; node 0 is the input and reads nothing.
        identities: Positions of the nodes to drop.

    Returns:
        The positions of the nodes that are left, and how often each of them reads each other one, as pairs of their
        new positions `(source, target)`.
    """
    kept: list[int] = []
    edges: Counter[tuple[int, int]] = Counter()
    values: list[dict[int, int]] = []  # plain dictionaries: most nodes have one input, and there are very many nodes
    for node, sources in enumerate(reads):
        total: dict[int, int] = values[sources[0]] if len(sources) == 1 else {}
        if len(sources) > 1:
            for source in sources:
                for new, times in values[source].items():
                    total[new] = total.get(new, 0) + times
        if node in identities:
            values.append(total)
            continue
        for source, times in total.items():
            edges[source, len(kept)] = times
        values.append({len(kept): 1})
        kept.append(node)
    return kept, edges
