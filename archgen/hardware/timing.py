"""Timing things against each other on a machine that is not alone: interleaved blocks and a reference.

A machine shared with others, or one that changes its clock, is slow for a while and then fast again. Measured one
after the other, networks would get the machine's mood as their property. So every candidate is timed in every round,
in a new random order, with the reference in between; what the reference says of a round is taken out of it.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archgen.hardware.record import LatencyMeasurement
from archgen.progress import Bar

Floats = NDArray[np.float64]

_EVERY = 4
"""A reference block before every so many candidates: its median in a round is then not one noisy block's."""
_WARM_UP = 5
_RESAMPLES = 2000


@dataclass(frozen=True)
class Timing:
    """Raw times of `r` rounds of `n` candidates.

    Args:
        blocks: Median time of one run in each block, ms, `r x n`.
        reference: Median time of one run of the reference in each round, ms, `r`.
        runs: Runs in each block of each candidate, `n`.
    """

    blocks: Floats
    reference: Floats
    runs: tuple[int, ...]

    @property
    def drift(self) -> float:
        """Interquartile range of the reference over the rounds, relative to its median."""
        low, median, high = np.percentile(self.reference, [25, 50, 75])
        return float((high - low) / median)

    def corrected(self, reference_ms: float | None = None) -> Floats:
        """Block times divided by how slow the reference was in the same round, ms, `r x n`.

        Args:
            reference_ms: What the reference takes at the speed to report for; its median here by default.
        """
        usual = np.median(self.reference) if reference_ms is None else reference_ms
        corrected: Floats = self.blocks * (usual / self.reference)[:, None]
        return corrected

    def measurements(self, rng: np.random.Generator, reference_ms: float | None = None) -> list[LatencyMeasurement]:
        """Median over rounds of the corrected times, its bootstrap interval and its spread, a candidate each."""
        rounds = len(self.blocks)
        resamples = rng.integers(rounds, size=(_RESAMPLES, rounds))
        measured = []
        for times, runs in zip(self.corrected(reference_ms).T, self.runs, strict=True):
            low, high = np.percentile(np.median(times[resamples], axis=1), [2.5, 97.5])
            first, median, third = np.percentile(times, [25, 50, 75])
            measured.append(
                LatencyMeasurement(float(median), float(low), float(high), float(third - first), rounds * runs)
            )
        return measured


def interleaved(
    candidates: Sequence[Callable[[], object]],
    reference: Callable[[], object],
    *,
    rounds: int,
    block_ms: float,
    rng: np.random.Generator,
    clock: Callable[[], int] = time.perf_counter_ns,
    bar: Bar | None = None,
) -> Timing:
    """Time each candidate once a round, in random order, with the reference before every fourth.

    Args:
        candidates: What to time; each is called with nothing.
        reference: Timed alongside, the same in all rounds.
        rounds: Number of rounds `r`, at least 1.
        block_ms: Length of a block, ms; a candidate runs as often as fits, at least once.
        rng: Draws the orders.
        clock: Nanoseconds that only grow.
        bar: Moved on with each round.
    """
    everything = [*candidates, reference]
    counts = [_runs_of(run, block_ms, clock) for run in everything]
    blocks = np.empty((rounds, len(candidates)))
    references = np.empty(rounds)
    with garbage_paused():
        for r in range(rounds):
            order = rng.permutation(len(candidates))
            seen = []
            for place, i in enumerate(order):
                if place % _EVERY == 0:
                    seen.append(_time(reference, counts[-1], clock))
                blocks[r, i] = _time(candidates[i], counts[i], clock)
            references[r] = np.median(seen)
            if bar is not None:
                bar.update()
    return Timing(blocks, references, tuple(counts[:-1]))


@contextlib.contextmanager
def garbage_paused() -> Iterator[None]:
    """Collect once, then keep the garbage collector off for the body of a `with`; an interrupt too turns it on."""
    was_on = gc.isenabled()
    gc.collect()
    try:
        gc.disable()
        yield
    finally:
        if was_on:
            gc.enable()


def _runs_of(run: Callable[[], object], block_ms: float, clock: Callable[[], int]) -> int:
    """Warm up, then see how many runs fill a block; the fastest counts, because first runs allocate."""
    fastest = min(_time(run, 1, clock) for _ in range(_WARM_UP))
    return max(1, round(block_ms / max(fastest, 1e-6)))


def _time(run: Callable[[], object], count: int, clock: Callable[[], int]) -> float:
    """Median time of one of `count` runs, ms.

    Not their mean: when another process gets the core for a few milliseconds, one run in the block pays for it all.
    """
    stamps = [clock()]
    for _ in range(count):
        run()
        stamps.append(clock())
    return float(np.median(np.diff(stamps))) / 1e6
