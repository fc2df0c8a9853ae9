"""Supernets in folders: trained, stopped and resumed, read again, and how well they rank."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from archgen import artifacts
from archgen.errors import InvalidCheckpoint, InvalidData, InvalidOption, InvalidSpace, RunConflict, UnknownName
from archgen.inheritance import SupernetRequest, load_supernet, train_in_folder
from archgen.inheritance.folder import KEPT, TRAINING
from archgen.inheritance.request import make_trained
from archgen.progress import Bar, Progress
from archgen.supernets import MixtureSupernet, SplitSupernet
from archgen.supernets.training import train_supernet

REQUEST = SupernetRequest(
    "nasbench201", "digits", network={"cells": 1, "channels": 4}, epochs=2, limit=200, seed=3, strategy="pa_da"
)


class Stopping(Progress):
    """Is interrupted when the bar has moved so often."""

    def __init__(self, after: int) -> None:
        self.left = after

    def bar(self, what: str, total: int):  # type: ignore[no-untyped-def]
        outer = self

        class Stop(Bar):
            def update(self, steps: int = 1, **shown: float) -> None:
                outer.left -= 1
                if outer.left == 0:
                    raise KeyboardInterrupt

        return _Entered(Stop())


class _Entered:
    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def __enter__(self) -> Bar:
        return self._bar

    def __exit__(self, *args: object) -> None:
        return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("supernet") / "whole"
    train_in_folder(REQUEST, out)
    return out


def test_images_may_have_moved(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "moved")
    config = tmp_path / "moved" / "config.json"
    config.write_text(config.read_text().replace('"digits"', '"nowhere.npz"'))
    with pytest.raises(InvalidData, match=r"say by --data where they are: 'nowhere\.npz' does not exist"):
        load_supernet(tmp_path / "moved")
    moved, there = load_supernet(tmp_path / "moved", "digits"), load_supernet(folder)
    archs = there.space.sample(2, np.random.default_rng(0))
    found = [[m.values for m in trained.evaluator.evaluate(archs, seed=0)] for trained in (moved, there)]
    assert found[0] == found[1]


def test_what_is_read_is_what_was_trained(folder: Path) -> None:
    trained = load_supernet(folder)
    assert trained.request == REQUEST
    again = make_trained(REQUEST)
    from archgen.supernets.training import TRAINING_STRATEGIES, Schedule

    train_supernet(again.supernet, TRAINING_STRATEGIES["pa_da"](), again.data, Schedule(2), seed=3)
    for (name, a), b in zip(again.supernet.state_dict().items(), trained.supernet.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert not trained.supernet.training
    assert not (folder / TRAINING).exists(), "momenta are of no use any more"
    card = (folder / "README.md").read_text()
    assert "by `pa_da` for 2 epochs, seed 3" in card


def test_a_training_that_was_stopped_goes_on_as_it_was(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_in_folder(REQUEST, tmp_path / "part", progress=Stopping(1))
    assert (tmp_path / "part" / TRAINING).exists()
    with pytest.raises(InvalidCheckpoint, match="not trained to its end; go on by --resume"):
        load_supernet(tmp_path / "part")
    resumed = train_in_folder(replace(REQUEST, seed=9, epochs=7), tmp_path / "part", resume=True)
    assert resumed.request == REQUEST, "what was asked for first counts"
    whole = load_supernet(folder).supernet.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in resumed.supernet.state_dict().items())
    finished = train_in_folder(REQUEST, tmp_path / "part", resume=True)
    assert torch.equal(next(finished.supernet.parameters()), next(resumed.supernet.parameters()))


SPLIT = replace(REQUEST, strategy="uniform", splits=1, warm_up=1, repeats=1)


@pytest.mark.parametrize("after", [1, 2], ids=["before the split", "after it"])
def test_a_split_training_that_was_stopped_goes_on_as_it_was(after: int, tmp_path: Path) -> None:
    whole = train_in_folder(SPLIT, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_in_folder(SPLIT, tmp_path / "stopped", progress=Stopping(after))
    with pytest.raises(InvalidCheckpoint, match="go on by --resume"):
        load_supernet(tmp_path / "stopped")
    train_in_folder(SPLIT, tmp_path / "stopped", resume=True)
    resumed = load_supernet(tmp_path / "stopped")
    assert isinstance(resumed.supernet, SplitSupernet)
    for (key, a), b in zip(whole.supernet.state_dict().items(), resumed.supernet.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    assert {path.name for path in (tmp_path / "stopped").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }
    assert not list((tmp_path / "whole").glob(KEPT))
    assert "by `uniform` for 3 epochs, splits: 1, seed 3" in (tmp_path / "whole" / "README.md").read_text()


def test_a_mixture_is_read_with_the_sets_that_it_learnt(tmp_path: Path) -> None:
    trained = train_in_folder(replace(REQUEST, strategy="balanced_mixture", mixture=2), tmp_path / "mixed")
    read = load_supernet(tmp_path / "mixed").supernet
    assert isinstance(read, MixtureSupernet)
    assert torch.equal(read.assignment, trained.supernet.assignment)  # type: ignore[arg-type]
    assert not torch.equal(read.assignment, torch.arange(read.groups) % 2)


def test_what_a_search_chose_is_on_the_card_and_is_told_again(tmp_path: Path) -> None:
    request = replace(REQUEST, strategy="darts", options={"alpha_lr": 0.1}, epochs=1)
    trained = train_in_folder(request, tmp_path / "searched")
    assert trained.found is not None
    trained.space.validate(trained.found)
    card = (tmp_path / "searched" / "README.md").read_text()
    assert card.endswith(f" It chose `{trained.space.format(trained.found)}`.\n")
    assert train_in_folder(request, tmp_path / "searched", resume=True).found == trained.found
    assert load_supernet(tmp_path / "searched").request == request


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"strategy": "unform"}, UnknownName, "did you mean 'uniform'"),
        ({"space": "nasbench101", "strategy": "darts", "network": {}}, InvalidSpace, "mixes operations on edges"),
        ({"strategy": "proxyless", "options": {"latency": "no.json"}}, InvalidOption, "latency=no.json is not a file"),
        ({"strategy": "sandwich"}, InvalidSpace, "no order, so no largest path"),
        ({"space": "nasbench_graph", "network": {}}, InvalidData, "do not classify images"),
        ({"space": "flexibert", "network": {}}, InvalidData, "do not classify images"),
        ({"network": {"classes": 3}}, InvalidOption, "classes of the network is settled by the images"),
        ({"strategy": "balanced_mixture"}, InvalidSpace, "give --mixture 2 or more"),
        ({"mixture": 2, "splits": 1}, InvalidOption, "either several sets of weights or splits"),
        ({"mixture": 99_999}, InvalidOption, "one a group"),
        ({"data": "nowhere"}, InvalidData, "does not exist"),
    ],
)
def test_what_can_not_be_trained_leaves_no_folder(
    tmp_path: Path, change: dict[str, object], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        train_in_folder(replace(REQUEST, **change), tmp_path / "out")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_folders_of_others_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunConflict, match="holds another run"):
        train_in_folder(REQUEST, folder)
    with pytest.raises(RunConflict, match="holds no run to resume"):
        train_in_folder(REQUEST, tmp_path / "nothing", resume=True)
    other = tmp_path / "other"
    checkpoint = artifacts.load_checkpoint(folder, "supernet")
    artifacts.save_checkpoint(other, replace(checkpoint, config={**checkpoint.config, "network": {"cells": 2}}))
    with pytest.raises(InvalidCheckpoint, match="does not fit the network"):
        load_supernet(other)
    artifacts.save_checkpoint(other, replace(checkpoint, config={"colour": "red"}))
    with pytest.raises(InvalidCheckpoint, match="by another version of archgen"):
        load_supernet(other)
    artifacts.write_json(other / "run.json", {"request": {"colour": "red"}, "seconds": {}, "facts": {}})
    with pytest.raises(RunConflict, match="of another kind or version"):
        train_in_folder(REQUEST, other, resume=True)


@pytest.mark.parametrize(
    "change",
    [
        {"network": {"cells": "two"}},
        {"network": [1]},
        {"mixture": "a"},
        {"mixture": 0},
        {"limit": "a"},
        {"limit": True},
        {"space": 5},
        {"data": 5},
        {"options": 3},
        {"options": {"alpha": 3}},
        {"options": {"label_smoothing": "much"}},
        {"seed": -1},
        {"lr": "fast"},
        {"tree": 3},
        {"tree": {"variable": "0->3"}},
        {"tree": {"variable": [], "groups": [[0, 1], [2, 3, 4]], "parts": [None, None]}},
        {"tree": {"variable": "0->3", "groups": [[0, 1], [2, 3, 4]], "parts": [None]}},
        {"tree": {"variable": "0->3", "groups": [["a"], [2]], "parts": [None, None]}},
        {"tree": {"variable": "0->3", "groups": [[0, 1], [2, 3]], "parts": [None, None]}},
    ],
    ids=str,
)
def test_a_damaged_description_is_told(folder: Path, tmp_path: Path, change: dict[str, object]) -> None:
    checkpoint = artifacts.load_checkpoint(folder, "supernet")
    artifacts.write_json(
        tmp_path / "config.json", {"kind": "supernet", "name": "cell", "config": {**checkpoint.config, **change}}
    )
    shutil.copy(folder / "model.safetensors", tmp_path)
    with pytest.raises(InvalidCheckpoint, match=r"config\.json is damaged or by another version"):
        load_supernet(tmp_path)
