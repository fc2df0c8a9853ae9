"""Statistics over the seeds of an experiment: bootstrap intervals, paired tests, evaluations until a goal.

What is compared are runs, one a seed, never single evaluations of a run: those depend on each other. An infinite value
is a run that has not got there, and counts as the worst.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata, wilcoxon

from archgen.errors import ArchgenError

Floats = NDArray[np.float64]
RESAMPLES = 10_000


class Interval(NamedTuple):
    """An estimate and the ends of its interval; all three of one shape."""

    value: Floats
    low: Floats
    high: Floats


class SignedRank(NamedTuple):
    """What `signed_rank` says of pairs."""

    p: float
    """Two-sided; 1 where no pair differs."""
    effect: float
    """Matched-pairs rank-biserial correlation: 1 where the first is larger in every pair, -1 where smaller."""
    larger: int
    smaller: int
    """Pairs whose first is larger, smaller; the others are equal."""


def mean_interval(
    values: ArrayLike, *, level: float = 0.95, resamples: int = RESAMPLES, rng: np.random.Generator
) -> Interval:
    """Mean over seeds, with a percentile bootstrap interval (Efron, "Bootstrap methods", 1979).

    All columns share their resamples, as whole runs are drawn anew.

    Args:
        values: `s` or `s x n` values, a row a seed; infinite ones make the means that they enter infinite.
        level: Of the interval, in (0, 1).
        resamples: Bootstrap samples.
        rng: Draws them.

    Returns:
        Mean and ends, scalars or `n`.

    Raises:
        ArchgenError: No seeds, a NaN, or a level outside (0, 1).
    """
    array = _checked(values, level)
    counts = rng.multinomial(len(array), np.full(len(array), 1 / len(array)), size=resamples)
    infinite = np.isposinf(array)
    means = counts @ np.where(infinite, 0.0, array) / len(array)
    means[counts @ infinite > 0] = np.inf
    return Interval(array.mean(0), *_ends(means, level))


def median_interval(
    values: ArrayLike, *, level: float = 0.95, resamples: int = RESAMPLES, rng: np.random.Generator
) -> Interval:
    """Median over seeds, with a percentile bootstrap interval; of evaluations until a goal, say, where some never end.

    Args:
        values: `s` values, one a seed, infinite where a run has failed.
        level, resamples, rng: As in `mean_interval`.

    Raises:
        ArchgenError: As `mean_interval`.
    """
    array = _checked(values, level)
    medians = np.median(array[rng.integers(len(array), size=(resamples, len(array)))], axis=1)
    return Interval(np.asarray(np.median(array, axis=0)), *_ends(medians, level))


def _checked(values: ArrayLike, level: float) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or len(array) == 0 or np.isnan(array).any():
        raise ArchgenError(f"expected a value for each of at least one seed and no NaN, got shape {array.shape}")
    if not 0 < level < 1:
        raise ArchgenError(f"the level of an interval must lie between 0 and 1, got {level}")
    return array


def _ends(resampled: Floats, level: float) -> tuple[Floats, Floats]:
    """Quantiles that are observed ones: between a finite and an infinite value there is nothing to interpolate."""
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0, method="inverted_cdf")
    return np.asarray(low), np.asarray(high)


def signed_rank(first: ArrayLike, second: ArrayLike) -> SignedRank:
    """Wilcoxon's signed-rank test of paired values, zeros treated as Pratt does (scipy's `wilcoxon`).

    Recommended for two algorithms over many problems or seeds by Demsar, "Statistical comparisons of classifiers over
    multiple data sets", JMLR 2006. The effect is that of Kerby, "The simple difference formula", 2014, over all ranks,
    so that pairs which do not differ shrink it.

    Args:
        first, second: `s` values each, paired by seed; two infinite ones are equal.

    Raises:
        ArchgenError: Different or no numbers of values, or a NaN.

    Example:
        >>> signed_rank([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 4.0, 6.0, 8.0, 10.0])
        SignedRank(p=0.0625, effect=-1.0, larger=0, smaller=5)
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not a.size or np.isnan(a).any() or np.isnan(b).any():
        raise ArchgenError(f"expected pairs of values without NaN, got shapes {a.shape} and {b.shape}")
    difference = np.where(a == b, 0.0, a - np.where(a == b, 0.0, b))  # inf - inf would be NaN
    larger, smaller = difference > 0, difference < 0
    if not (larger | smaller).any():
        return SignedRank(1.0, 0.0, 0, 0)
    ranks = rankdata(np.abs(difference))
    effect = float((ranks[larger].sum() - ranks[smaller].sum()) / ranks.sum())
    p = float(wilcoxon(difference, zero_method="pratt").pvalue)
    return SignedRank(p, effect, int(larger.sum()), int(smaller.sum()))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values of several tests: together they err with at most the level (Holm, 1979).

    Args:
        p: p values, in any order.

    Returns:
        The adjusted ones, in the order given, at most 1.

    Example:
        >>> holm([0.25, 0.125, 0.0625])
        [0.25, 0.25, 0.1875]
    """
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(x) for x in adjusted]


def first_within(gaps: ArrayLike, tolerance: float = 1e-9) -> Floats:
    """Evaluations until the gap to a goal is at most `tolerance`, counted from 1; infinite where it never is.

    Args:
        gaps: `s x n`: of each seed the gap after each evaluation.
        tolerance: In the gaps' unit.

    Raises:
        ArchgenError: `gaps` is not a table.
    """
    array = np.asarray(gaps, dtype=np.float64)
    if array.ndim != 2:
        raise ArchgenError(f"expected gaps of shape seeds x evaluations, got shape {array.shape}")
    there = array <= tolerance
    return np.where(there.any(1), there.argmax(1) + 1.0, np.inf)
