"""`archgen export` writes a network that is checked, and refuses what is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen

import pytest
import torch

from archgen import config
from archgen.export import check_onnx, load_network, open_onnx
from archgen.spaces import CellSpace, SearchSpace

Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]
ARCH = "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"


def test_a_finished_run_is_exported_again(finished: tuple[CompletedProcess[str], Path], succeeds: Run) -> None:
    _, folder = finished
    outcome = succeeds("export", folder, "--out", "again.onnx")
    assert outcome.stdout.startswith("again.onnx: input ('batch', 1, 8, 8), largest difference to PyTorch ")
    assert Path("again.onnx").read_bytes() == (folder / "best.onnx").read_bytes()
    network, _ = load_network(folder / "best.json")
    assert check_onnx(network, Path("again.onnx"), torch.randn(3, 1, 8, 8)) <= 1e-4


def test_an_architecture_is_exported_untrained(
    monkeypatch: pytest.MonkeyPatch, space: SearchSpace, succeeds: Run
) -> None:
    tiny = {"cells": 1, "channels": 4, "classes": 10, "in_channels": 3, "image_size": 8}
    loaded = CellSpace("nasbench201", 4, space.roles, tiny)  # type: ignore[attr-defined]
    monkeypatch.setattr("archgen.spaces.load", lambda name: loaded)
    succeeds("export", "--space", "nasbench201", "--arch", ARCH, "--out", "network.onnx")
    (image,) = open_onnx(Path("network.onnx")).get_inputs()
    assert image.shape[1:] == [3, 8, 8]


def test_a_network_of_another_kind_of_input_is_exported(succeeds: Run) -> None:
    arch = '{"l": 2, "o": ["l", "sa"], "h": [128, 128], "n": [2, 2], "f": [[512], [512]], "p": ["dft", "sdp"]}'
    outcome = succeeds("export", "--space", "flexibert", "--arch", arch, "--out", "tokens.onnx")
    assert outcome.stdout.startswith("tokens.onnx: input ('batch', 512), largest difference to PyTorch ")


def test_what_was_designed_in_a_space_of_ones_own_is_read_from_its_folder_alone(
    small: list[object], succeeds: Run, refused: Refused, pretended_latency: None
) -> None:
    """A part of a part, in a space's file with a text that looks like its base; no file is left where it was."""
    Path("mine/whole").mkdir(parents=True)
    head = 'family = "restricted"\nsummary = """\nbase = "none"\n"""\n'
    Path("mine/whole/less.toml").write_text(f'name = "less"\n{head}base = "nasbench201"\n[values]\n"0->1" = ["none"]\n')
    values = '[values]\n"0->2" = ["nor_conv_3x3", "nor_conv_1x1"]\n'
    Path("mine/part.toml").write_text(f'name = "part"\n{head}base = "whole/less.toml"\n{values}')
    succeeds(*small, "--space", "mine/part.toml", "--out", "run")
    shutil.move("mine", "lost")
    Path("moved").mkdir()
    shutil.move("run", "moved/run")
    folder = Path("moved/run")
    assert json.loads((folder / "run.json").read_text())["request"]["space"] == "space/part.toml"
    succeeds("export", folder, "--out", "again.onnx")
    assert Path("again.onnx").read_bytes() == (folder / "best.onnx").read_bytes()
    succeeds("report", folder)
    (folder / "result.json").unlink()
    succeeds("resume", folder)
    for name in ("best.json", "best.safetensors"):
        shutil.copy(folder / name, name)
    assert "its space space/part.toml is not there; copy it too, or give --space" in refused("export", "best.json")
    succeeds("export", "best.json", "--space", "lost/part.toml")


def test_operations_that_a_network_imports_go_with_its_run_and_run_only_when_they_are_trusted(
    own_space: Path,
    small: list[object],
    succeeds: Run,
    refused: Refused,
    pretended_latency: None,
    monkeypatch: pytest.MonkeyPatch,
    process: Callable[..., Popen[str]],
) -> None:
    monkeypatch.delenv(config.TRUST, raising=False)
    succeeds(*small, "--space", own_space, "--out", "run", "--trust-code")
    assert sorted(path.name for path in Path("run/space").iterdir()) == ["my_blocks.py", "my_cells.toml"]
    shutil.move("run", "moved")
    with Path("moved/space/my_blocks.py").open("a") as file:
        file.write("\nfrom pathlib import Path\nPath('ran').touch()\n")
    said = "moved/space/my_cells.toml: [[operations]] 'my_scale': import = 'my_blocks:scale' runs code of the file's"
    assert said in refused("export", "moved", "--out", "again.onnx")
    assert not Path("ran").exists()
    with process("-m", "archgen", "export", "moved", "--out", "again.onnx", "--trust-code") as running:
        _, err = running.communicate()
    assert running.returncode == 0, err
    assert Path("ran").exists()
    assert Path("again.onnx").read_bytes() == Path("moved/best.onnx").read_bytes()


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        (ARCH.replace("avg_pool_3x3~2", "avg_pool_3x3~3"), "input 2 of node 3 must read 'op~2', got 'avg_pool_3x3~3'"),
        (ARCH.replace("avg_pool", "mean_pool"), "unknown operation of nasbench201 'mean_pool_3x3': did you mean"),
        (ARCH.rpartition("+")[0], "expected 3 groups joined by '+'"),
        (ARCH + "+|none~0|none~1|none~2|none~3|", "expected 3 groups joined by '+'"),
        (ARCH.replace("|none~1|avg", "|avg"), "node 3 has 3 inputs"),
        ("", "expected 3 groups joined by '+'"),
        ("resnet", "expected 3 groups joined by '+'"),
    ],
)
def test_architecture_strings_that_are_wrong_are_refused(arch: str, message: str, refused: Refused) -> None:
    Path("network.onnx").write_text("an earlier network")
    assert message in refused("export", "--space", "nasbench201", "--arch", arch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["empty"], "empty/best.json does not exist"),
        (["notes.json"], "notes.json holds kind None, expected 'network'"),
        (["text.json"], "text.json can not be read as JSON"),
        (["best.onnx"], "best.onnx does not describe a network; give the .json"),
        ([], "expected a run folder or best.json, or else both --space and --arch"),
        (["--space", "nasbench201"], "expected a run folder or best.json, or else both --space and --arch"),
        (["empty", "--arch", ARCH], "expected a run folder or best.json, or else both --space and --arch"),
        (["--space", "dart", "--arch", ARCH], "unknown search space 'dart': did you mean 'darts'?"),
        (["empty", "--out", "empty"], "empty is a folder"),
    ],
)
def test_export_refuses_what_is_no_network(arguments: list[str], message: str, refused: Refused) -> None:
    Path("empty").mkdir()
    Path("notes.json").write_text("{}")
    Path("text.json").write_text("dear diary")
    Path("best.onnx").write_bytes(b"\x08\xf9")
    assert message in refused("export", *arguments)
