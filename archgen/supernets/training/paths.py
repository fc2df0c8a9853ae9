"""Paths that are put together value by value."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from archgen.errors import InvalidArchitecture
from archgen.graph import Architecture
from archgen.spaces import SearchSpace


def nearest_architecture(space: SearchSpace, wanted: Mapping[str, int], rng: np.random.Generator) -> Architecture:
    """The architecture of the wanted values; where they exclude each other, a random one with as many as fit.

    Args:
        space: The search space.
        wanted: Position of the value of each variable.
        rng: For the random one, which is changed to one wanted value after the other, in order of the variables.
    """
    try:
        return space.from_choices(wanted)
    except InvalidArchitecture:
        (arch,) = space.sample(1, rng)
    choices = space.to_choices(arch)
    for name, value in wanted.items():
        try:
            arch = space.from_choices({**choices, name: value})
        except InvalidArchitecture:
            continue
        choices[name] = value
    return arch
