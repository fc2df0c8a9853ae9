"""What the report reads of a design's result, whatever the result lacks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from archgen import spaces
from archgen.errors import ArchgenError

SENSES = {"at_most": "at most", "at_least": "at least"}


def number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class Facts:
    """The parts of a result that the report needs, each None or empty where the result lacks it.

    Args:
        result: The object that `archgen design --json` prints, possibly with parts missing.
        trials: Table of the trials, rows numbered from 0.
    """

    result: Mapping[str, Any]
    trials: pd.DataFrame

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self.result.get(key)
        return value if isinstance(value, Mapping) else {}

    @property
    def data(self) -> str:
        value = self.result.get("data")
        return str(self.mapping("data").get("name", "your data") if not isinstance(value, str) else value)

    @property
    def run(self) -> str:
        return str(self.result.get("run") or "")

    @cached_property
    def winner(self) -> Mapping[str, Any] | None:
        """The winner's metrics; where the result only gives its trial number, those of the trial."""
        value = self.result.get("winner")
        if isinstance(value, Mapping):
            return value
        if number(value) is not None and "trial" in self.trials.columns:
            rows = self.trials[self.trials["trial"] == value]
            if len(rows):
                return {str(name): inner for name, inner in rows.iloc[0].items()}
        return None

    @cached_property
    def winner_row(self) -> int | None:
        """First trial of the winner."""
        return None if self.winner is None else self.row_of(self.winner)

    def row_of(self, network: Mapping[str, Any]) -> int | None:
        """First trial of a network's text, or one whose dead operations were cut off for it."""
        if "arch" not in self.trials.columns:
            return None
        wanted = str(network.get("arch"))
        rows = np.flatnonzero((self.trials["arch"].astype(str) == wanted).to_numpy())
        if not rows.size:
            rows = np.flatnonzero([text == wanted for text in self._simplified])
        return int(rows[0]) if rows.size else None

    @cached_property
    def _simplified(self) -> list[str | None]:
        return list(self._simplify(self.trials["arch"].astype(str)))

    def _simplify(self, texts: Iterable[str]) -> Iterator[str | None]:
        try:
            space = spaces.load(str(self.result.get("space")))
        except ArchgenError:
            return
        for text in texts:
            try:
                yield space.format(space.simplify(space.parse(text)))
            except ArchgenError:
                yield None

    @property
    def test_images(self) -> int | None:
        """Size of the test part, under `data` or its `sizes`."""
        sizes = self.mapping("data").get("sizes")
        n = number((sizes if isinstance(sizes, Mapping) else self.mapping("data")).get("test"))
        return int(n) if n is not None and n >= 1 else None

    @property
    def inherited(self) -> float | None:
        """Validation accuracy of the winner before its fine-tuning, percent."""
        return number((self.winner or {}).get("inherited_val_acc"))

    @property
    def latency(self) -> float | None:
        return number((self.winner or {}).get("latency_ms"))

    @property
    def table(self) -> str | None:
        """Name of the table that latencies are predicted from; None where they were measured on this machine."""
        name = self.mapping("device").get("measurements")
        return None if name is None else str(name)

    @property
    def interval(self) -> tuple[float, float] | None:
        return self.interval_of(self.winner or {})

    @staticmethod
    def interval_of(network: Mapping[str, Any]) -> tuple[float, float] | None:
        """Between which the latency of a network lies, ms."""
        value = network.get("latency_interval")
        if not isinstance(value, list | tuple) or len(value) != 2:
            return None
        low, high = number(value[0]), number(value[1])
        return None if low is None or high is None else (low, high)

    @cached_property
    def constraints(self) -> list[dict[str, Any]]:
        """Constraints that can be read: a metric, a known sense, a finite bound."""
        value = self.result.get("constraints")
        listed = [c for c in value if isinstance(c, Mapping)] if isinstance(value, list | tuple) else []
        return [
            {**c, "metric": str(c["metric"]), "bound": number(c.get("bound"))}
            for c in listed
            if "metric" in c and str(c.get("sense")) in SENSES and number(c.get("bound")) is not None
        ]

    @property
    def minimized(self) -> list[str]:
        """What is made small beside the accuracy large."""
        wanted = self.result.get("minimized")
        return [m for m in wanted if isinstance(m, str)] if isinstance(wanted, list) else []

    @property
    def networks(self) -> list[Mapping[str, Any]]:
        """What is known of each network that is handed over, the winner first."""
        return self.listed("networks")

    def listed(self, name: str) -> list[Mapping[str, Any]]:
        """The objects in a list of the result."""
        value = self.result.get(name)
        return [n for n in value if isinstance(n, Mapping)] if isinstance(value, list) else []

    @property
    def cost_metric(self) -> str:
        """What is minimized, else the metric of the first upper bound that the trials have, else the latency."""
        upper = [m for m in self.minimized if m in self.trials.columns]
        upper += [
            c["metric"] for c in self.constraints if c["sense"] == "at_most" and c["metric"] in self.trials.columns
        ]
        return upper[0] if upper else "latency_ms"

    @cached_property
    def feasible(self) -> NDArray[np.bool_]:
        """Whether each trial meets every bound whose metric the table has."""
        within = np.ones(len(self.trials), dtype=bool)
        for c in self.constraints:
            if c["metric"] in self.trials.columns:
                column = np.asarray(pd.to_numeric(self.trials[c["metric"]], errors="coerce"), dtype=np.float64)
                within &= column <= c["bound"] if c["sense"] == "at_most" else column >= c["bound"]
        return within

    @property
    def met(self) -> bool:
        """Whether there is a winner and it meets every bound."""
        if self.winner is None:
            return False
        value = self.result.get("met")
        return value if isinstance(value, bool) else all(c.get("met", True) for c in self.constraints)

    @property
    def stages(self) -> dict[str, float]:
        known = {str(name): number(value) for name, value in self.mapping("seconds").items() if name != "total"}
        return {name: value for name, value in known.items() if value is not None}

    @property
    def total_seconds(self) -> float | None:
        total = number(self.mapping("seconds").get("total"))
        return total if total is not None else sum(self.stages.values()) if self.stages else None
