"""Conditions of the generative strategy: an acquisition function's wish as log-weights for a generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from scipy.stats import norm

from archgen.graph import Architecture
from archgen.predictors.base import Floats
from archgen.registry import Registry
from archgen.surrogates import OptimumTilt, Problem, Surrogate, ascend, make_acquisition

OPTIMISM = (0.0, 1.0, 2.0)
"""Standard deviations above the surrogate's mean at which the conditions are set, from cautious to curious."""
RESTARTS = 8
"""Candidates from which an optimum is looked for, the best ones."""
STEPS = 40
"""Of the ascent, at most."""

LogTilt = Callable[[Sequence[Architecture]], Floats]
MakeTilts = Callable[[Problem, Sequence[Architecture], torch.Generator], list[LogTilt]]

CONDITIONS: Registry[MakeTilts] = Registry("condition")
"""Functions of a problem with fitted surrogates, some candidates and a source of randomness, by name."""


@CONDITIONS.register("candidates")
def candidate_conditions(
    problem: Problem, candidates: Sequence[Architecture], generator: torch.Generator
) -> list[LogTilt]:
    r"""For each :math:`\kappa` of `OPTIMISM`: at least the largest :math:`\mu + \kappa \sigma` of the candidates.

    Only candidates count that meet the bounds rather than not, or as probably as any.
    """
    mean, std = problem.objective.predict_normalised(candidates)
    weight = np.zeros(len(candidates))
    for surrogate, wish in problem.constraints:
        weight = weight + surrogate.log_probability(candidates, wish)
    likely = weight >= min(np.log(0.5), weight.max())
    return [
        partial(exceeds, surrogate=problem.objective, threshold=float((mean + kappa * std)[likely].max()))
        for kappa in OPTIMISM
    ]


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


def exceeds(archs: Sequence[Architecture], surrogate: Surrogate, threshold: float) -> Floats:
    """Log-probability of each architecture to have a score of at least the threshold, `b`."""
    mean, std = surrogate.predict_normalised(archs)
    log_p: Floats = norm.logcdf((mean - threshold) / std)
    return log_p


def _both(archs: Sequence[Architecture], one: LogTilt, other: LogTilt) -> Floats:
    total: Floats = one(archs) + other(archs)
    return total
