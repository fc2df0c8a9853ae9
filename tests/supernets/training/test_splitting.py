"""Splits by gradients: rounds of training, each from the weights of the one before, and exact resume between them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from archgen.data import ImageData, load_data
from archgen.errors import InvalidSpace
from archgen.spaces import CellSpace
from archgen.supernets import SplitSupernet, Supernet, make_supernet
from archgen.supernets.training import (
    Cut,
    Darts,
    ProgressiveShrinking,
    Proxyless,
    Schedule,
    SinglePathThresholds,
    TrainingStrategy,
    Uniform,
    train_and_split,
    train_supernet,
)
from archgen.supernets.training.splitting import whole_parts

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 10, "in_channels": 1, "image_size": 8}
SPACE = CellSpace("small", 3, ROLES, NETWORK)


class Killed(Exception):
    """What stops a training in these tests."""


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("digits", limit=250)


def fresh(seed: int = 0) -> Supernet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make_supernet(SPACE)


def test_each_round_splits_each_part_in_two_and_trains_on(data: ImageData) -> None:
    cuts, epochs = [], []  # type: ignore[var-annotated]
    supernet, _ = train_and_split(
        fresh(),
        Uniform,
        data,
        Schedule(3),
        warm_up=2,
        splits=2,
        seed=0,
        repeats=2,
        on_epoch=lambda number, losses: epochs.append(number),
        on_cut=cuts.append,
    )
    assert epochs == [1, 2, 3, 4, 5, 6, 7]
    assert len(cuts) == 1 + 2
    assert isinstance(supernet, SplitSupernet)
    assert (cuts[0].variable, list(cuts[0].groups)) == (supernet.variable, supernet.groups)
    assert len(whole_parts(supernet)) == 4
    sizes = [sum(1 for _ in part.space.enumerate()) for part in whole_parts(supernet)]
    assert sum(sizes) == sum(1 for _ in SPACE.enumerate())
    stems = [part.state_dict()["skeleton.stem.0.weight"] for part in whole_parts(supernet)]
    assert not any(torch.equal(stems[0], stem) for stem in stems[1:])


@pytest.mark.parametrize("killed", [1, 3, 4, None])
def test_a_training_that_was_cut_off_goes_on_as_it_was(killed: int | None, data: ImageData, tmp_path: Path) -> None:
    """In the first round, in the second, before the last split, and just after the first."""

    def run(supernet: Supernet, path: Path | None, stop: int | None = -1) -> Supernet:
        def on_epoch(number: int, losses: dict[str, float]) -> None:
            if number == stop:
                raise Killed

        def on_cut(cut: Cut | None) -> None:
            if stop is None:
                raise Killed

        supernet, _ = train_and_split(
            supernet,
            Uniform,
            data,
            Schedule(2),
            warm_up=2,
            splits=2,
            seed=1,
            repeats=1,
            checkpoint=path,
            train=partial(train_supernet, every=3),
            on_epoch=on_epoch,
            on_cut=on_cut,
        )
        return supernet

    whole = run(fresh(), None)
    path = tmp_path / "training.safetensors"
    with pytest.raises(Killed):
        run(fresh(), path, killed)
    resumed = run(fresh(seed=5), path)
    for (key, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_cuts_are_read_where_they_were_made(data: ImageData, tmp_path: Path) -> None:
    path = tmp_path / "training.safetensors"
    (tmp_path / "training.round0.json").write_text(
        json.dumps([{"variable": "1->2", "groups": [[0, 3], [1, 2]], "distance": 1.5}]), encoding="utf-8"
    )
    supernet, _ = train_and_split(
        fresh(), Uniform, data, Schedule(1), warm_up=1, splits=1, seed=0, repeats=1, checkpoint=path
    )
    assert isinstance(supernet, SplitSupernet)
    assert (supernet.variable, supernet.groups) == ("1->2", [(0, 3), (1, 2)])


def test_a_part_in_which_nothing_is_left_to_split_stays_whole(data: ImageData) -> None:
    """One edge of three values: the second split finds a part of one architecture and one of two."""
    roles = {name: ROLES[name] for name in ("skip_connect", "nor_conv_1x1", "nor_conv_3x3")}
    small = CellSpace("one_edge", 2, {"none": "zero", **roles}, NETWORK)
    supernet, _ = train_and_split(
        make_supernet(small), Uniform, data, Schedule(1), warm_up=1, splits=2, seed=0, repeats=1
    )
    assert isinstance(supernet, SplitSupernet)
    assert [len(group) for group in supernet.groups] == [2, 2]
    assert len(whole_parts(supernet)) == 2


def test_a_space_without_a_variable_to_split_is_refused(data: ImageData) -> None:
    pair = CellSpace("pair", 2, {"none": "zero", "nor_conv_3x3": "weighted"}, NETWORK)
    with pytest.raises(InvalidSpace):
        train_and_split(make_supernet(pair), Uniform, data, Schedule(1), warm_up=1, splits=1, seed=0, repeats=1)


@pytest.mark.parametrize("strategy", [Darts, Proxyless, ProgressiveShrinking, SinglePathThresholds])
def test_a_strategy_that_trains_no_split_is_refused_before_the_warm_up(
    strategy: Callable[[], TrainingStrategy], data: ImageData
) -> None:
    with pytest.raises(InvalidSpace, match="can not train a supernet that is split"):
        train_and_split(
            fresh(),
            strategy,
            data,
            Schedule(1),
            warm_up=1,
            splits=1,
            seed=0,
            train=lambda *_, **__: pytest.fail("warmed up"),
        )
