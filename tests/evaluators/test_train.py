"""Training gives the same figures for the same seed, learns, and starts from near networks when told to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from archgen.data import ImageData, load_data
from archgen.errors import InvalidData, InvalidOption
from archgen.evaluators import TrainEvaluator
from archgen.evaluators.train import inherit
from archgen.graph import Architecture
from archgen.spaces import SearchSpace, load
from archgen.supernets.training import Schedule

NETWORK = {"cells": 1, "channels": 4}
ARCH = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
NEAR = ARCH.replace("nor_conv_1x1~0", "nor_conv_3x3~0")
FAR = "|nor_conv_1x1~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|nor_conv_1x1~0|nor_conv_3x3~1|nor_conv_3x3~2|"


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits", limit=300)


@pytest.fixture
def archs(space: SearchSpace) -> list[Architecture]:
    return [space.parse(text) for text in (ARCH, NEAR, FAR)]


def test_training_learns_and_can_be_repeated(space: SearchSpace, data: ImageData, archs: list[Architecture]) -> None:
    evaluator = TrainEvaluator(space, data, Schedule(epochs=6), network=NETWORK)
    state = torch.get_rng_state()
    first = evaluator.evaluate(archs[:2], seed=1)
    assert torch.equal(state, torch.get_rng_state())
    again = TrainEvaluator(space, data, Schedule(epochs=6), network=NETWORK).evaluate(archs[1::-1], seed=1)
    assert [m.values for m in first] == [m.values for m in again[::-1]], "the order does not matter"
    assert [m.values for m in evaluator.evaluate(archs[:1], seed=2)] != [first[0].values]
    for measured in first:
        assert tuple(measured.values) == evaluator.metrics
        assert measured.values["val_acc"] > 30, "ten classes"
        assert measured.cost_seconds > 0


def test_the_test_part_is_never_looked_at(space: SearchSpace, data: ImageData, archs: list[Architecture]) -> None:
    evaluator = TrainEvaluator(space, data, Schedule(epochs=1), network=NETWORK)
    before = evaluator.evaluate(archs[:1], seed=0)[0].values
    spoiled = ImageData(**{**vars(data), "test": None})  # type: ignore[arg-type]
    after = TrainEvaluator(space, spoiled, Schedule(epochs=1), network=NETWORK).evaluate(archs[:1], seed=0)
    assert after[0].values == before


def test_a_training_that_diverges_is_a_failed_measurement(
    space: SearchSpace, data: ImageData, archs: list[Architecture]
) -> None:
    evaluator = TrainEvaluator(space, data, Schedule(epochs=2, lr=1e30), network=NETWORK)
    (measured,) = evaluator.evaluate(archs[:1], seed=0)
    assert measured.values == {}
    assert measured.error is not None
    assert "lower the learning rate" in measured.error


@pytest.mark.parametrize("on_disk", [False, True])
def test_weights_come_from_the_nearest_network_that_is_near_enough(
    space: SearchSpace, data: ImageData, archs: list[Architecture], tmp_path: Path, on_disk: bool
) -> None:
    arch, near, far = archs
    folder = tmp_path / "weights" if on_disk else None
    evaluator = TrainEvaluator(space, data, Schedule(epochs=2), network=NETWORK, transfer=0.8, folder=folder)
    assert evaluator.overlaps(arch, [arch, near, far]) == pytest.approx([1.0, 5 / 6, 2 / 6])
    plain = TrainEvaluator(space, data, Schedule(epochs=2), network=NETWORK)
    afresh = [m.values for m in plain.evaluate(archs, seed=0)]
    assert [m.values for m in evaluator.evaluate([far, arch], seed=0)] == [afresh[2], afresh[0]], "none is near enough"
    if on_disk:  # as after a kill
        evaluator = TrainEvaluator(space, data, Schedule(epochs=2), network=NETWORK, transfer=0.8, folder=folder)
    (moved,) = evaluator.evaluate([near], seed=0)
    assert moved.values["val_loss"] < afresh[1]["val_loss"], "a start from trained weights is ahead after two epochs"
    strict = TrainEvaluator(space, data, Schedule(epochs=2), network=NETWORK, transfer=0.9)
    strict.evaluate([arch], seed=0)
    assert strict.evaluate([near], seed=0)[0].values == afresh[1]


def test_what_has_another_shape_or_name_is_not_inherited(space: SearchSpace, archs: list[Architecture]) -> None:
    network = {**NETWORK, "classes": 10, "in_channels": 1, "image_size": 8}
    donor, heir = (space.build(arch, **network) for arch in archs[:2])
    before = {name: value.clone() for name, value in heir.state_dict().items()}
    shared = inherit(heir, donor.state_dict())
    for name, value in heir.state_dict().items():
        expected = donor.state_dict()[name] if name in shared else before[name]
        assert torch.equal(value, expected), name
    changed = [name for name in before if name not in shared]
    assert changed
    assert all(".edges.0-2." in name for name in changed), "only the operation that differs is drawn afresh"


def test_spaces_and_overlaps_that_do_not_fit_are_refused(space: SearchSpace, data: ImageData) -> None:
    with pytest.raises(InvalidData, match="the networks of flexibert do not classify images of shape"):
        TrainEvaluator(load("flexibert"), data, Schedule(epochs=1))
    for overlap in (0.0, 1.5, -1.0, np.nan):
        with pytest.raises(InvalidOption, match=r"must be in \(0, 1\], got"):
            TrainEvaluator(space, data, Schedule(epochs=1), transfer=overlap)
