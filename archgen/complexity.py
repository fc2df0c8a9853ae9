"""Architectures of a wanted complexity."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np

from archgen.errors import ArchgenWarning, Infeasible, InvalidCheckpoint
from archgen.graph import Architecture
from archgen.objectives import at_least, at_most, maximize, minimize
from archgen.sampler import GuidedSampler, pretrained_generator
from archgen.spaces import SearchSpace
from archgen.supernets.training.shiftnas import draw_by_rejection

STRENGTH = 16.0
"""Of the guidance; on MobileNetV3's upper bands twice as fast as the usual 4."""
NEAR = 0.1
"""Share of the smallest or largest architecture that is varied to find others in its band."""
USUAL = 64
"""Random architectures that say on which side of them a band is."""


def draw_between(space: SearchSpace, low: float, high: float, n: int, seed: int) -> list[Architecture]:
    """Different architectures with FLOPs between two numbers, as the space's generator has them.

    Random ones are rejected first: where a band holds many architectures, those are uniform ones of it. What is still
    missing comes from the committed generator, guided by the exact count towards the band, which finds rare ones too:
    in the band of the smallest or largest architecture those that it makes of that one.

    Args:
        space: The space.
        low, high: FLOPs of the space's default network.
        n: How many; fewer are given where no more are found.
        seed: Same seed, same architectures.
    """
    found = dict.fromkeys(draw_by_rejection(space, low, high, n, seed))
    if len(found) == n:
        return list(found)
    try:
        sampler = GuidedSampler(space, pretrained_generator(space), strength=STRENGTH)
    except InvalidCheckpoint:  # a space without a generator
        return list(found)
    usual = np.median([space.count(arch)["flops"] for arch in space.sample(USUAL, np.random.default_rng(seed))])
    wishes = [maximize("flops") if low > usual else minimize("flops"), at_least("flops", low), at_most("flops", high)]
    inside = [arch for arch in space.extremes or () if low <= space.count(arch)["flops"] <= high]
    with warnings.catch_warnings(), contextlib.suppress(Infeasible):
        warnings.simplefilter("ignore", ArchgenWarning)  # fewer than wanted are fine
        found |= dict.fromkeys(sampler.sample(n, wishes, seed=seed, vary=inside, t=NEAR).archs)
    return list(found)[:n]
