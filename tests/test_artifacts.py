"""Checkpoints: written whole or not at all, read strictly, never as a pickle."""

import json
import math
import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from archgen import artifacts
from archgen.artifacts import Checkpoint
from archgen.errors import InvalidCheckpoint

TENSORS = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.tensor([1.0, 2.0])}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "generator" / "toy"
    artifacts.save_checkpoint(folder, Checkpoint("generator", "toy", {"width": 3, "eta": 0.5}, TENSORS), "# card\n")
    return folder


def failing(path: Path) -> None:
    path.write_text("half")
    raise OSError(28, "No space left on device")


# -- writing ----------------------------------------------------------------------------------------------------


def test_a_writer_that_fails_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")
    with pytest.raises(OSError, match="No space left"):
        artifacts.write_atomic(target, failing)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_writer_that_fails_the_first_time_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        artifacts.write_atomic(tmp_path / "deep" / "report.html", failing)
    assert list((tmp_path / "deep").iterdir()) == []


def test_an_interrupted_writer_leaves_the_old_file(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    target = tmp_path / "a.json"
    artifacts.write_json(target, {"a": 1})
    with pytest.raises(KeyboardInterrupt):
        artifacts.write_atomic(target, interrupted)
    assert artifacts.read_json(target) == {"a": 1}
    assert list(tmp_path.iterdir()) == [target]


def test_a_write_replaces_the_old_file_and_others_may_read_it(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    artifacts.write_json(target, {"a": 1})
    artifacts.write_json(target, {"a": 2})
    assert artifacts.read_json(target) == {"a": 2}
    assert os.access(target, os.R_OK)
    assert target.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [-math.inf]}])
def test_json_refuses_what_is_not_json_and_keeps_the_old_file(tmp_path: Path, value: object) -> None:
    target = tmp_path / "a.json"
    artifacts.write_json(target, 1)
    with pytest.raises(ValueError, match="JSON"):
        artifacts.write_json(target, value)
    assert artifacts.read_json(target) == 1


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    tensors = {
        "double": torch.tensor([0.1], dtype=torch.double),
        "mask": torch.tensor([True, False]),
        "transposed": torch.arange(6.0).view(2, 3).T,
        "empty": torch.zeros(0, 3),
        "one": shared,
        "same": shared,
        "parameter": nn.Parameter(torch.ones(2)),
    }
    artifacts.write_tensors(tmp_path / "t.safetensors", tensors)
    back = artifacts.read_tensors(tmp_path / "t.safetensors")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], value) and back[name].dtype == value.dtype for name, value in tensors.items())


# -- reading ----------------------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_as_it_was(saved: Path) -> None:
    loaded = artifacts.load_checkpoint(saved, "generator")
    assert (loaded.kind, loaded.name, loaded.config) == ("generator", "toy", {"width": 3, "eta": 0.5})
    assert all(torch.equal(loaded.tensors[name], value) for name, value in TENSORS.items())
    assert {p.name for p in saved.iterdir()} == {"model.safetensors", "config.json", "README.md"}


def test_saving_without_a_card_leaves_the_card(saved: Path) -> None:
    artifacts.save_checkpoint(saved, Checkpoint("generator", "toy", {}, TENSORS))
    assert (saved / "README.md").read_text() == "# card\n"


def test_the_weights_are_written_before_the_config(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        artifacts.save_checkpoint(tmp_path, Checkpoint("generator", "toy", {"x": math.nan}, TENSORS))
    with pytest.raises(InvalidCheckpoint, match="does not exist"):
        artifacts.load_checkpoint(tmp_path, "generator")


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match=r"config\.json does not exist"):
        artifacts.load_checkpoint(tmp_path / "nowhere", "generator")


def test_another_kind_is_refused(saved: Path) -> None:
    with pytest.raises(InvalidCheckpoint, match="holds a generator, expected a predictor"):
        artifacts.load_checkpoint(saved, "predictor")


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99])
def test_truncated_weights_are_refused_in_one_line(saved: Path, share: float) -> None:
    weights = saved / artifacts.WEIGHTS
    content = weights.read_bytes()
    weights.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InvalidCheckpoint, match="not a whole safetensors file") as caught:
        artifacts.load_checkpoint(saved, "generator")
    assert "\n" not in str(caught.value)


def test_missing_weights_are_refused(saved: Path) -> None:
    (saved / artifacts.WEIGHTS).unlink()
    with pytest.raises(InvalidCheckpoint, match="does not exist"):
        artifacts.load_checkpoint(saved, "generator")


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"kind": "generator", "na',
        "[]",
        '{"kind": "generator"}',
        '{"kind": "generator", "name": 3, "config": {}}',
        '{"kind": "generator", "name": "toy", "config": []}',
    ],
)
def test_a_config_of_another_shape_is_refused_in_one_line(saved: Path, text: str) -> None:
    (saved / artifacts.CONFIG).write_text(text)
    with pytest.raises(InvalidCheckpoint, match=r"config\.json") as caught:
        artifacts.load_checkpoint(saved, "generator")
    assert "\n" not in str(caught.value)


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_executed(saved: Path, tmp_path: Path, writer: str) -> None:
    bomb = Bomb(tmp_path / "exploded")
    if writer == "pickle":
        (saved / artifacts.WEIGHTS).write_bytes(pickle.dumps(bomb))
    else:
        torch.save({"weight": bomb}, saved / artifacts.WEIGHTS)
    with pytest.raises(InvalidCheckpoint, match="not a whole safetensors file"):
        artifacts.load_checkpoint(saved, "generator")
    assert not bomb.path.exists()


def test_binary_instead_of_json_is_refused(saved: Path) -> None:
    (saved / artifacts.CONFIG).write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InvalidCheckpoint, match="can not be read as JSON"):
        artifacts.load_checkpoint(saved, "generator")


@pytest.mark.parametrize("text", ["[1e999]", '{"a": NaN}', "[-Infinity]", "[" * 100_000])
def test_json_that_could_not_be_written_again_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "some.json").write_text(text)
    with pytest.raises(InvalidCheckpoint, match="can not be read as JSON") as error:
        artifacts.read_json(tmp_path / "some.json")
    assert "\n" not in str(error.value)


# -- weights into modules ---------------------------------------------------------------------------------------


def test_weights_load_into_the_module_they_belong_to() -> None:
    module = nn.Linear(3, 2)
    artifacts.load_weights(module, TENSORS, "here")
    assert torch.equal(module.weight, TENSORS["weight"])
    assert torch.equal(module.bias, TENSORS["bias"])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": TENSORS["weight"]}, r"1 tensors missing, 0 foreign, 0 of another shape \(first: bias\)"),
        ({**TENSORS, "other": torch.zeros(1)}, r"0 tensors missing, 1 foreign, 0 of another shape \(first: other\)"),
        ({**TENSORS, "bias": torch.zeros(3)}, r"0 tensors missing, 0 foreign, 1 of another shape \(first: bias\)"),
    ],
)
def test_foreign_weights_are_refused_and_the_module_stays(tensors: dict[str, torch.Tensor], message: str) -> None:
    module = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(InvalidCheckpoint, match=rf"^here does not fit .*{message}"):
        artifacts.load_weights(module, tensors, "here")
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_checkpoint_config_is_plain_json(saved: Path) -> None:
    header = json.loads((saved / artifacts.CONFIG).read_text())
    assert header == {"kind": "generator", "name": "toy", "config": {"width": 3, "eta": 0.5}}
