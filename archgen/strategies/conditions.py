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
from archgen.surrogates import Optimum, OptimumTilt, Problem, Surrogate, ascend, make_acquisition

OPTIMISM = (0.0, 1.0, 2.0)
"""Standard deviations above the surrogate's mean at which the conditions are set, from cautious to curious."""
RESTARTS = 8
"""Candidates from which an optimum is looked for, the best ones."""

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
    r"""For each :math:`\kappa` of `OPTIMISM`: near the optimum of :math:`\mu + \kappa \sigma`, and as good as there.

    The bound is ascended from the best candidates in the box of their features (`surrogates.ascend`); the optimum is a
    condition in two ways, by similarity of the features to it (`OptimumTilt`) and by the value there as a threshold.
    """
    features = problem.objective.features(candidates)
    box = torch.stack([features.min(0).values, features.max(0).values])
    tilts: list[LogTilt] = []
    for kappa in OPTIMISM:
        acquisition = make_acquisition("ucb", problem, seed=0, kappa=kappa)
        with torch.no_grad():
            order = acquisition(features[:, None]).argsort(descending=True, stable=True)
        ends, values = ascend(acquisition, features[order[:RESTARTS]], box, generator=generator)
        optimum = Optimum(ends[values.argmax()], values.max().item())
        with torch.no_grad():
            there = problem.objective.model.posterior(optimum.features[None])
        threshold = (there.mean + kappa * there.variance.sqrt()).item()
        tilts.append(
            partial(
                _near_and_good,
                similarity=OptimumTilt(problem.objective, optimum, features),
                surrogate=problem.objective,
                threshold=threshold,
            )
        )
    return tilts


def exceeds(archs: Sequence[Architecture], surrogate: Surrogate, threshold: float) -> Floats:
    """Log-probability of each architecture to have a score of at least the threshold, `b`."""
    mean, std = surrogate.predict_normalised(archs)
    log_p: Floats = norm.logcdf((mean - threshold) / std)
    return log_p


def _near_and_good(
    archs: Sequence[Architecture], similarity: OptimumTilt, surrogate: Surrogate, threshold: float
) -> Floats:
    return similarity(archs) + exceeds(archs, surrogate, threshold)
