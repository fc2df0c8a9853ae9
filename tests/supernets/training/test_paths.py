"""Paths put together value by value."""

from __future__ import annotations

import numpy as np

from archgen import spaces
from archgen.spaces import SearchSpace
from archgen.supernets.training.paths import nearest_architecture


def test_values_that_go_together_are_taken_as_they_are(space: SearchSpace, rng: np.random.Generator) -> None:
    for arch in space.sample(5, rng):
        assert nearest_architecture(space, space.to_choices(arch), rng) == arch


def test_of_values_that_exclude_each_other_as_many_as_fit_are_taken() -> None:
    """The third block of a stage is left out, the fourth is wanted: what that leaves free is as wanted."""
    space = spaces.load("mobilenetv3")
    (arch,) = space.sample(1, np.random.default_rng(0))
    wanted = space.to_choices(arch)
    skip = space.variables["stage2.block3"].index("skip")
    wanted |= {"stage2.block3": skip, "stage2.block4": 0 if skip else 1, "resolution": 7, "stage2.block1": 4}
    for seed in range(10):
        found = nearest_architecture(space, wanted, np.random.default_rng(seed))
        space.validate(found)
        choices = space.to_choices(found)
        assert choices["resolution"] == 7
        assert choices["stage2.block1"] == 4
        differing = [name for name in wanted if choices[name] != wanted[name]]
        assert all(name.split(".")[0] in ("stage2",) or "block" in name for name in differing)
        assert len(differing) < len(wanted) / 2
