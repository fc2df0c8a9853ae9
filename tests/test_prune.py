"""A pruned space as a file: it says what was dropped and why, and it can be read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archgen import spaces
from archgen.artifacts import write_text
from archgen.predictors.choice_pruning import Evidence, prune
from archgen.prune import base_reference, pruned_toml
from archgen.spaces import RestrictedSpace


@pytest.mark.parametrize("name", spaces.available())
def test_every_space_can_be_pruned_and_read_back(name: str, tmp_path: Path) -> None:
    space = spaces.load(name)
    archs = space.sample(120, np.random.default_rng(0))
    choices = space.choices(archs)
    # the most frequent value of the variable that splits the draws best is bad; depths, which several variables
    # show together, are left alone
    counts = [
        np.bincount(column, minlength=len(v)) for column, v in zip(choices.T, space.variables.values(), strict=True)
    ]
    whole = ["skip" not in values for values in space.variables.values()]
    at = int(np.argmin([abs(c.max() / len(archs) - 0.4) + (not w) for c, w in zip(counts, whole, strict=True)]))
    variable, bad = list(space.variables)[at], int(counts[at].argmax())
    y = np.random.default_rng(1).normal(0, 0.1, len(archs)) - (choices[:, at] == bad)
    evidence = prune(space, archs, y)
    assert (variable, space.variables[variable][bad]) in {(e.variable, e.value) for e in evidence if e.dropped}
    path = tmp_path / "smaller.toml"
    write_text(path, pruned_toml("smaller", name, evidence, {"labels": 120, "target": 'a "b"\n'}, "smaller"))
    small = spaces.load(path)
    assert isinstance(small, RestrictedSpace)
    for arch in small.sample(20, np.random.default_rng(2)):
        assert (
            space.variables[variable][bad]
            != small.variables.get(variable, ("",))[small.to_choices(arch).get(variable, 0)]
        )
        space.parse(small.format(arch))


def test_the_file_says_what_was_dropped_and_why() -> None:
    evidence = [
        Evidence("a", "x", 9, 0.5, 0.1, False, "kept: better than the mean"),
        Evidence("a", "y", 9, -0.24, 0.1, True, "dropped: reliably worse than the mean"),
        Evidence("a", "z", 9, -0.22, 0.1, False, "kept: not reliably worse than the mean"),
        Evidence("b", "u", 9, 0.3, 0.1, False, "kept: better than the mean"),
    ]
    text = pruned_toml("mine", "nasbench201", evidence, {"target": "acc"}, "less")
    assert "#   y: -0.240 +- 0.100 in 9; dropped: reliably worse than the mean" in text
    assert "#   z: -0.220 +- 0.100 in 9; kept: not reliably worse than the mean" in text
    assert '"a" = ["x", "z"]' in text
    assert '"b"' not in text


def test_a_base_in_a_file_is_named_relative_to_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    assert base_reference("nasbench201", tmp_path / "out.toml") == "nasbench201"
    assert base_reference(str(tmp_path / "a.toml"), tmp_path / "deep" / "out.toml") == "../a.toml"
