"""Gaps to the optimum by evaluations: regret of one direction, missed hypervolume of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from archgen import pareto
from archgen.errors import ArchgenError, InvalidObjective
from archgen.metrics import pareto_front, regret_curve
from archgen.objectives import Objective, check, directions
from archgen.runs import Runs

Floats = NDArray[np.float64]
REGRET, MISSED = "regret", "missed_hypervolume"


@dataclass(frozen=True)
class Gaps:
    """How far the best so far of each run is from the best there is.

    Args:
        name: `regret`, in the metric's unit, or `missed_hypervolume`, the share of the best one that is not reached.
        values: Of each strategy `seeds x budget`, never rising; infinite before anything that meets the bounds.
        best: The optimum, or the best hypervolume.
        reference_point: Of the hypervolume, in the metrics' units.
    """

    name: str
    values: dict[str, Floats]
    best: float
    reference_point: tuple[float, ...] = ()


def find_gaps(
    runs: Runs,
    wishes: Sequence[Objective],
    *,
    best: float | None = None,
    reference_point: Sequence[float] | None = None,
    tolerance: float = 1e-9,
) -> Gaps:
    """Gaps of all runs; a trial that failed or breaks a bound counts as an evaluation but finds nothing.

    Args:
        runs: The runs.
        wishes: Directions and bounds; of one direction the gap is the regret, of several the missed hypervolume.
        best: The optimum within the bounds, or the hypervolume of the true front; None: that of all runs together.
        reference_point: Of the hypervolume, a value for each direction; None: inferred from the front of all runs.
        tolerance: By how much a run may beat the best, which is often a rounded number.

    Raises:
        InvalidObjective: No direction, or contradicting wishes.
        ArchgenError: No trial of any run meets the bounds, or one beats what was given as the best.
        UnknownMetric: A metric that the trials have not.
    """
    check(wishes)
    wanted = directions(wishes)
    if not wanted:
        raise InvalidObjective("a comparison needs something to maximize or minimize; only bounds were given")
    columns = [runs.values(wish.metric, wishes) for wish in wanted]
    points = {name: np.stack([column[name] for column in columns], axis=-1) for name in runs.strategies}
    every = np.concatenate([rows.reshape(-1, len(wanted)) for rows in points.values()])
    if np.isnan(every).any(1).all():
        raise ArchgenError("no trial of any run succeeded and meets the bounds; there is nothing to compare")
    if len(wanted) == 1:
        found = _regret(points, every, wanted[0].sign, best)
    else:
        found = _missed(points, every, [wish.sign for wish in wanted], best, reference_point)
    least = min(float(curves.min()) for curves in found.values.values())
    if least < -tolerance:
        what = "the optimum" if found.name == REGRET else "the best hypervolume"
        raise ArchgenError(f"{what} is said to be {found.best:.8g}, but a run is beyond it by {-least:.3g}; correct it")
    return found


def _regret(points: dict[str, Floats], every: Floats, sign: int, best: float | None) -> Gaps:
    top = float(sign * np.nanmax(sign * every)) if best is None else best
    curves = {name: np.stack([regret_curve(run[:, 0], top, sign > 0) for run in rows]) for name, rows in points.items()}
    return Gaps(REGRET, {name: np.where(np.isnan(rows), np.inf, rows) for name, rows in curves.items()}, top)


def _missed(
    points: dict[str, Floats],
    every: Floats,
    signs: Sequence[int],
    best: float | None,
    reference_point: Sequence[float] | None,
) -> Gaps:
    reference = infer_reference(every, signs) if reference_point is None else tuple(map(float, reference_point))
    top = hypervolume(every, signs, reference) if best is None else best
    if best is not None and not 0 < best < np.inf:
        raise ArchgenError(f"the best hypervolume (--optimum) must be a number above 0, got {best:g}")
    if top <= 0:
        raise ArchgenError(f"expected a front beyond the reference point {reference}, its hypervolume is {top:g}")
    curves = {
        name: np.stack([1 - hypervolume_curve(run, signs, reference) / top for run in rows])
        for name, rows in points.items()
    }
    return Gaps(MISSED, curves, top, reference)


def infer_reference(points: ArrayLike, signs: Sequence[int]) -> tuple[float, ...]:
    """A reference point: the worst of the front and a tenth of its range beyond (Ishibuchi et al., CEC 2011).

    Where the whole front has one value, a tenth of that value beyond.

    Args:
        points: `n x m` values; rows with a NaN do not count.
        signs: +1 where more of an objective is better, -1 where less is.

    Returns:
        `m` values, in the points' units.
    """
    front = _signed_front(points, signs)
    worst, best = front.min(0), front.max(0)
    span = np.where(best > worst, best - worst, np.where(best == 0, 1.0, np.abs(best)))
    return tuple(float(sign * x) for sign, x in zip(signs, worst - 0.1 * span, strict=True))


def hypervolume(points: ArrayLike, signs: Sequence[int], reference_point: Sequence[float]) -> float:
    """Volume that points dominate beyond a reference point (`archgen.pareto.hypervolume`, of their front).

    Args:
        points: `n x m` values; rows with a NaN do not count.
        signs: +1 where more of an objective is better, -1 where less is.
        reference_point: `m` values, in the points' units.
    """
    reference = np.asarray(reference_point, dtype=np.float64) * np.asarray(signs, dtype=np.float64)
    return pareto.hypervolume(_signed_front(points, signs), reference)


def hypervolume_curve(points: ArrayLike, signs: Sequence[int], reference_point: Sequence[float]) -> Floats:
    """Hypervolume after each evaluation of one run, `n`; arguments as in `hypervolume`, points in order evaluated."""
    values = np.asarray(points, dtype=np.float64)
    curve, front, volume = np.empty(len(values)), values[:0], 0.0
    for i in range(len(values)):
        kept = pareto_front(np.vstack([front, values[i : i + 1]]), signs)
        if len(front) in kept:  # the volume changes only where the front does
            front = np.vstack([front, values[i : i + 1]])[kept]
            volume = hypervolume(front, signs, reference_point)
        curve[i] = volume
    return curve


def _signed_front(points: ArrayLike, signs: Sequence[int]) -> Floats:
    """The points that no other dominates, signed so that more is better."""
    values = np.asarray(points, dtype=np.float64)
    signed: Floats = values[pareto_front(values, signs)] * np.asarray(signs, dtype=np.float64)
    return signed
