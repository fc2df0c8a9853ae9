"""What every training strategy of supernets promises: it learns, and a training that was cut off goes on as it was."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

from archgen.data import ImageData, load_data
from archgen.errors import InvalidOption
from archgen.evaluators import SupernetEvaluator
from archgen.spaces import CellSpace, ChainSpace
from archgen.spaces.stages import Stage
from archgen.supernets import Supernet, make_supernet, mixture
from archgen.supernets.training import TRAINING_STRATEGIES, Schedule, train_supernet

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 8, "classes": 10, "in_channels": 1, "image_size": 8}
SPACE = CellSpace("ordered", 3, ROLES, NETWORK, ("skip_connect", "nor_conv_3x3"))
BLOCKS = ("k3_e3", "k3_e6", "k5_e3", "k5_e6")
SLOTS = {"resolution": ("r8", "r16"), "stage1.block1": BLOCKS, "stage1.block2": BLOCKS}
CHAIN = ChainSpace(
    "chain",
    SLOTS,
    [Stage("stage1.block", (1, 2), (("stage1.block1",), ("stage1.block2",)))],
    skeleton="mobilenetv3",
    network={"width_percent": 25, "classes": 10, "in_channels": 1, "image_size": 8},
    order=(("r8", "k3_e3"), ("r16", "k5_e6")),
)
CHAINS = ("progressive_shrinking", "single_path_thresholds")
"""Strategies that train chains alone."""
MIXTURES = ("balanced_mixture",)
"""Strategies that train several sets of weights."""
HALVED = (*MIXTURES, "proxyless")
"""Strategies that give half of the images, or of the steps, to each path: they get twice the epochs to learn."""


class Killed(Exception):
    """What stops a training in these tests."""


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits", limit=250)


def fresh(name: str, seed: int = 0) -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        supernet = make_supernet(CHAIN if name in CHAINS else SPACE)
        return mixture(supernet, 2) if name in MIXTURES else supernet


@pytest.mark.parametrize("name", list(TRAINING_STRATEGIES))
def test_the_largest_architecture_learns(name: str, data: ImageData) -> None:
    """Ten classes: chance is 10 %, its standard error on 150 images 2.4 points. Over seeds most reach 23 to 60 %."""
    supernet, strategy = fresh(name), TRAINING_STRATEGIES[name]()
    train_supernet(supernet, strategy, data, Schedule(50 if name in HALVED else 25), seed=0)
    largest = supernet.space.extremes[1]  # type: ignore[index]
    images, labels = data.train.images, data.train.labels
    (measured,) = SupernetEvaluator(supernet, images, images, labels).evaluate([largest], seed=0)
    assert measured.values["val_acc"] > 20
    found = strategy.found(supernet)
    if found is not None:
        supernet.space.validate(found)


@pytest.mark.parametrize("name", list(TRAINING_STRATEGIES))
def test_numbers_below_their_range_are_refused(name: str) -> None:
    made = TRAINING_STRATEGIES[name]
    defaults = {key: p.default for key, p in inspect.signature(made).parameters.items()}
    numbers = [key for key, value in defaults.items() if type(value) in (int, float)]
    assert "label_smoothing" in numbers
    for key in numbers:
        with pytest.raises(InvalidOption):
            made(**{key: -1})
    with pytest.raises(InvalidOption, match="label_smoothing of at least 0 and below 1, got 2"):
        made(**{"label_smoothing": 2.0})


@pytest.mark.parametrize("name", list(TRAINING_STRATEGIES))
def test_a_training_that_was_cut_off_goes_on_as_it_was(name: str, data: ImageData, tmp_path: Path) -> None:
    """Cut off in the second of three epochs, resumed with other initial weights and a strategy that knows nothing."""
    whole, strategy = fresh(name), TRAINING_STRATEGIES[name]()
    train_supernet(whole, strategy, data, Schedule(3), seed=1)
    path = tmp_path / "supernet.safetensors"

    def stop(number: int, losses: dict[str, float]) -> None:
        if number == 2:
            raise Killed

    with pytest.raises(Killed):
        train_supernet(
            fresh(name), TRAINING_STRATEGIES[name](), data, Schedule(3), seed=1, checkpoint=path, every=3, on_epoch=stop
        )
    resumed, other = fresh(name, seed=5), TRAINING_STRATEGIES[name]()
    train_supernet(resumed, other, data, Schedule(3), seed=1, checkpoint=path, every=3)
    for (key, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    for key, value in strategy.state().items():
        assert torch.equal(value, other.state()[key]), key
    assert strategy.found(whole) == other.found(resumed)
