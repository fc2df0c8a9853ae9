"""Pareto dominance with the constraints first: sorting into fronts, crowding and hypervolume.

Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II", IEEE Transactions
on Evolutionary Computation 6(2), 2002. Here larger is better in every direction: multiply by a sign first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgen.errors import ArchgenError

Floats = NDArray[np.float64]


def dominance(values: ArrayLike, violations: ArrayLike | None = None) -> NDArray[np.bool_]:
    """Which of `n` points dominates which, by constrained domination (Deb et al., section VI, definition 1).

    A point that meets every constraint dominates one that does not; of two that do not, the one with the smaller
    violation dominates, whatever their values; of two that do, the one that is at least as good in every direction and
    better in one. A point with a NaN violates without limit.

    Args:
        values: `n x m`, larger is better.
        violations: Summed violation of the constraints of each point, `n`, 0 where all are met; none by default.

    Returns:
        `n x n`; row `i`, column `j` says whether `i` dominates `j`.

    Raises:
        ArchgenError: `values` is not `n x m`, or there is not one violation a point.
    """
    points, broken = _points(values), _violations(values, violations)
    met = broken == 0
    better = (points[:, None] >= points[None]).all(-1) & (points[:, None] > points[None]).any(-1)
    less: NDArray[np.bool_] = broken[:, None] < broken[None]
    return np.where(met[:, None] & met[None], better, less)


def nondominated_fronts(values: ArrayLike, violations: ArrayLike | None = None) -> list[NDArray[np.intp]]:
    """Sort `n` points into fronts: each holds what nothing dominates once the fronts before it are gone.

    The fast non-dominated sort of Deb et al. (section III-A), with the dominations of all pairs counted at once.

    Args:
        values: `n x m`, larger is better.
        violations: As in `dominance`.

    Returns:
        Ascending row numbers of each front, best front first; together every row once.

    Raises:
        ArchgenError: As in `dominance`.

    Example:
        >>> [front.tolist() for front in nondominated_fronts([[1.0, 2.0], [2.0, 1.0], [0.0, 0.0]])]
        [[0, 1], [2]]
    """
    over = dominance(values, violations)
    above = over.sum(0)
    left = np.ones(len(over), dtype=bool)
    fronts = []
    while left.any():
        front = np.flatnonzero(left & (above == 0))
        fronts.append(front)
        left[front] = False
        above = above - over[front].sum(0)
    return fronts


def crowding_distance(values: ArrayLike) -> Floats:
    """How far the neighbours of each of `n` points of one front are apart (Deb et al., section III-B).

    Summed over the directions, each divided by its range; infinite for the ends of every direction.

    Args:
        values: `n x m`, finite.

    Raises:
        ArchgenError: `values` is not `n x m`.
    """
    points = _points(values)
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        ranked = column[order]
        if len(order) > 2 and ranked[-1] > ranked[0]:
            distance[order[1:-1]] += (ranked[2:] - ranked[:-2]) / (ranked[-1] - ranked[0])
        distance[order[[0, -1]] if len(order) else order] = np.inf
    return distance


def hypervolume(values: ArrayLike, reference: ArrayLike) -> float:
    """Volume that `n` points dominate above a reference point, exactly.

    By exclusive volumes (While, Bradstreet and Barone, "A fast way of calculating exact hypervolumes", IEEE
    Transactions on Evolutionary Computation 16(1), 2012): what a point adds to those after it is its own box less the
    volume of the others cut off at it.

    Args:
        values: `n x m`, larger is better; a point with a NaN adds nothing.
        reference: `m`; points that are not above it in every direction add nothing.

    Raises:
        ArchgenError: `values` is not `n x m`, or the reference is not `m` finite numbers.

    Example:
        >>> hypervolume([[3.0, 1.0], [1.0, 2.0]], reference=[0.0, 0.0])
        4.0
    """
    points, corner = _points(values), np.asarray(reference, dtype=np.float64)
    if corner.shape != points.shape[1:] or not np.isfinite(corner).all():
        raise ArchgenError(f"expected a finite reference value for each of {points.shape[1]} directions, got {corner}")
    return _volume(points[(points > corner).all(1)] - corner)


def corner_below(values: ArrayLike) -> Floats:
    """A point below all of `n` points, a corner of hypervolumes: the least of each direction less a tenth of the range.

    Args:
        values: `n x m`, at least one point, larger is better.

    Returns:
        `m`.
    """
    points = _points(values)
    return np.asarray(points.min(0) - 0.1 * np.ptp(points, 0))


def _volume(boxes: Floats) -> float:
    """Volume of the union of boxes from 0 to each of `n` points."""
    if len(boxes) == 0:
        return 0.0
    if boxes.shape[1] == 1:
        return float(boxes.max())
    front = np.unique(boxes, axis=0)
    front = front[~dominance(front).any(0)][::-1]  # the best in the first direction first: its cuts are the smallest
    return sum(float(p.prod()) - _volume(np.minimum(p, front[i + 1 :])) for i, p in enumerate(front))


def _points(values: ArrayLike) -> Floats:
    points = np.asarray(values, dtype=np.float64)
    if points.ndim != 2:
        raise ArchgenError(f"expected points of shape n x m, one column a direction, got shape {points.shape}")
    return points


def _violations(values: ArrayLike, violations: ArrayLike | None) -> Floats:
    points = _points(values)
    broken = np.zeros(len(points)) if violations is None else np.asarray(violations, dtype=np.float64)
    if broken.shape != (len(points),):
        raise ArchgenError(f"expected one violation for each of {len(points)} points, got shape {broken.shape}")
    return np.where(np.isnan(points).any(1) | np.isnan(broken), np.inf, broken)
