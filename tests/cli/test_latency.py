"""`archgen latency measure` and `devices`: what is measured, ranked, kept and refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from torch import nn

from archgen import config
from archgen.graph import Architecture
from archgen.hardware import OnnxLatency, Timing, base, draw_distinct, survey
from archgen.hardware.measurements import COLUMNS
from archgen.spaces import SearchSpace, load

Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]


class Pretended(nn.Module):
    """A network of a known latency."""

    def __init__(self, cost: float) -> None:
        super().__init__()
        self.cost = cost


class Device:
    """What is pretended: the networks' costs, which are refused, how noisy it is, when it is interrupted."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.noise, self.batches, self.stop_after, self.reason = 0.0, 0, 99, KeyboardInterrupt

    def build(self, space: SearchSpace, arch: Architecture, seed: int) -> nn.Module:
        return nn.Identity() if space.format(arch) in self.refused else Pretended(space.count(arch)["flops"] * 1e-6)

    def load(self, network: nn.Module) -> Callable[[object], Callable[[], object]]:
        if not isinstance(network, Pretended):
            raise RuntimeError("no kernel")
        return lambda inputs: lambda: network.cost

    def interleaved(self, runs: Sequence[Callable[[], float]], reference: Callable[[], float], **_: Any) -> Timing:
        self.batches += 1
        if self.batches > self.stop_after:
            raise self.reason
        rounds = 1 + self.noise * np.random.default_rng(0).standard_normal((9, len(runs)))
        return Timing(np.array([run() for run in runs]) * rounds, np.full(9, reference()), (1,) * len(runs))


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    device = Device()
    monkeypatch.setattr(survey, "_build", device.build)
    monkeypatch.setattr(survey, "BATCH", 3)
    monkeypatch.setattr(base, "interleaved", device.interleaved)
    monkeypatch.setattr(OnnxLatency, "load", device.load)
    return device


MEASURE = ("latency", "measure", "--space", "nasbench201", "--out", "m.parquet")


def flops(space: SearchSpace, text: str) -> float:
    return space.count(space.parse(text))["flops"] * 1e-6


def test_random_architectures_are_measured_ranked_and_kept(device: Device, space: SearchSpace, succeeds: Run) -> None:
    outcome = succeeds(*MEASURE, "-n", 7)
    table = pd.read_parquet("m.parquet")
    assert tuple(table.columns) == COLUMNS
    expected = [space.format(arch) for arch in draw_distinct(space, 7, np.random.default_rng(0))]
    assert sorted(table["arch"]) == sorted(expected)
    assert table["latency_ms"].tolist() == pytest.approx([flops(space, text) for text in table["arch"]])
    lines = outcome.stdout.splitlines()
    assert len(lines) == 1 + 7 + 1
    shown = [line.split()[-1] for line in lines[1:-1]]
    assert shown == sorted(expected, key=lambda text: flops(space, text))
    assert "7 measured; 7 measurements in m.parquet" in lines[-1]
    assert "architectures 1 to 3 of 7" in outcome.stderr


def test_architectures_that_can_not_be_told_apart_are_ties(device: Device, space: SearchSpace, succeeds: Run) -> None:
    device.noise = 0.3
    rows = json.loads(succeeds(*MEASURE, "-n", 7, "--json").stdout)["rows"]
    assert any(row["rank"].endswith("tie") for row in rows)
    for row in rows:
        group = [r for r in rows if (r["first"], r["last"]) == (row["first"], row["last"])]
        assert len(group) == row["last"] - row["first"] + 1
        others = [r for r in rows if r["first"] > row["last"]]
        assert all(row["high_ms"] < other["low_ms"] for other in others)


def test_the_json_tells_device_drift_and_rows(device: Device, succeeds: Run) -> None:
    result = json.loads(succeeds(*MEASURE, "-n", 2, "--json", "--threads", 2, "--batch", 4).stdout)
    assert (result["out"], result["measured"], result["refused"]) == ("m.parquet", 2, {})
    assert (result["device"]["threads"], result["device"]["batch"]) == (2, 4)
    assert (result["drift"], result["unsteady"]) == (0.0, 0)
    table = pd.read_parquet("m.parquet")
    assert set(table["device"]) == {result["device"]["id"]}
    assert {row["arch"]: row["low_ms"] for row in result["rows"]} == dict(
        zip(table["arch"], table["low_ms"], strict=True)
    )


