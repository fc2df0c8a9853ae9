"""The one language of wishes, shared by the sampler, the search and the command line.

>>> [maximize("val_acc"), at_most("latency_ms", 1.5)]
[maximize('val_acc'), at_most('latency_ms', 1.5)]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from archgen.errors import InvalidObjective

Sense = Literal["maximize", "minimize", "at_least", "at_most"]


@dataclass(frozen=True, repr=False)
class Objective:
    """One wish about one metric: a direction (`maximize`, `minimize`) or a bound (`at_least`, `at_most`)."""

    metric: str
    sense: Sense
    bound: float | None = None

    def __repr__(self) -> str:
        return f"{self.sense}({self.metric!r}{'' if self.bound is None else f', {self.bound}'})"

    @property
    def is_bound(self) -> bool:
        """True for `at_least` and `at_most`."""
        return self.bound is not None

    @property
    def sign(self) -> int:
        """+1 where larger values are better or safer, -1 where smaller ones are."""
        return 1 if self.sense in ("maximize", "at_least") else -1

    def met(self, value: float) -> bool:
        """Whether a value satisfies the bound; a direction is always met, NaN never meets a bound."""
        return self.bound is None or self.sign * (value - self.bound) >= 0


def maximize(metric: str) -> Objective:
    """Wish for large values of a metric."""
    return Objective(_named(metric), "maximize")


def minimize(metric: str) -> Objective:
    """Wish for small values of a metric."""
    return Objective(_named(metric), "minimize")


def at_least(metric: str, bound: float) -> Objective:
    """Demand `metric >= bound`."""
    return Objective(_named(metric), "at_least", _finite(metric, bound))


def at_most(metric: str, bound: float) -> Objective:
    """Demand `metric <= bound`."""
    return Objective(_named(metric), "at_most", _finite(metric, bound))


def parse_bound(text: str, sense: Literal["at_least", "at_most"]) -> Objective:
    """Read the command line's `METRIC=VALUE`.

    Raises:
        InvalidObjective: The text has no `=`, or the value is not a finite number.
    """
    metric, equals, value = text.partition("=")
    if not equals:
        raise InvalidObjective(f"expected METRIC=VALUE for --{sense.replace('_', '-')}, got '{text}'")
    try:
        number = float(value)
    except ValueError:
        raise InvalidObjective(f"the bound of '{metric}' must be a number, got '{value}'") from None
    return at_most(metric, number) if sense == "at_most" else at_least(metric, number)


def check(objectives: Sequence[Objective]) -> None:
    """Refuse wishes that contradict each other.

    Raises:
        InvalidObjective: Two directions for one metric, or a lower bound above an upper one.
    """
    for metric in dict.fromkeys(o.metric for o in objectives):
        same = [o for o in objectives if o.metric == metric]
        senses = {o.sense for o in same if not o.is_bound}
        if len(senses) > 1:
            raise InvalidObjective(f"'{metric}' can not be both maximized and minimized; keep one of the two")
        low = max((o.bound for o in same if o.sense == "at_least" and o.bound is not None), default=-math.inf)
        high = min((o.bound for o in same if o.sense == "at_most" and o.bound is not None), default=math.inf)
        if low > high:
            raise InvalidObjective(f"'{metric}' can not be at least {low:g} and at most {high:g}; move a bound")


def directions(objectives: Iterable[Objective]) -> list[Objective]:
    """The `maximize` and `minimize` wishes, in order."""
    return [o for o in objectives if not o.is_bound]


def bounds(objectives: Iterable[Objective]) -> list[Objective]:
    """The `at_least` and `at_most` wishes, in order."""
    return [o for o in objectives if o.is_bound]


def all_met(objectives: Iterable[Objective], values: Mapping[str, float]) -> bool:
    """Whether measured values satisfy every bound; a metric that is absent meets none."""
    return all(o.met(values.get(o.metric, math.nan)) for o in objectives if o.is_bound)


def _named(metric: str) -> str:
    if not metric or metric != metric.strip():
        raise InvalidObjective(f"a metric's name must be non-empty without spaces around it, got '{metric}'")
    return metric


def _finite(metric: str, bound: float) -> float:
    if not math.isfinite(bound):
        raise InvalidObjective(f"the bound of '{metric}' must be a finite number, got {bound}")
    return float(bound)
