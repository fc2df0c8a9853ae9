"""What a design's result says, in words: what was asked, what was found, is the bound met, how sure is that."""

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
from archgen.plots import metric_name, with_unit

_SENSES = {"at_most": "at most", "at_least": "at least"}


def number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    return float(value) if math.isfinite(value) else None


def seconds_in_words(seconds: float) -> str:
    """`41 s`, `4 min 40 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def wilson_interval(accuracy: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share of `n` trials, in percent, at 95 % for the default `z`."""
    p = accuracy / 100
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return 100 * (middle - half), 100 * (middle + half)


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
        """First trial of the winner: of its text, or one whose dead operations were cut off for the winner."""
        if self.winner is None or "arch" not in self.trials.columns:
            return None
        wanted = str(self.winner.get("arch"))
        texts = self.trials["arch"].astype(str)
        rows = np.flatnonzero((texts == wanted).to_numpy())
        if not rows.size:
            rows = np.flatnonzero([text == wanted for text in self._simplified(texts)])
        return int(rows[0]) if rows.size else None

    def _simplified(self, texts: Iterable[str]) -> Iterator[str | None]:
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
    def interval(self) -> tuple[float, float] | None:
        value = (self.winner or {}).get("latency_interval")
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
            if "metric" in c and str(c.get("sense")) in _SENSES and number(c.get("bound")) is not None
        ]

    @property
    def cost_metric(self) -> str:
        """What is minimized, else the metric of the first upper bound that the trials have, else the latency."""
        wanted = self.result.get("minimized")
        upper = [m for m in (wanted if isinstance(wanted, list) else []) if m in self.trials.columns]
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


@dataclass(frozen=True)
class Verdict:
    """A headline and the answers to the four questions that come first."""

    met: bool
    headline: str
    answers: list[tuple[str, str]]


def verdict(facts: Facts) -> Verdict:
    """Say what was asked, what was found, whether the bounds are met, and how sure that is."""
    several = "bounds" if len(facts.constraints) > 1 else "bound"
    if facts.winner is None:
        headline = "Nothing met the " + several if facts.constraints else "Nothing was found"
    elif not facts.met:
        headline = f"The best network found breaks the {several}"
    else:
        headline = f"Found, and within the {several}" if facts.constraints else "Found"
    answers = [
        ("Asked", _asked(facts)),
        ("Found", _found(facts)),
        ("Bound", _bounds(facts)),
        ("How sure", _sure(facts)),
    ]
    return Verdict(facts.met, headline, answers)


def _asked(facts: Facts) -> str:
    classes = facts.mapping("data").get("classes")
    count = len(classes) if isinstance(classes, list | tuple) else number(classes)
    of = f" ({count:.0f} classes)" if count else ""
    bounds = [f"{metric_name(c['metric'])[0]} {_SENSES[c['sense']]} {_bounded(c)}" for c in facts.constraints]
    where = f" of the space {facts.result['space']}" if facts.result.get("space") else ""
    under = f", with {' and '.join(bounds)}" if bounds else ", without a bound"
    return f"The most accurate architecture{where} for {facts.data}{of}{under}."


def _found(facts: Facts) -> str:
    tried = number(facts.result.get("evaluations"))
    among = f" after {tried:,.0f} evaluations" if tried is not None else ""
    if facts.winner is None:
        return f"No architecture within every bound{among}. {_nearest(facts)}".strip()
    parts = []
    if (test := number(facts.winner.get("test_acc"))) is not None:
        parts.append(f"{with_unit(test, 'test_acc')} of the test images are classified correctly")
    elif (val := number(facts.winner.get("val_acc"))) is not None:
        parts.append(f"{with_unit(val, 'val_acc')} of the validation images are classified correctly")
    if facts.latency is not None:
        parts.append(f"one image takes {with_unit(facts.latency, 'latency_ms')} on this machine")
    said = "; ".join(parts) or "an architecture without measured metrics"
    return f"{said[0].upper()}{said[1:]}{among and ','}{among}."


def _nearest(facts: Facts) -> str:
    said = []
    for c in facts.constraints:
        if c["metric"] in facts.trials.columns:
            column = pd.to_numeric(facts.trials[c["metric"]], errors="coerce")
            reach = number(float(column.min() if c["sense"] == "at_most" else column.max())) if len(column) else None
            if reach is not None:
                word = "smallest" if c["sense"] == "at_most" else "largest"
                said.append(f"The {word} {metric_name(c['metric'])[0]} tried was {with_unit(reach, c['metric'])}.")
    return " ".join(said)


def _bounds(facts: Facts) -> str:
    if facts.winner is None:
        return "Not met. Loosen it, or allow more evaluations." if facts.constraints else ""
    said = []
    for c in facts.constraints:
        value = number(c.get("value", facts.winner.get(c["metric"])))
        name = metric_name(c["metric"])[0].capitalize()
        if value is None:
            said.append(f"{name} was not measured.")
            continue
        slack = (c["bound"] - value) * (1 if c["sense"] == "at_most" else -1)
        share = f"{100 * abs(slack) / abs(c['bound']):.1f} %" if c["bound"] else with_unit(abs(slack), c["metric"])
        state = f"met with {share} to spare" if slack >= 0 else f"broken by {share}"
        said.append(f"{name} {with_unit(value, c['metric'])}, {_SENSES[c['sense']]} {_bounded(c)}: {state}.")
    return " ".join(said)


def _sure(facts: Facts) -> str:
    if facts.winner is None:
        return ""
    said = []
    limits = [c["bound"] for c in facts.constraints if c["metric"] == "latency_ms" and c["sense"] == "at_most"]
    if facts.interval is not None:
        low, high = facts.interval
        place = ""
        if limits:
            bound = min(limits)
            place = (
                ", all of it within the bound"
                if high <= bound
                else (", which reaches across the bound" if low <= bound else ", all of it beyond the bound")
            )
        said.append(f"The interval of the measured latency is {low:.3g} to {high:.3g} ms{place}.")
    n, test = facts.test_images, number(facts.winner.get("test_acc"))
    if test is not None and n is not None and 0 <= test <= 100:
        low, high = wilson_interval(test, n)
        said.append(
            f"The {n:,.0f} test images were used once, for this figure; its 95 % interval is {low:.1f} to {high:.1f} %."
        )
    return " ".join(said)


def _bounded(constraint: Mapping[str, Any]) -> str:
    return with_unit(constraint["bound"], constraint["metric"])
