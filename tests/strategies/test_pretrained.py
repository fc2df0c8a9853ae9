"""What strategies take from the committed checkpoints."""

from __future__ import annotations

import pytest

from archgen import config, spaces
from archgen.errors import InvalidCheckpoint, InvalidOption, UnknownName
from archgen.generators import Generator
from archgen.predictors.free_labels import FreeLabels
from archgen.spaces import CellSpace, SearchSpace
from archgen.strategies import Bayes, Generative, Random, pretrained_parts


def test_a_strategy_gets_what_it_takes_and_what_is_given_is_left_alone(space: SearchSpace) -> None:
    parts = pretrained_parts(Generative, space)
    assert isinstance(parts["generator"], Generator)
    assert isinstance(parts["free_labels"], FreeLabels)
    assert set(pretrained_parts(Generative, space, {"generator"})) == {"free_labels"}
    assert set(pretrained_parts(Bayes, space)) == {"free_labels"}
    assert pretrained_parts(Random, space) == {}


def test_a_generator_of_ones_own_and_strategies_that_take_none(space: SearchSpace) -> None:
    folder = config.checkpoints_dir() / "generators" / "nasbench201-discrete_flow"
    assert isinstance(pretrained_parts(Generative, space, generator=str(folder))["generator"], Generator)
    with pytest.raises(UnknownName, match="unknown generator 'nowhere'"):
        pretrained_parts(Generative, space, generator="nowhere")
    with pytest.raises(InvalidOption, match="Bayes draws from no generator"):
        pretrained_parts(Bayes, space, generator=str(folder))


def test_a_space_without_free_labels_is_searched_without_them() -> None:
    assert pretrained_parts(Bayes, spaces.load("fbnet")) == {"free_labels": None}


def test_a_space_without_a_generator_says_how_to_train_one() -> None:
    network = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
    tiny = CellSpace("tiny", 2, {"none": "zero", "nor_conv_3x3": "weighted"}, network)
    with pytest.raises(InvalidCheckpoint, match="archgen train generator --space tiny"):
        pretrained_parts(Generative, tiny)
