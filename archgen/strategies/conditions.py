"""Conditions of the generative strategy: an acquisition function's wish as log-weights for a generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from scipy.stats import norm

from archgen.generators.guidance import LogTilt
from archgen.graph import Architecture
from archgen.pareto import corner_below, hypervolume, nondominated_fronts
from archgen.predictors.base import Floats
from archgen.registry import Registry
from archgen.surrogates import OptimumTilt, Problem, Surrogate, ascend, make_acquisition

OPTIMISM = (0.0, 1.0, 2.0)
"""Standard deviations above the surrogate's mean at which the conditions are set, from cautious to curious."""
RESTARTS = 8
"""Candidates from which an optimum is looked for, the best ones."""
STEPS = 40
"""Of the ascent, at most."""

MakeTilts = Callable[[Problem, Sequence[Architecture], torch.Generator], list[LogTilt]]

CONDITIONS: Registry[MakeTilts] = Registry("condition")
"""Functions of a problem with fitted surrogates, some candidates and a source of randomness, by name."""


@CONDITIONS.register("candidates")
def candidate_conditions(
    problem: Problem, candidates: Sequence[Architecture], generator: torch.Generator
) -> list[LogTilt]:
    r"""For each :math:`\kappa` of `OPTIMISM`: at least the best :math:`\mu + \kappa \sigma` of the candidates.

    With several objectives the best is what adds most hypervolume to the front of what is known, in the metrics'
    units; each choice counts as known for the next, so that the conditions ask for different trade-offs. Only
    candidates count that meet the bounds rather than not, or as probably as any.
    """
    beliefs = [surrogate.predict_normalised(candidates) for surrogate in problem.objectives]
    mean, std = (np.stack(columns, 1) for columns in zip(*beliefs, strict=True))
    weight = np.zeros(len(candidates))
    for surrogate, wish in problem.constraints:
        weight = weight + surrogate.log_probability(candidates, wish)
    likely = weight >= min(np.log(0.5), weight.max())
    known = np.array(problem.feasible, dtype=float).reshape(-1, len(problem.objectives))
    tilts: list[LogTilt] = []
    for kappa in OPTIMISM:
        bounds = (mean + kappa * std)[likely]
        values = np.stack([s.denormalise(c) for s, c in zip(problem.objectives, bounds.T, strict=True)], 1)
        best = most_improving(values, known)
        known = np.vstack([known, values[best]])
        tilts.append(partial(exceeds, surrogates=problem.objectives, thresholds=bounds[best]))
    return tilts


def most_improving(points: Floats, known: Floats) -> int:
    """Row of the point that adds most hypervolume to known ones; of the largest sum where none adds any.

    Args:
        points: `b x m`, larger is better.
        known: `k x m`; volumes are above a corner below all points (`pareto.corner_below`).
    """
    corner = corner_below(np.vstack([points, known]))
    front = nondominated_fronts(points)[0]
    before = hypervolume(known, corner)
    gains = [hypervolume(np.vstack([known, points[i]]), corner) - before for i in front]
    return int(front[np.argmax(gains)]) if max(gains) > 0 else int(points.sum(1).argmax())


@CONDITIONS.register("gobi")
def optimum_conditions(
    problem: Problem, candidates: Sequence[Architecture], generator: torch.Generator
) -> list[LogTilt]:
    r"""For each :math:`\kappa` of `OPTIMISM`: the condition of the candidates, and near the optimum of the same bound.

    The bound is ascended from the best candidates in the box of their features (`surrogates.ascend`), and the optimum
    attracts what has similar features (`OptimumTilt`). The value at the optimum is no threshold: it is of no
    architecture and mostly out of reach, and how probable it is to exceed what is out of reach says how uncertain an
    architecture is, not how good.
    """
    features = problem.objective.features(candidates)
    box = torch.stack([features.min(0).values, features.max(0).values])
    tilts: list[LogTilt] = []
    for kappa, good in zip(OPTIMISM, candidate_conditions(problem, candidates, generator), strict=True):
        acquisition = make_acquisition("ucb", problem, seed=0, kappa=kappa)
        with torch.no_grad():
            order = acquisition(features[:, None]).argsort(descending=True, stable=True)
        ends, values = ascend(acquisition, features[order[:RESTARTS]], box, steps=STEPS, generator=generator)
        near = OptimumTilt(problem.objective, ends[values.argmax()], features)
        tilts.append(partial(_both, one=good, other=near))
    return tilts


def exceeds(archs: Sequence[Architecture], surrogates: Sequence[Surrogate], thresholds: Floats) -> Floats:
    """Log-probability of each architecture to have scores of at least the thresholds, `b`; beliefs are independent."""
    total = np.zeros(len(archs))
    for surrogate, threshold in zip(surrogates, thresholds, strict=True):
        mean, std = surrogate.predict_normalised(archs)
        total = total + norm.logcdf((mean - threshold) / std)
    return total


def _both(archs: Sequence[Architecture], one: LogTilt, other: LogTilt) -> Floats:
    total: Floats = one(archs) + other(archs)
    return total
