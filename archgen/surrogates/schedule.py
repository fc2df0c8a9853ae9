"""When the hyperparameters of surrogates are fitted anew."""

from __future__ import annotations

from collections.abc import Sequence

from archgen.graph import Architecture
from archgen.predictors.base import Floats
from archgen.surrogates.base import Surrogate

GROWTH = 1.15
"""Of the evaluations, from one fit of the hyperparameters to the next."""


class Refits:
    """Fits hyperparameters to the first evaluations, as many as `scheduled` says, and infers from all.

    They hardly change from one evaluation to the next, and fitting them takes most of the time. What is fitted hangs on
    the evaluations alone, not on when it was asked for: a search that is resumed goes on as if it had not been cut off.
    """

    def __init__(self) -> None:
        self._fitted = 0

    def learn(self, archs: Sequence[Architecture], values: Sequence[tuple[Surrogate, Floats]]) -> None:
        """Let each surrogate learn its values.

        Args:
            archs: All `b` evaluations in their order, those of the last call first.
            values: Surrogates, and `b` values for each.
        """
        first = scheduled(len(archs))
        for surrogate, y in values:
            if type(surrogate).update is Surrogate.update:  # it knows no cheaper way than to be fitted anew
                surrogate.fit(archs, y)
                continue
            if first != self._fitted:
                surrogate.fit(archs[:first], y[:first])
            if first < len(archs):
                surrogate.update(archs, y)
        self._fitted = first


def scheduled(n: int) -> int:
    """The largest of 1, 2, ..., 13, 14, 16, 18, 20, 23, ..., each 15 % above the one before, that is at most `n`."""
    first = 1
    while (after := max(first + 1, int(first * GROWTH))) <= n:
        first = after
    return first
