"""Which of the evaluated are fine-tuned: by what is measured of inherited weights, by latency and exact memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from archgen.design.request import LATENCY, MEMORY
from archgen.errors import Infeasible
from archgen.hardware import LatencyMeasurement
from archgen.metrics import pareto_front
from archgen.objectives import all_met
from archgen.proxies import az_nas
from archgen.study import COMPLETE, Study, Trial

if TYPE_CHECKING:
    from archgen.design.pipeline import Design

MEASURED_AT_ONCE = 5
MEASURED_AT_MOST = 30
JOINED = ("nwot", "synflow")
"""Zero-cost proxies of the networks with inherited weights, which rank better together with the loss."""

Chosen = tuple[Trial, LatencyMeasurement]
"""Where memory is bounded or minimized, the trial has the exact one in the place of the predicted one."""


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The complete ones, the most promising first.

    Where proxies of the networks with inherited weights were measured, by AZ-NAS's sum of the logarithms of ranks of
    the loss and the proxies: single paths train each network little, and size and shape, which the loss is nearly
    blind to, tell more (`experiments/supernet_ranking.py`). One that a network lacks, as dead ones do, counts as its
    worst. Else by the accuracy, and the loss breaks ties.

    Raises:
        Infeasible: There is no complete trial.
    """
    if not trials:
        raise Infeasible("no architecture is predicted to meet the bounds, so none was evaluated; raise the bound")
    good = [trial for trial in trials if trial.state == COMPLETE]
    if not good:
        raise Infeasible("no evaluation gave a finite accuracy; look at trials.parquet, or lower the learning rate")
    proxies = [name for name in JOINED if any(name in trial.values for trial in good)]
    table = pd.DataFrame([t.values for t in good]).assign(loss=[-t.values["val_loss"] for t in good])
    joint = az_nas(table, ["loss", *proxies]).tolist() if proxies else [0.0] * len(good)
    merits = [(score, t.values["val_acc"], -t.values["val_loss"]) for score, t in zip(joint, good, strict=True)]
    order = sorted(range(len(good)), key=merits.__getitem__, reverse=True)
    return [good[i] for i in order]


def choose(design: Design, study: Study, n: int = 1) -> list[Chosen]:
    """The `n` most promising trials whose measured latency is within the bound, interval included, and whose memory is.

    They are measured a few at a time. When none of the first `MEASURED_AT_MOST` is within the bounds for sure, the best
    whose median is, else the fastest of those within the memory, else the smallest.

    Raises:
        Infeasible: There is no complete trial.
    """
    trials, bound = ranked(study.trials), design.request.at_most.get(LATENCY, np.inf)
    measured: list[Chosen] = []
    for start in range(0, min(len(trials), MEASURED_AT_MOST), MEASURED_AT_ONCE):
        some = trials[start : start + MEASURED_AT_ONCE]
        measured += _measured(design, some)
        fitting = [pair for pair in measured if _fits(design, pair)]
        sure = [pair for pair in fitting if pair[1].high_ms <= bound]
        if len(sure) >= n:
            return sure[:n]
    if not fitting:
        return [min(measured, key=lambda pair: pair[0].values[MEMORY])]
    likely = [pair for pair in fitting if pair[1].latency_ms <= bound]
    return sure or (likely[:1] if likely else [min(fitting, key=lambda pair: pair[1].latency_ms)])


def _measured(design: Design, trials: Sequence[Trial]) -> list[Chosen]:
    archs = [trial.arch for trial in trials]
    latencies = design.measure(archs)
    if MEMORY in design.request.metrics:
        exact = design.memory(archs)
        trials = [replace(t, values={**t.values, MEMORY: mb}) for t, mb in zip(trials, exact, strict=True)]
    return list(zip(trials, latencies, strict=True))


def _fits(design: Design, chosen: Chosen) -> bool:
    """Whether the exact memory is within the bound, where there is one."""
    bound = design.request.at_most.get(MEMORY)
    return bound is None or chosen[0].values[MEMORY] <= bound


def choose_set(design: Design, study: Study) -> list[Chosen]:
    """Up to `networks` trials of the Pareto front, the most accurate first, spread evenly over it.

    The front of what is predicted is measured, and what then breaks a bound on latency or memory, or is dominated, is
    left out and replaced by what lies farthest from the others on the front; at most twice as many are measured. When
    nothing is left, the one that `choose` gives.

    Raises:
        Infeasible: There is no complete trial.
    """
    directions, objectives, n = design.request.directions, design.request.objectives, design.request.networks
    good = [t for t in study.trials if t.state == COMPLETE and all_met(objectives, t.values)]
    signs = [wish.sign for wish in directions]
    points = [[t.values[wish.metric] for wish in directions] for t in good]
    front = [good[i] for i in pareto_front(points, signs)] if good else []
    front.sort(key=lambda t: -t.values["val_acc"])
    bound = design.request.at_most.get(LATENCY, np.inf)
    known: dict[int, Chosen] = {}
    kept: list[int] = []
    while wanted := _spread(len(front), kept, known, min(n - len(kept), 2 * n - len(known))):
        known |= zip(wanted, _measured(design, [front[i] for i in wanted]), strict=True)
        within = sorted(i for i, pair in known.items() if pair[1].latency_ms <= bound and _fits(design, pair))
        pairs = [known[i] for i in within]
        values = [[{**t.values, LATENCY: ms.latency_ms}[w.metric] for w in directions] for t, ms in pairs]
        kept = [within[i] for i in pareto_front(values, signs)] if within else []
    return [known[i] for i in sorted(kept)] or choose(design, study)


def _spread(length: int, kept: Sequence[int], known: Collection[int], n: int) -> list[int]:
    """At most `n` places of a sorted front that are not known: evenly with both ends, then far from what is kept."""
    if not known:
        places = np.linspace(0, length - 1, min(n, length)).round().astype(int)
        return list(dict.fromkeys(places.tolist()))
    picked: list[int] = []
    while len(picked) < n and (free := [i for i in range(length) if i not in known and i not in picked]):
        picked.append(max(free, key=lambda i: min((abs(i - j) for j in (*kept, *picked)), default=0)))
    return picked
