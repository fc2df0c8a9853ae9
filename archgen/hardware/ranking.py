"""Which network is faster, said only where the measurements can tell: overlapping intervals are ties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archgen.hardware.record import LatencyMeasurement


@dataclass(frozen=True)
class Rank:
    """The places that a measurement shares with those it is tied with.

    Args:
        first, last: From 1, the fastest; equal where there is no tie.
    """

    first: int
    last: int

    @property
    def tied(self) -> bool:
        """Whether others share the places."""
        return self.first < self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last} tie" if self.tied else str(self.first)


def faster(a: LatencyMeasurement, b: LatencyMeasurement) -> bool | None:
    """Whether `a` is faster than `b`; None where their 95 % intervals overlap or touch, and nobody can tell.

    Both must come from one device, measured against one reference.

    Example:
        >>> quick, slow = LatencyMeasurement(1.0, 0.9, 1.1, 0.1, 30), LatencyMeasurement(2.0, 1.9, 2.1, 0.1, 30)
        >>> faster(quick, slow), faster(slow, quick), faster(quick, quick)
        (True, False, None)
    """
    if a.high_ms < b.low_ms:
        return True
    if b.high_ms < a.low_ms:
        return False
    return None


def tied_groups(measured: Sequence[LatencyMeasurement]) -> list[list[int]]:
    """Order measurements of one device into groups, fastest first, such that no intervals of two groups overlap.

    Overlap does not carry on: of three in a chain the first and the last may be told apart (`faster` says so) though
    neither can be from the one between. They are one group all the same, because no order of all three is certain.

    Args:
        measured: `n` measurements.

    Returns:
        Their indices; those of a group in order of their medians, which means nothing.
    """
    groups: list[list[int]] = []
    end = 0.0
    for i in sorted(range(len(measured)), key=lambda i: (measured[i].low_ms, i)):
        if groups and measured[i].low_ms <= end:
            groups[-1].append(i)
            end = max(end, measured[i].high_ms)
        else:
            groups.append([i])
            end = measured[i].high_ms
    return [sorted(group, key=lambda i: (measured[i].latency_ms, i)) for group in groups]


def ranks(measured: Sequence[LatencyMeasurement]) -> list[Rank]:
    """The places of each measurement, in the order given; those of one tied group share theirs.

    Example:
        >>> times = [(3.0, 2.8, 3.2), (1.0, 0.9, 1.1), (3.1, 2.9, 3.3)]
        >>> [str(rank) for rank in ranks([LatencyMeasurement(*time, 0.1, 30) for time in times])]
        ['2-3 tie', '1', '2-3 tie']
    """
    places: dict[int, Rank] = {}
    for group in tied_groups(measured):
        rank = Rank(len(places) + 1, len(places) + len(group))
        places |= dict.fromkeys(group, rank)
    return [places[i] for i in range(len(measured))]
