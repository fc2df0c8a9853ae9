"""Figures of merit: Pareto fronts, regret, relative improvement, validity and uniqueness.

Rank correlations are scipy's own (`scipy.stats.kendalltau`, `spearmanr`); nothing here wraps them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgen.errors import ArchgenError
from archgen.graph import Architecture


def pareto_front(points: ArrayLike, signs: Sequence[int]) -> NDArray[np.intp]:
    """Indices of the points that no other point dominates.

    A point dominates another when it is at least as good in every objective and better in one. Of points that are
    equal in every objective only the first is kept; a point with a NaN is never on the front.

    Args:
        points: `n x m` values.
        signs: For each of the `m` objectives +1 where more is better, -1 where less is.

    Returns:
        Ascending row numbers.

    Raises:
        ArchgenError: `points` is not `n x m`, or a sign is neither +1 nor -1.

    Example:
        >>> pareto_front([[1.0, 90.0], [2.0, 95.0], [3.0, 94.0]], signs=(-1, 1)).tolist()
        [0, 1]
    """
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(signs):
        raise ArchgenError(f"expected points of shape n x {len(signs)}, one column a sign, got shape {values.shape}")
    if any(sign not in (-1, 1) for sign in signs):
        raise ArchgenError(f"signs must be +1 (more is better) or -1 (less is better), got {list(signs)}")
    values = values * np.asarray(signs, dtype=np.float64)
    # Best first, ties in their own order (lexsort is stable): no point can be dominated by one that comes later.
    order = np.lexsort(-values.T[::-1])
    front = np.empty_like(values)
    kept: list[int] = []
    for i in order[~np.isnan(values[order]).any(axis=1)]:
        if not (front[: len(kept)] >= values[i]).all(axis=1).any():
            front[len(kept)] = values[i]
            kept.append(int(i))
    return np.sort(np.array(kept, dtype=np.intp))


def regret_curve(values: ArrayLike, best: float, maximize: bool = True) -> NDArray[np.float64]:
    """How far the best value so far is from the best there is, after each evaluation.

    Args:
        values: `n` values in the order evaluated; NaN where an evaluation failed.
        best: The best value of the whole space, in the same unit.
        maximize: Whether more is better.

    Returns:
        `n` regrets, never rising; NaN until the first evaluation that did not fail.

    Raises:
        ArchgenError: `values` is not one row of numbers, or `best` is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ArchgenError(f"expected one row of values in the order evaluated, got shape {array.shape}")
    if not math.isfinite(best):
        raise ArchgenError(f"the best value must be a finite number, got {best}")
    sign = 1.0 if maximize else -1.0
    curve: NDArray[np.float64] = sign * best - np.fmax.accumulate(sign * array)
    return curve


def relative_improvement(accuracy: float, random_mean: float) -> float:
    """`100 (a - r) / r`: improvement over the average random architecture, in percent.

    Yang, Esperança and Carlucci, "NAS evaluation is frustratingly hard", arXiv 1912.12522, equation 1.

    Args:
        accuracy: `a`, of the architecture that was found.
        random_mean: `r`, mean accuracy of architectures drawn at random, in the same unit; above 0.

    Raises:
        ArchgenError: `random_mean` is not above 0.
    """
    if not random_mean > 0:
        raise ArchgenError(f"the mean accuracy of random architectures must be above 0, got {random_mean}")
    return 100.0 * (accuracy - random_mean) / random_mean


def validity_uniqueness(
    archs: Sequence[Architecture | None], canonical: Callable[[Architecture], Hashable] | None = None
) -> dict[str, float]:
    """Share of samples that are architectures at all, and of distinct ones among those (arXiv 2305.16943).

    Args:
        archs: Samples, None where a sample is not a point of the space (as `SearchSpace.decode` returns).
        canonical: What counts as the same, such as `space.canonical`; None compares the architectures themselves.

    Returns:
        `valid`, percent of all samples; `unique`, percent of the valid ones (0 when none is valid).

    Raises:
        ArchgenError: There are no samples.
    """
    if not archs:
        raise ArchgenError("validity needs at least one sample, got none; draw some first")
    valid = [arch for arch in archs if arch is not None]
    distinct = {arch if canonical is None else canonical(arch) for arch in valid}
    return {
        "valid": 100.0 * len(valid) / len(archs),
        "unique": 100.0 * len(distinct) / len(valid) if valid else 0.0,
    }
