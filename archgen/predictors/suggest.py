"""Which architectures to measure, so that few measurements tell most."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from archgen.graph import Architecture
from archgen.spaces import SearchSpace

POOL = 40
"""Architectures drawn for each one that is chosen by strata."""
IN_VAIN = 10_000
"""Draws without anything new after which a space is taken for exhausted."""


def suggest(
    space: SearchSpace,
    n: int,
    rng: np.random.Generator,
    *,
    stratified: bool = True,
    known: Collection[Architecture] = (),
) -> list[Architecture]:
    """Distinct architectures to measure: random ones, or one of each of `n` strata of equal size by FLOPs.

    Of architectures with one canonical form (they compute the same) only one is chosen.

    Args:
        space: The space.
        n: How many; fewer are given where the space has no more.
        rng: Source of randomness.
        stratified: By FLOPs, of a random pool of `40 n`; else at random.
        known: Architectures that are measured already.
    """
    seen = {space.canonical(arch) for arch in known}
    wanted = POOL * n if stratified else n
    pool: list[Architecture] = []
    in_vain = 0
    for _ in range(50):
        before = len(pool)
        for arch in space.sample(wanted, rng):
            form = space.canonical(arch)
            if form not in seen and len(pool) < wanted:
                seen.add(form)
                pool.append(arch)
        in_vain = 0 if len(pool) > before else in_vain + wanted
        if len(pool) >= wanted or in_vain >= IN_VAIN:
            break
    if not stratified or len(pool) <= n:
        return pool[:n]
    flops = np.array([space.count(arch)["flops"] for arch in pool])
    strata = np.array_split(np.argsort(flops, kind="stable"), n)
    return [pool[int(rng.choice(stratum))] for stratum in strata]