def test_the_architectures_of_a_table_are_measured(device: Device, listed: Path, space: SearchSpace, run: Run) -> None:
    outcome = run(*MEASURE, "--archs", listed)
    assert outcome.returncode == 0, outcome.stderr
    assert sorted(pd.read_parquet("m.parquet")["arch"]) == sorted(pd.read_parquet(listed)["arch"])


def test_a_space_that_reads_tokens_is_measured(device: Device, succeeds: Run) -> None:
    arguments = ("latency", "measure", "--space", "flexibert", "-n", 2, "--out", "t.parquet", "--json")
    result = json.loads(succeeds(*arguments).stdout)
    assert result["measured"] == 2
    assert result["device"]["shape"] == list(load("flexibert").example_input(1).shape[1:])


def test_ctrl_c_keeps_what_was_measured_and_the_same_command_goes_on(device: Device, run: Run, succeeds: Run) -> None:
    device.stop_after = 1
    outcome = run(*MEASURE, "-n", 7)
    assert (outcome.returncode, outcome.stdout) == (130, "")
    last = outcome.stderr.splitlines()[-1]
    assert last == "archgen: interrupted; m.parquet holds 3 of 7 architectures; go on with the same command"
    first = pd.read_parquet("m.parquet")
    device.stop_after = 99
    outcome = succeeds(*MEASURE, "-n", 7)
    assert "3 of 7 are measured on device" in outcome.stderr
    table = pd.read_parquet("m.parquet")
    assert len(table) == 7
    pd.testing.assert_frame_equal(table.iloc[:3], first)
    assert "0 measured; 7 measurements" in succeeds(*MEASURE, "-n", 7).stdout


def test_a_device_that_vanishes_is_one_line_and_nothing_is_lost(device: Device, run: Run) -> None:
    device.stop_after, device.reason = 2, RuntimeError  # type: ignore[assignment]
    outcome = run(*MEASURE, "-n", 7)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert re.search(r"archgen: onnxruntime on cpu failed .* kept", outcome.stderr.splitlines()[-1])
    assert "Traceback" not in outcome.stderr
    assert len(pd.read_parquet("m.parquet")) == 6


def test_a_refused_architecture_is_named_and_the_others_are_measured(
    device: Device, space: SearchSpace, succeeds: Run
) -> None:
    text = space.format(draw_distinct(space, 4, np.random.default_rng(0))[0])
    device.refused = {text}
    outcome = succeeds(*MEASURE, "-n", 4)
    assert f"archgen: {text} is left out" in outcome.stderr
    assert "3 measured, 1 refused" in outcome.stdout
    assert text not in set(pd.read_parquet("m.parquet")["arch"])


def test_an_unsteady_machine_is_said_to_be(device: Device, monkeypatch: pytest.MonkeyPatch, succeeds: Run) -> None:
    drifting, timed = np.array([1.0, 1.0, 2.0, 3.0, 3.0]), []

    def interleaved(runs: Sequence[object], reference: object, **_: Any) -> Timing:
        timed.append(len(runs))
        return Timing(np.ones((5, len(runs))), drifting, (1,) * len(runs))

    monkeypatch.setattr(base, "interleaved", interleaved)
    assert "the machine was unsteady in 2 batches (drift 100%)" in succeeds(*MEASURE, "-n", 6).stderr
    assert timed == [3, 3, 3, 3, 3]  # the first, which all later ones are compared with, is tried three times


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--resource", "CPU=1"), "--resource is for --ray"),
        (("--runtime", "onnxrntime"), "unknown runtime 'onnxrntime': did you mean 'onnxruntime'"),
        (("--device", "gpu"), "unknown processor 'gpu'"),
        (("--threads", "0"), "--threads"),
        (("--rounds", "4"), "--rounds"),
        (("-n", "0"), "-n"),
        (("-n", "100000000000"), "-n"),
        (("--batch", "100000000000"), "--batch"),
        (("-n", "3", "--archs", "table.parquet"), "either -n .* or --archs"),
        (("--archs", "nothing.parquet"), "nothing.parquet is not a file"),
        (("--space", "nasbench202"), "did you mean 'nasbench201'"),
        (("--out", "m.csv"), r"m\.csv: .* ends in \.parquet"),
        (("--out", "."), "folder"),
        (("--out", "nowhere/at/all.parquet"), "can not be written"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    arguments: tuple[str, ...], message: str, device: Device, refused: Refused
) -> None:
    assert re.search(message, refused(*MEASURE, *arguments))
    assert device.batches == 0


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "no CUDAExecutionProvider" in refused(*MEASURE, "--device", "cuda")


