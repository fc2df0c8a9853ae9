"""Which choices of a space labels show to be worse, by SHAP values of trees (after GBDT-NAS, arXiv 2007.04785)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.predictors.base import Floats
from archgen.predictors.choice_features import ChoiceEncoder
from archgen.predictors.gbdt import boost, shap_values
from archgen.predictors.normal_scores import NormalScores
from archgen.spaces import SearchSpace

RESAMPLES = 40
"""Bootstrap resamples of the labels, an ensemble member each."""
LEVEL = 0.05
"""Chance that anything at all is dropped where no choice matters."""
FEWEST = 20


@dataclass(frozen=True)
class Evidence:
    """What one value of a variable contributes to the prediction.

    Args:
        variable: Name of the variable.
        value: One of its values.
        count: Labelled architectures that have it.
        mean: Mean contribution, in standard deviations of the normal scores of the target; below 0 is worse.
        error: Standard error of the mean.
        dropped: Whether the value is dropped.
        reason: Why, in words.
    """

    variable: str
    value: str
    count: int
    mean: float
    error: float
    dropped: bool
    reason: str


def contributions_of(
    space: SearchSpace, archs: Sequence[Architecture], y: Floats, *, seed: int = 0, resamples: int = RESAMPLES
) -> Floats:
    """Mean SHAP value of each value of each variable, in trees fitted to each of some bootstrap resamples.

    The trees see the one-hot choices as written. The SHAP values of an architecture's choice are those of the
    variable's indicators together: indicators exclude each other, and trees may split on any of them for the same
    effect. They are exact (LightGBM's TreeSHAP), and those of all variables add up to the prediction less its mean.

    Args:
        space: The space.
        archs: `n` architectures.
        y: Their values, higher is better, `n`.
        seed: Draws the resamples.
        resamples: How many, at least 2.

    Returns:
        `resamples x d`, the values of the variables in order; 0 for a value that no architecture has.
    """
    encoder = ChoiceEncoder(space)
    rows: Floats = encoder(archs).numpy()
    z = NormalScores(np.asarray(y, dtype=float)).scores
    rng = np.random.default_rng(seed)
    counts = rows.sum(0)
    found = np.zeros((resamples, encoder.width))
    for i in range(resamples):
        drawn = rng.integers(len(z), size=len(z))
        member = boost(rows[drawn], z[drawn], seed=seed + i)
        shap = shap_values(member, rows)
        for columns in encoder.columns.values():
            together = shap[:, columns].sum(1)
            found[i, columns] = rows[:, columns].T @ together
    means: Floats = found / np.maximum(counts, 1)
    return means


def weigh(
    variables: Mapping[str, Sequence[str]], contributions: Floats, counts: Sequence[int], *, keep: float = 0.5
) -> list[Evidence]:
    r"""Decide which values to drop.

    The published rule drops the values with the lowest mean SHAP value among those below zero, as many as asked for.
    Here a value must be *reliably* below zero: its mean over the resamples lies at least `z` of their standard
    deviations under it, with :math:`\Phi(-z) = 0.05 / m` for the `m` values of all variables (Bonferroni), so that
    where nothing matters something is dropped with a chance of about 5 %. Of each variable the best
    :math:`\lceil keep \cdot values \rceil` stay in any case, at least one.

    Args:
        variables: Values of each variable.
        contributions: Of each value in each of `r` resamples, `r x m`; 0 for one that was never seen.
        counts: How many labelled architectures have each value, `m`; one that none has is kept.
        keep: Least share of each variable's values that stay, in (0, 1].

    Returns:
        One entry a value, in order.

    Raises:
        ArchgenError: `keep` is not in (0, 1].
    """
    _check_share(keep)
    means, errors = contributions.mean(0), contributions.std(0, ddof=1)
    z = float(norm.isf(LEVEL / contributions.shape[1]))
    found: list[Evidence] = []
    start = 0
    for variable, values in variables.items():
        here = range(start, start + len(values))
        seen = [i for i in here if counts[i]]
        least = max(math.ceil(keep * len(values)), 1)
        by_merit = sorted(here, key=lambda i: (counts[i] == 0, means[i]), reverse=True)  # unseen ones first: unknown
        for i, value in zip(here, values, strict=True):
            reliable = means[i] + z * errors[i] < 0 and errors[i] > 0
            dropped = False
            if i not in seen:
                reason = "kept: no labelled architecture has it"
            elif not reliable:
                reason = "kept: better than the mean" if means[i] >= 0 else "kept: not reliably worse than the mean"
            elif by_merit.index(i) < least:
                reason = f"kept: worse than the mean, but among the best {least}, which always stay"
            else:
                dropped, reason = True, "dropped: reliably worse than the mean"
            found.append(Evidence(variable, value, int(counts[i]), float(means[i]), float(errors[i]), dropped, reason))
        start += len(values)
    return found


def prune(
    space: SearchSpace,
    archs: Sequence[Architecture],
    y: Floats,
    *,
    keep: float = 0.5,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Evidence]:
    """Which values of the variables of a space to drop, judged by labelled architectures.

    Choices that always go together (the slots of a block that a shallower stage leaves out) share what they
    contribute, so a depth is only dropped where its share for one of them is plain enough.

    The second-order rule of the paper, which drops pairs by SHAP interaction values, is not done: LightGBM has no such
    values, and the released code applies them to single choices in the end.

    Args:
        space: The space.
        archs: `n` distinct architectures, at least 20.
        y: Their values, higher is better, `n`.
        keep: Least share of each variable's values that stay.
        seed: Draws the resamples.
        resamples: How many of the labels; with few, how reliable a mean is is itself known less well.

    Raises:
        ArchgenError: Too few architectures, values that are not finite or all the same, or `keep` outside (0, 1].
    """
    y = np.asarray(y, dtype=float)
    _check_share(keep)
    if len(archs) != len(y) or len(y) < FEWEST:
        raise ArchgenError(f"expected values of at least {FEWEST} architectures to prune by, got {len(y)}")
    if not np.isfinite(y).all() or np.ptp(y) == 0:
        raise ArchgenError("expected finite values that are not all the same; nothing can be told from these")
    counts = ChoiceEncoder(space)(archs).numpy().sum(0).astype(int)
    found = contributions_of(space, archs, y, seed=seed, resamples=resamples)
    return weigh(space.variables, found, counts.tolist(), keep=keep)


def _check_share(keep: float) -> None:
    if not 0 < keep <= 1:
        raise ArchgenError(f"the share of values to keep must be above 0 and at most 1, got {keep:g}")


def kept_values(evidence: Sequence[Evidence]) -> dict[str, tuple[str, ...]]:
    """Values that are left of each variable that loses some."""
    losing = dict.fromkeys(e.variable for e in evidence if e.dropped)
    return {v: tuple(e.value for e in evidence if e.variable == v and not e.dropped) for v in losing}
