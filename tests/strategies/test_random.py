"""Random search is uniform over the space and proposes all of it, once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from archgen.objectives import maximize
from archgen.spaces import CellSpace, SearchSpace
from archgen.strategies import Random
from archgen.study import Trial

FAILS = 1e-6
"""Probability with which the chi-square test fails although the code is right; seeds are fixed besides."""


def test_every_choice_is_equally_likely(space: SearchSpace) -> None:
    """Drawing without repetition only lowers the variance, so the chi-square bound is on the safe side."""
    archs = Random(space, [maximize("acc")], seed=3).ask(1_500)
    choices = [space.to_choices(arch) for arch in archs]
    for name, values in space.variables.items():
        counts = np.bincount([c[name] for c in choices], minlength=len(values))
        assert stats.chisquare(counts).pvalue > FAILS / len(space.variables)


def test_choices_of_two_variables_are_independent(space: SearchSpace) -> None:
    archs = Random(space, [maximize("acc")], seed=4).ask(1_500)
    first, second = list(space.variables)[:2]
    table = np.zeros((5, 5))
    for choices in map(space.to_choices, archs):
        table[choices[first], choices[second]] += 1
    assert stats.chi2_contingency(table).pvalue > FAILS


@pytest.mark.parametrize("batch", [1, 4, 5, 27, 40])
def test_batches_of_any_size_list_a_tiny_space_in_a_random_order(batch: int) -> None:
    roles = {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}
    tiny = CellSpace("tiny", 3, roles, {})
    strategy = Random(tiny, [maximize("acc")], seed=1)
    sizes = []
    while asked := strategy.ask(batch):
        sizes.append(len(asked))
        strategy.tell([Trial(len(strategy.trials) + i, arch, {"acc": 0.0}, 0.0) for i, arch in enumerate(asked)])
    assert sizes == [batch] * (27 // batch) + ([27 % batch] if 27 % batch else [])
    order = [trial.arch for trial in strategy.trials]
    assert set(order) == set(tiny.enumerate())
    assert order != tiny.enumerate()