@pytest.mark.parametrize("damage", ["truncated", "foreign", "another space"])
def test_a_file_that_can_not_be_added_to_is_left_alone(
    damage: str, device: Device, table: pd.DataFrame, succeeds: Run, refused: Refused
) -> None:
    succeeds(*MEASURE, "-n", 2)
    space = "nasbench201"
    if damage == "truncated":
        Path("m.parquet").write_bytes(Path("m.parquet").read_bytes()[:500])
    elif damage == "foreign":
        table.to_parquet("m.parquet", index=False)
    else:
        space = "fbnet"
    assert re.search(r"m\.(parquet|devices\.json)", refused(*MEASURE, "--space", space))


def test_the_devices_of_the_checkpoints_are_listed_with_their_error(succeeds: Run) -> None:
    rows = json.loads(succeeds("latency", "devices", "--json").stdout)["predicted"]
    assert {row["space"] for row in rows} >= {"nasbench201", "fbnet"}
    assert all(row["metric"].startswith("latency_ms") for row in rows)
    assert all(0.5 < row["rho"] <= 1 and 0 <= row["error"] < 50 for row in rows)
    (pixel,) = [r for r in rows if (r["space"], r["metric"]) == ("nasbench201", "latency_ms@pixel3")]
    card = (config.checkpoints_dir() / "predictors" / "nasbench201-latency_ms-on-pixel3" / "README.md").read_text()
    assert f"error {pixel['error']:.1f} %" in card
    text = succeeds("latency", "devices").stdout
    assert len(text.splitlines()) == len(rows)
    assert re.search(rf"latency_ms@pixel3 +rho {pixel['rho']:.3f}  median error {pixel['error']:.1f} %\n", text)


def test_the_devices_of_one_space_and_of_a_file_are_listed(device: Device, succeeds: Run) -> None:
    known = json.loads(succeeds(*MEASURE, "-n", 2, "--json").stdout)["device"]
    arguments = ("latency", "devices", "--space", "nasbench201", "--measurements", "m.parquet")
    result = json.loads(succeeds(*arguments, "--json").stdout)
    assert {row["space"] for row in result["predicted"]} == {"nasbench201"}
    (measured,) = result["measured"]
    assert (measured["id"], measured["measurements"]) == (known["id"], 2)
    assert {"id": known["id"], **measured["record"]} == known
    last = succeeds(*arguments).stdout.splitlines()[-1]
    assert f"device {known['id']}  2 measured: onnxruntime {onnxruntime.__version__}" in last
    assert "input 1x3x32x32" in last


def test_a_space_without_predictors_says_so(own_space: Path, succeeds: Run) -> None:
    assert succeeds("latency", "devices", "--space", own_space).stdout == (
        "no latency predictors of my_cells in the checkpoints\n"
    )


def test_a_card_without_figures_and_a_damaged_checkpoint(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, succeeds: Run, refused: Refused
) -> None:
    name = "nasbench201-latency_ms"
    folder = workplace / "checkpoints" / "predictors" / name
    shutil.copytree(config.checkpoints_dir() / "predictors" / name, folder)
    monkeypatch.setenv("ARCHGEN_CHECKPOINTS", str(workplace / "checkpoints"))
    (folder / "README.md").unlink()
    assert "states no error" in succeeds("latency", "devices").stdout
    (folder / "config.json").write_text('{"kind": "predictor"}')
    assert "names no space and metric" in refused("latency", "devices")


def test_a_file_of_measurements_that_is_not_there_is_refused(refused: Refused) -> None:
    assert "does not exist" in refused("latency", "devices", "--measurements", "nothing.parquet")
