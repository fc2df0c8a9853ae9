"""What a design's result says, in words: what was asked, what was found, is the bound met, how sure is that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from archgen.plots import metric_name, with_unit
from archgen.report.facts import SENSES, Facts, number

DRIFTED = 0.1
"""Relative change of the machine's speed in a run above which the report tells it."""


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
class Verdict:
    """A headline and the answers to the questions that come first, empty where one does not arise."""

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
        ("Time", _time(facts)),
        ("Found", _found(facts)),
        ("Bound", _bounds(facts)),
        ("How sure", _sure(facts)),
    ]
    return Verdict(facts.met, headline, answers)


def _asked(facts: Facts) -> str:
    classes = facts.mapping("data").get("classes")
    count = len(classes) if isinstance(classes, list | tuple) else number(classes)
    of = f" ({count:.0f} classes)" if count else ""
    bounds = [f"{metric_name(c['metric'])[0]} {SENSES[c['sense']]} {_bounded(c)}" for c in facts.constraints]
    where = f" of the space {facts.result['space']}" if facts.result.get("space") else ""
    under = f", with {' and '.join(bounds)}" if bounds else ", without a bound"
    if limit := number(facts.mapping("request").get("time_limit")):
        under += f", within {seconds_in_words(limit)}"
    if facts.minimized:
        costs = " and ".join(metric_name(metric)[0] for metric in facts.minimized)
        best = f"that trade accuracy against {costs} best: a Pareto set"
        return f"Architectures{where} for {facts.data}{of} {best}{under}."
    return f"The most accurate architecture{where} for {facts.data}{of}{under}."


def _time(facts: Facts) -> str:
    """What a time limit cut."""
    request, plan = facts.mapping("request"), facts.mapping("plan")
    if not (limit := number(request.get("time_limit"))):
        return ""
    parts = [
        ("measured latencies", plan.get("measured"), None if request.get("latency") else request.get("measured")),
        ("epochs of the supernet planned", plan.get("epochs"), request.get("epochs")),
        ("evaluations made", facts.result.get("evaluations"), request.get("budget")),
    ]
    known = [(what, number(done), number(asked)) for what, done, asked in parts]
    cut = [f"{done:,.0f} of {asked:,.0f} {what}" for what, done, asked in known if done and asked and done < asked]
    words = seconds_in_words(limit)
    if not cut:
        return f"All epochs and evaluations that were asked for fitted into {words}."
    return f"The {words} allowed less than was asked for: {', '.join(cut)}. Fine-tuning took what was left."


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
        takes = with_unit(facts.latency, "latency_ms")
        there = f"one image is predicted to take {takes} on the device of {facts.table}"
        parts.append(there if facts.table else f"one image takes {takes} on this machine")
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
        predicted = "predicted " if facts.table and c["metric"] == "latency_ms" else ""
        name = f"{predicted}{metric_name(c['metric'])[0]}".capitalize()
        if value is None:
            said.append(f"{name} was not measured.")
            continue
        slack = (c["bound"] - value) * (1 if c["sense"] == "at_most" else -1)
        share = f"{100 * abs(slack) / abs(c['bound']):.1f} %" if c["bound"] else with_unit(abs(slack), c["metric"])
        state = f"met with {share} to spare" if slack >= 0 else f"broken by {share}"
        said.append(f"{name} {with_unit(value, c['metric'])}, {SENSES[c['sense']]} {_bounded(c)}: {state}.")
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
        kind = "95 % interval of the measured" if facts.table is None else "90 % interval of the predicted"
        said.append(f"The {kind} latency is {low:.3g} to {high:.3g} ms{place}.")
    then, now = (number(facts.mapping("reference").get(name)) for name in ("then_ms", "now_ms"))
    if then and now and abs(then / now - 1) > DRIFTED:
        said.append(
            f"At the end the machine was {then / now:.2f} times as fast as when latencies were first measured (a "
            f"reference network took {now:.3g} ms, {then:.3g} ms before); all are given for its speed of before."
        )
    n, test = facts.test_images, number(facts.winner.get("test_acc"))
    if test is not None and n is not None and 0 <= test <= 100:
        low, high = wilson_interval(test, n)
        said.append(
            f"The {n:,.0f} test images were used once, for this figure; its 95 % interval is {low:.1f} to {high:.1f} %."
        )
    return " ".join(said)


def _bounded(constraint: Mapping[str, Any]) -> str:
    percent = number(constraint.get("percent"))
    of_all = "" if percent is None else f" ({percent:g} % of random architectures meet it)"
    return with_unit(constraint["bound"], constraint["metric"]) + of_all
