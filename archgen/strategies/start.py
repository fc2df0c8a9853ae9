"""Where a search begins before anything is known: the best by zero-cost proxies of small random groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import rankdata

from archgen.graph import Architecture
from archgen.predictors.base import Floats
from archgen.predictors.free_labels import FreeLabels

VOTERS = ("synflow", "nwot", "jacov")
"""Proxies that vote where they are known; their sum of log-ranks is the best parameter-free vote that we know of."""
GROUP = 64
"""Architectures of a group."""


def vote(free_labels: FreeLabels, archs: Sequence[Architecture]) -> Floats:
    """Sum of the log-ranks of the proxies that vote, `b`, larger is better (Abdelfattah et al., arXiv 2101.08134).

    The paper counts a majority of three proxies for each pair; a sum of ranks orders all at once, and the logarithm
    makes the best places count less than a last one. Where none of `VOTERS` is among the free labels, all of them vote.

    Args:
        free_labels: Predicts the proxies.
        archs: `b` architectures; the ranks are those among them.
    """
    columns = [i for i, name in enumerate(free_labels.names) if name in VOTERS] or list(range(len(free_labels.names)))
    total: Floats = np.log(rankdata(free_labels(archs)[:, columns], axis=0)).sum(1)
    return total


def first(n: int, draw: Callable[[int], Sequence[Architecture]], free_labels: FreeLabels | None) -> list[Architecture]:
    """Architectures to begin with: draws, or where there are free labels the best of each of `n` groups of them.

    Good ones to learn from, and not all of one kind.

    Args:
        n: How many.
        draw: Gives as many random architectures as its argument says, or a few less.
        free_labels: What the groups are judged by, see `vote`.
    """
    if free_labels is None:
        return list(draw(n))
    archs = draw(n * GROUP)
    if not archs:
        return []
    votes = vote(free_labels, archs)
    groups = np.array_split(np.arange(len(archs)), min(n, len(archs)))
    return [archs[int(rows[votes[rows].argmax()])] for rows in groups]
