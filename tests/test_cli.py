"""The command: what each part prints and writes, and one line with exit status 2 for whatever a user can mend."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from archgen import artifacts, cli, config
from archgen import design as design_module
from archgen.design import Design, DesignRequest
from archgen.evaluators import SupernetEvaluator, TabularEvaluator
from archgen.export import check_onnx, load_network, open_onnx
from archgen.generators import GENERATORS
from archgen.graph import Architecture
from archgen.hardware import LatencyMeasurement
from archgen.run_folder import RunFolder
from archgen.spaces import CellSpace, SearchSpace

ARCH = "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


def archgen(*arguments: object) -> Outcome:
    """Run the command in this process, as its entry point does."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),  # the entry point sets its own filters
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["archgen", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert isinstance(ended.value.code, int)
    return Outcome(ended.value.code, out.getvalue(), err.getvalue())


def succeeds(*arguments: object) -> Outcome:
    outcome = archgen(*arguments)
    assert outcome.code == 0, outcome.err
    return outcome


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def refused(*arguments: object, notes: int = 0) -> str:
    """The one line of a command that must fail without touching the working folder.

    Args:
        arguments: Of the command.
        notes: Lines of progress that may come before it.
    """
    before = contents(Path())
    outcome = archgen(*arguments)
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert len(lines) == notes + 1, outcome.err
    assert lines[-1].startswith("archgen: ")
    assert "Traceback" not in outcome.err
    assert contents(Path()) == before, "a refused command left something behind"
    return lines[-1]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- spaces


def test_spaces_are_listed_with_size_and_summary(space: SearchSpace) -> None:
    text = succeeds("spaces").out
    assert "nasbench201" in text
    assert "15,625" in text
    (row,) = json.loads(succeeds("spaces", "--json").out)
    assert row == {"name": "nasbench201", "family": "cell", "size": space.size, "summary": space.summary}


def test_a_space_is_described_with_an_example_that_can_be_read(space: SearchSpace) -> None:
    facts = json.loads(succeeds("spaces", "nasbench201", "--json").out)
    space.validate(space.parse(facts["example"]))
    assert facts["variables"] == {name: list(values) for name, values in space.variables.items()}
    text = succeeds("spaces", "nasbench201").out
    assert facts["example"] in text
    assert "arXiv 2001.00326" in text
    assert "channels=16" in text


# -- generate


def test_generate_prints_a_table_of_as_many_architectures_as_asked_for(space: SearchSpace) -> None:
    outcome = succeeds("generate", "--space", "nasbench201", "-n", 4, "--seed", 3)
    header, *rows = outcome.out.splitlines()
    assert header.split() == ["arch", "params", "flops", "valid"]
    assert len({space.parse(row.split()[0]) for row in rows}) == 4
    assert "4 architectures (drawn" in outcome.err
    assert succeeds("generate", "--space", "nasbench201", "-n", 4, "--seed", 3).out == outcome.out
    assert succeeds("generate", "--space", "nasbench201", "-n", 4, "--seed", 4).out != outcome.out


def test_generate_keeps_bounds_and_its_json_can_be_read(space: SearchSpace) -> None:
    wishes = ["--minimize", "flops", "--at-most", "params=600000", "--at-least", "params=200000"]
    outcome = succeeds("generate", "--space", "nasbench201", "-n", 5, *wishes, "--json")
    answer = json.loads(outcome.out)
    assert len(answer["samples"]) == 5
    for sample in answer["samples"]:
        assert 200_000 <= sample["params"] <= 600_000
        arch = space.simplify(space.parse(sample["arch"]))
        assert space.count(arch) == {"params": sample["params"], "flops": sample["flops"]}
    assert answer["diagnostics"]["valid"] == 100
    assert outcome.err == ""


@pytest.mark.parametrize(("name", "read"), [("a.parquet", pd.read_parquet), ("new/a.csv", pd.read_csv)])
def test_generate_writes_parquet_and_csv(name: str, read: Callable[[Path], pd.DataFrame], space: SearchSpace) -> None:
    outcome = succeeds("generate", "--space", "nasbench201", "-n", 6, "--out", name)
    assert outcome.out == ""
    assert f"6 architectures in {name}" in outcome.err
    frame = read(Path(name))
    assert list(frame.columns) == ["arch", "params", "flops", "valid"]
    assert len({space.parse(text) for text in frame["arch"]}) == 6
    assert [p.name for p in Path(name).parent.iterdir()] == [Path(name).name], "a temporary file was left"


def test_too_few_distinct_architectures_are_a_warning_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archgen.sampler.ROUNDS", 1)  # a single draw of 300 has duplicates
    outcome = succeeds("generate", "--space", "nasbench201", "-n", 300, "--steps", 2, "--out", "a.parquet")
    warning, summary = outcome.err.splitlines()
    assert warning.startswith("archgen: only 29")
    assert "architectures in a.parquet" in summary
    assert 290 <= len(pd.read_parquet("a.parquet")) < 300


# -- search


@pytest.fixture(scope="module")
def table(space: SearchSpace) -> pd.DataFrame:
    """60 architectures with an accuracy that follows from their convolutions and a latency."""
    archs = list(dict.fromkeys(space.sample(80, np.random.default_rng(0))))[:60]
    counts = np.array([sum(op.startswith("nor_conv") for op in arch.ops) for arch in archs])
    noise = np.random.default_rng(1).uniform(0, 0.5, 60)
    texts = [space.format(arch) for arch in archs]
    return pd.DataFrame({"arch": texts, "acc": 60 + 5 * counts + noise, "lat": 1.0 + counts, "index": range(60)})


@pytest.fixture
def listed(table: pd.DataFrame) -> Path:
    table.to_parquet("table.parquet", index=False)
    return Path("table.parquet")


def search(*arguments: object, budget: int = 8) -> list[object]:
    base = ["search", "--space", "nasbench201", "--evaluator", "table.parquet", "--maximize", "acc", "--partial"]
    return [*base, "--budget", budget, "--out", "trials.parquet", "--strategy", "random", *arguments]


@pytest.mark.parametrize("strategy", ["random", "evolution", "generative"])
def test_search_writes_its_trials_in_the_order_evaluated(listed: Path, table: pd.DataFrame, strategy: str) -> None:
    outcome = succeeds(*search("--strategy", strategy, budget=13))
    trials = pd.read_parquet("trials.parquet")
    assert list(trials.columns) == ["trial", "arch", "acc", "lat", "cost_seconds", "state"]
    assert trials["trial"].tolist() == list(range(13))
    assert set(trials["state"]) == {"complete"}
    assert trials["arch"].is_unique
    expected = table.set_index("arch").loc[trials["arch"]]
    assert trials["acc"].tolist() == expected["acc"].tolist()
    assert trials["lat"].tolist() == expected["lat"].tolist()
    best = trials.loc[trials["acc"].idxmax()]
    assert outcome.out == (
        f"best of 13 (trial {best['trial']}): {best['arch']}  acc {best['acc']:.6g}; trials in trials.parquet\n"
    )
    assert outcome.err == f"archgen: {strategy} search (13) ...\n"


def test_search_answers_in_json_and_writes_csv(listed: Path, table: pd.DataFrame) -> None:
    table.to_csv("table.csv", index=False)
    outcome = succeeds(*search("--evaluator", "table.csv", "--at-most", "lat=3", "--out", "t.csv", "--json"))
    answer = json.loads(outcome.out)
    trials = pd.read_csv("t.csv")
    within = trials[trials["lat"] <= 3]
    best = within.loc[within["acc"].idxmax()]
    assert answer["best"] == {key: pytest.approx(best[key]) for key in ("trial", "acc", "lat")} | {"arch": best["arch"]}
    assert (answer["evaluations"], answer["met"], answer["out"]) == (8, True, "t.csv")


def test_search_says_so_when_nothing_meets_the_bounds(listed: Path) -> None:
    outcome = succeeds(*search("--at-most", "lat=0.5"))
    assert outcome.out == "8 evaluations in trials.parquet; none meets the bounds\n"
    assert json.loads(succeeds(*search("--at-most", "lat=0.5", "--json")).out)["best"] is None


def test_a_search_ends_when_the_table_is_used_up(listed: Path, table: pd.DataFrame) -> None:
    assert json.loads(succeeds(*search("--json", "--batch", 60, budget=1000)).out)["evaluations"] == len(table)
    assert set(pd.read_parquet("trials.parquet")["arch"]) == set(table["arch"])


def test_a_search_is_resumed_from_its_study(listed: Path) -> None:
    columns = ["trial", "arch", "acc", "lat", "state"]
    succeeds(*search("--out", "whole.parquet", budget=12))
    succeeds(*search("--study", "s.db", budget=4))
    succeeds(*search("--study", "s.db", "--resume", budget=12))
    whole, resumed = pd.read_parquet("whole.parquet"), pd.read_parquet("trials.parquet")
    pd.testing.assert_frame_equal(whole[columns], resumed[columns])


def test_a_search_that_is_interrupted_goes_on_with_the_batch_it_was_in(
    listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeeds(*search("--out", "whole.parquet", budget=12))
    real, left = TabularEvaluator.evaluate, 6

    def evaluate(self: TabularEvaluator, archs: list[Architecture], *, seed: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return real(self, archs, seed=seed)

    with monkeypatch.context() as patch:
        patch.setattr(TabularEvaluator, "evaluate", evaluate)
        outcome = archgen(*search("--study", "s.db", budget=12))
    assert outcome.code == 130
    assert outcome.err.splitlines()[-1] == "archgen: interrupted; go on with the same command and --resume"
    assert not Path("trials.parquet").exists()
    succeeds(*search("--study", "s.db", "--resume", budget=12))
    columns = ["trial", "arch", "acc", "lat", "state"]
    whole, resumed = pd.read_parquet("whole.parquet"), pd.read_parquet("trials.parquet")
    pd.testing.assert_frame_equal(whole[columns], resumed[columns])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--space", "nasbench"], "unknown search space 'nasbench': did you mean 'nasbench201'?"),
        (["--strategy", "evolve"], "unknown search strategy 'evolve': did you mean 'evolution'?"),
        (["--maximize", "accu", "--minimize", "x"], "unknown metric 'accu': did you mean 'acc'?"),
        (["--at-most", "latency=1"], "unknown metric 'latency': did you mean 'lat'?"),
        (["--at-most", "lat"], "expected METRIC=VALUE for --at-most, got 'lat'"),
        (["--at-least", "lat=fast"], "the bound of 'lat' must be a number, got 'fast'"),
        (["--at-most", "lat=1", "--at-least", "lat=2"], "can not be at least 2 and at most 1"),
        (["--minimize", "lat", "--study", "new.db"], "expected one metric to maximize or minimize"),
        (["--budget", "0"], "--budget"),
        (["--budget", "many"], "--budget"),
        (["--seed", "-1"], "--seed"),
        (["--seed", "99999999999999999999"], "--seed"),
        (["--resume"], "--resume needs --study"),
        (["--out", "."], "is a folder, expected the name of a file to write"),
        (["--out", "no/such/folder/t.parquet"], "can not be written"),
        (["--study", "no/folder/s.db"], "can not be used as a study database"),
        (["--study", "table.parquet"], "table.parquet can not be used as a study database"),
        (["--evaluator", "none.parquet"], "none.parquet is not a file"),
    ],
)
def test_search_refuses_bad_arguments_in_one_line(listed: Path, arguments: list[str], message: str) -> None:
    Path("trials.parquet").write_text("earlier work")
    metric = [] if "--maximize" not in arguments else ["acc"]
    base = [a for a in search() if not (metric and a in ("--maximize", "acc"))]
    assert message in refused(*base, *arguments)


def test_a_search_for_nothing_is_refused(listed: Path) -> None:
    base = [argument for argument in search() if argument not in ("--maximize", "acc")]
    assert "expected one metric to maximize or minimize, got []" in refused(*base)


def test_a_study_of_something_else_is_left_alone(listed: Path) -> None:
    succeeds(*search("--study", "s.db"))
    assert "s.db holds a study 'archgen' already; resume it" in refused(*search("--study", "s.db"))
    other = [argument if argument != "acc" else "lat" for argument in search("--study", "s.db", "--resume")]
    assert "asked for" in refused(*other)


def _without_arch(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(columns={"arch": "cell"})


def _duplicate(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame.iloc[[3]]], ignore_index=True)


def _with(column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        values = frame[column].tolist()
        values[4] = value
        return frame.assign(**{column: values})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_arch, "has no column 'arch'"),
        (lambda frame: frame[:0], "has no rows"),
        (_duplicate, "1 row has an architecture that is listed before (the first is row 61)"),
        (_with("acc", np.nan), "1 row has NaN or an infinite value in 'acc' (the first is row 5)"),
        (_with("acc", np.inf), "1 row has NaN or an infinite value in 'acc' (the first is row 5)"),
        (_with("arch", None), "1 row has no architecture string in 'arch' (the first is row 5)"),
        (_with("arch", ARCH.replace("avg", "max")), "1 row has an architecture that is none of nasbench201"),
        (lambda frame: frame.assign(acc="high"), "no number in 'acc'"),
    ],
)
def test_tables_that_can_not_be_trusted_are_refused(
    table: pd.DataFrame, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    change(table).to_parquet("table.parquet", index=False)
    line = refused(*search())
    assert message in line
    assert "table.parquet" in line


def test_a_table_with_missing_rows_must_be_called_partial(listed: Path) -> None:
    base = [argument for argument in search() if argument != "--partial"]
    assert "lists 60 of the 15,625 architectures" in refused(*base)


def test_a_truncated_table_is_refused(listed: Path) -> None:
    listed.write_bytes(listed.read_bytes()[:200])
    assert "can not be read as a parquet table" in refused(*search())


# -- design


def pretended(self: Design, archs: list[Architecture]) -> list[LatencyMeasurement]:
    """A latency that follows from the FLOPs: measuring is tested elsewhere, and exports take their time."""
    self.device.reference_ms = 1.0
    flops = [self.space.count(self.space.simplify(arch), **self.network)["flops"] for arch in archs]
    return [LatencyMeasurement(f * 1e-6, f * 0.9e-6, f * 1.1e-6, 0.0, 1) for f in flops]


@pytest.fixture(scope="module")
def small() -> list[object]:
    """Arguments of a design that takes seconds."""
    sizes = {"budget": 3, "epochs": 2, "finetune-epochs": 1, "channels": 4, "measured": 12, "limit": 200}
    return ["design", "--at-most", "latency_ms=0.2", *(a for k, v in sizes.items() for a in (f"--{k}", v))]


@pytest.fixture(scope="module")
def finished(small: list[object], tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """What `archgen design` says, and its folder."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Design, "measure", pretended)
        return succeeds(*small, "--out", folder), folder


def test_design_says_what_it_found_and_where(finished: tuple[Outcome, Path]) -> None:
    outcome, folder = finished
    result = json.loads((folder / "result.json").read_text())
    lines = dict(line.split(maxsplit=1) for line in outcome.out.splitlines())
    assert list(lines) == ["winner", "accuracy", "latency", "size", "bound", "cost", "files"]
    assert lines["winner"] == result["winner"]["arch"]
    assert f"{result['winner']['test_acc']:.2f} % on the test part" in lines["accuracy"]
    assert f"{result['winner']['latency_ms']:.4f} ms" in lines["latency"]
    assert lines["bound"] == "latency_ms at most 0.2: met"
    assert lines["cost"].startswith("3 evaluations, ")
    for name in ("best.onnx", "best.safetensors", "best.json", "trials.parquet", "report.html"):
        assert name in lines["files"]
        assert (folder / name).exists()
    notes = outcome.err.splitlines()
    assert all(line.startswith("archgen: ") for line in notes)
    for stage in (
        "digits: 200 images",
        "latency predictor: held-out rho",
        "training the supernet (2)",
        "searching (3)",
    ):
        assert any(stage in line for line in notes), stage


def test_a_finished_design_is_printed_again_as_json(finished: tuple[Outcome, Path]) -> None:
    _, folder = finished
    before = contents(folder)
    answer = json.loads(succeeds("design", "--resume", folder, "--json").out)
    assert answer == json.loads((folder / "result.json").read_text())
    assert {"winner", "met", "constraints", "evaluations", "seconds", "run"} <= answer.keys()
    assert contents(folder) == before


def test_a_folder_with_a_run_is_not_used_for_another(finished: tuple[Outcome, Path], small: list[object]) -> None:
    _, folder = finished
    before = contents(folder)
    assert f"holds another run; go on with it by --resume {folder}" in refused(*small, "--out", folder)
    assert contents(folder) == before


def test_the_strictest_of_several_bounds_counts(
    finished: tuple[Outcome, Path], small: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = finished
    answer = json.loads((folder / "result.json").read_text())
    seen: list[DesignRequest] = []

    def design(request: DesignRequest, out: Path, **options: Any) -> dict[str, Any]:
        seen.append(request)
        return answer

    monkeypatch.setattr(design_module, "design", design)
    succeeds(*small, "--at-most", "latency_ms=3", "--at-most", "params=0", "--out", "new")
    assert seen[0].at_most == {"latency_ms": 0.2, "params": 0.0}


def empty_data() -> str:
    part = {"x_train": np.zeros((0, 8, 8)), "x_test": np.zeros((0, 8, 8))}
    np.savez("empty.npz", **part, y_train=np.zeros(0, int), y_test=np.zeros(0, int))
    return "empty.npz"


def one_class() -> str:
    part = {"x_train": np.zeros((20, 8, 8)), "x_test": np.zeros((5, 8, 8))}
    np.savez("one.npz", **part, y_train=np.zeros(20, int), y_test=np.zeros(5, int))
    return "one.npz"


def several_sizes() -> str:
    for name, size in (("cats", 8), ("dogs", 9)):
        Path("pets", name).mkdir(parents=True)
        for i in range(6):
            Image.new("L", (size, size), 10 * i).save(Path("pets", name, f"{i}.png"))
    return "pets"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (empty_data, "empty holds no images: expected at least two classes"),
        (one_class, "one has one class only ('0'): expected at least two"),
        (several_sizes, "images of several sizes: pets/cats/0.png has 8x8 pixels and pets/dogs/0.png 9x9"),
        (lambda: "nowhere", "'nowhere' does not exist: expected the word digits"),
    ],
)
def test_design_refuses_data_that_can_not_be_learnt(small: list[object], make: Callable[[], str], message: str) -> None:
    assert message in refused(*small, "--data", make(), "--out", "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "run", "--space", "nasbench2"], "unknown search space 'nasbench2'"),
        (["--out", "run", "--strategy", "best"], "unknown search strategy 'best'"),
        (["--out", "run", "--at-most", "val_acc=1"], "unknown metric 'val_acc': known are"),
        (["--out", "run", "--at-most", "latency_ms"], "expected METRIC=VALUE"),
        (["--out", "run", "--budget", "0"], "expected whole numbers of at least 1, got {'budget': 0}"),
        (["--out", "run", "--measured", "11"], "expected at least 12 measured architectures"),
        (["--out", "run", "--limit", "5"], "--limit 5 is too small"),
        ([], "expected either --out FOLDER (a new run) or --resume FOLDER"),
        (["--out", "a", "--resume", "b"], "expected either --out FOLDER (a new run) or --resume FOLDER"),
        (["--resume", "nowhere"], "nowhere holds no run to resume"),
        (["--out", "full"], "full is not empty and holds no run; give another --out"),
        (["--out", "full/paper.txt"], "full/paper.txt is a file, expected a folder"),
    ],
)
def test_design_refuses_bad_arguments_in_one_line(small: list[object], arguments: list[str], message: str) -> None:
    Path("full").mkdir()
    Path("full/paper.txt").write_text("years of work")
    assert message in refused(*small, *arguments)


def test_a_bound_that_nothing_can_meet_names_the_smallest_that_can(
    small: list[object], monkeypatch: pytest.MonkeyPatch, space: SearchSpace
) -> None:
    monkeypatch.setattr(Design, "measure", pretended)
    outcome = archgen(*small, "--at-most", "latency_ms=0.000001", "--out", "run")
    assert outcome.code == 2
    assert outcome.out == ""
    last = outcome.err.splitlines()[-1]
    assert "no architecture of nasbench201 meets latency_ms at most 1e-06 here: the smallest that can be met is" in last
    assert "Traceback" not in outcome.err
    assert "training the supernet" not in outcome.err
    network = {"cells": 1, "channels": 4, "classes": 10, "in_channels": 1, "image_size": 8}
    everything = [
        space.count(space.simplify(arch), **network)["flops"] for arch in space.sample(500, np.random.default_rng(0))
    ]
    assert float(last.split("about ")[1].split(";")[0]) == pytest.approx(min(everything) * 1e-6, rel=0.2)


def test_ctrl_c_ends_a_design_with_status_130_and_says_how_to_go_on(
    finished: tuple[Outcome, Path], small: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: SupernetEvaluator, archs: list[Architecture], *, seed: int) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Design, "measure", pretended)
        patch.setattr(SupernetEvaluator, "evaluate", interrupted)
        outcome = archgen(*small, "--out", "run")
    assert outcome.code == 130
    assert outcome.out == ""
    assert outcome.err.splitlines()[-1] == "archgen: interrupted; go on with: archgen design --resume run"
    assert "Traceback" not in outcome.err
    assert RunFolder.open(Path("run")).seconds.keys() == {"latency", "supernet", "search"}


# -- export


def test_a_finished_run_is_exported_again(finished: tuple[Outcome, Path]) -> None:
    _, folder = finished
    outcome = succeeds("export", folder, "--out", "again.onnx")
    assert outcome.out.startswith("again.onnx: input image ('batch', 1, 8, 8), largest difference to PyTorch ")
    assert Path("again.onnx").read_bytes() == (folder / "best.onnx").read_bytes()
    network, _ = load_network(folder / "best.json")
    assert check_onnx(network, Path("again.onnx"), torch.randn(3, 1, 8, 8)) <= 1e-4


def test_an_architecture_is_exported_untrained(monkeypatch: pytest.MonkeyPatch, space: SearchSpace) -> None:
    tiny = {"cells": 1, "channels": 4, "classes": 10, "in_channels": 3, "image_size": 8}
    loaded = CellSpace("nasbench201", 4, space.roles, tiny)  # type: ignore[attr-defined]
    monkeypatch.setattr("archgen.spaces.load", lambda name: loaded)
    succeeds("export", "--space", "nasbench201", "--arch", ARCH, "--out", "network.onnx")
    (image,) = open_onnx(Path("network.onnx")).get_inputs()
    assert image.shape[1:] == [3, 8, 8]


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
def test_architecture_strings_that_are_wrong_are_refused(arch: str, message: str) -> None:
    Path("network.onnx").write_text("an earlier network")
    assert message in refused("export", "--space", "nasbench201", "--arch", arch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["empty"], "empty/best.json does not exist"),
        (["notes.json"], "notes.json holds kind None, expected 'network'"),
        (["text.json"], "text.json can not be read as JSON"),
        ([], "expected a run folder or best.json, or else both --space and --arch"),
        (["--space", "nasbench201"], "expected a run folder or best.json, or else both --space and --arch"),
        (["empty", "--arch", ARCH], "expected a run folder or best.json, or else both --space and --arch"),
        (["--space", "darts", "--arch", ARCH], "unknown search space 'darts'"),
        (["empty", "--out", "empty"], "empty is a folder"),
    ],
)
def test_export_refuses_what_is_no_network(arguments: list[str], message: str) -> None:
    Path("empty").mkdir()
    Path("notes.json").write_text("{}")
    Path("text.json").write_text("dear diary")
    assert message in refused("export", *arguments)


def test_a_pipe_is_not_replaced_by_a_file() -> None:
    os.mkfifo("pipe")
    line = archgen("generate", "--space", "nasbench201", "--out", "pipe")
    assert line.code == 2
    assert "pipe is a device or a pipe, expected the name of a file to write" in line.err
    assert Path("pipe").is_fifo()


# -- checkpoints


@pytest.fixture
def checkpoints(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the committed generator that may be damaged."""
    shutil.copytree(config.checkpoints_dir() / "generators", workplace / "checkpoints" / "generators")
    monkeypatch.setenv("ARCHGEN_CHECKPOINTS", str(workplace / "checkpoints"))
    return workplace / "checkpoints" / "generators" / "nasbench201-discrete_flow"


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])


def _no_tensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"hello")


def _half_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"kind": "gen')


def _another_kind(folder: Path) -> None:
    header = json.loads((folder / "config.json").read_text())
    artifacts.write_json(folder / "config.json", {**header, "kind": "predictor"})


def _other_weights(folder: Path) -> None:
    artifacts.write_tensors(folder / "model.safetensors", {"w": torch.zeros(3)})


def _another_space(folder: Path) -> None:
    roles = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted"}
    other = CellSpace("small", 3, roles, {"cells": 1, "channels": 4, "classes": 2, "in_channels": 1, "image_size": 8})
    GENERATORS["discrete_flow"](other.node_domain, other.edge_domain).save("discrete_flow", folder, {}, "card")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "damage", [_truncate, _no_tensors, _half_config, _another_kind, _other_weights, _another_space, shutil.rmtree]
)
@pytest.mark.parametrize("command", ["generate", "search", "design"])
def test_truncated_and_foreign_checkpoints_are_refused(
    checkpoints: Path, listed: Path, small: list[object], damage: Callable[[Path], None], command: str
) -> None:
    damage(checkpoints)
    arguments = {
        "generate": ["generate", "--space", "nasbench201", "--out", "new.parquet"],
        "search": search("--strategy", "generative", "--study", "s.db"),
        "design": [*small, "--out", "run"],
    }[command]
    assert "nasbench201" in refused(*arguments)


def test_generate_refuses_unknown_names(space: SearchSpace) -> None:
    base = ["generate", "--space", "nasbench201", "--out", "new.parquet"]
    assert "unknown generator 'flow'" in refused(*base, "--generator", "flow")
    assert "unknown metric 'param': did you mean 'params'?" in refused(*base, "--maximize", "param")
    assert "expected at least one sample and one step" in refused(*base, "-n", 0)
    assert "no architecture of nasbench201 was found with params at most 5 (reachable: " in refused(
        *base, "-n", 1, "--steps", 2, "--at-most", "params=5"
    )


def test_a_generator_is_trained_into_a_checkpoint_that_generates(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, space: SearchSpace
) -> None:
    monkeypatch.setenv("ARCHGEN_CHECKPOINTS", str(workplace / "checkpoints"))
    monkeypatch.setattr("archgen.pretrain._sample_figures", lambda *_: {"valid": 100.0, "unique": 90.0})  # slow
    outcome = succeeds("train", "generator", "--space", "nasbench201", "--steps", 2)
    folder = workplace / "checkpoints" / "generators" / "nasbench201-discrete_flow"
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    assert outcome.out.startswith(f"{folder}: loss ")
    succeeds("generate", "--space", "nasbench201", "-n", 2)
    succeeds("train", "generator", "--space", "nasbench201", "--steps", 1)  # its own checkpoint may be replaced


@pytest.mark.parametrize("config_text", [None, '{"kind": "predictor", "name": "gp", "config": {}}'])
def test_training_does_not_overwrite_what_is_no_generator(config_text: str | None) -> None:
    Path("mine").mkdir()
    Path("mine/model.safetensors").write_text("something")
    if config_text:
        Path("mine/config.json").write_text(config_text)
    line = refused("train", "generator", "--space", "nasbench201", "--steps", 1, "--out", "mine")
    assert "mine holds something that is not a generator's checkpoint; give another --out" in line


def test_training_refuses_what_it_can_not_do() -> None:
    base = ["train", "generator", "--out", "new", "--space"]
    assert "unknown generator 'flow'" in refused(*base, "nasbench201", "--generator", "flow")
    assert "unknown search space 'x'" in refused(*base, "x")
    assert "expected at least one training step, got 0" in refused(*base, "nasbench201", "--steps", 0)


# -- a full disk


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes; the system refuses it as it does on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["old.parquet", "old.csv"])
def test_a_full_disk_is_one_line_and_the_old_file_stays(name: str) -> None:
    Path(name).write_bytes(b"old")
    with room_for(1000):
        line = refused("generate", "--space", "nasbench201", "-n", 40, "--out", name)
    assert "free space or check the path, nothing was overwritten" in line
    assert Path(name).read_bytes() == b"old"


def test_a_disk_that_fills_up_during_a_search_leaves_the_trials_before(
    listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the storage waits before it tries again
    succeeds(*search("--study", "s.db", budget=4))
    Path("trials.parquet").unlink()
    with room_for(Path("s.db").stat().st_size):
        outcome = archgen(*search("--study", "s.db", "--resume", budget=40))
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    assert len([line for line in outcome.err.splitlines() if "search (40)" not in line]) == 1
    assert not Path("trials.parquet").exists()
    answer = json.loads(succeeds(*search("--study", "s.db", "--resume", "--json", budget=4)).out)
    assert answer["evaluations"] >= 4


def test_a_full_disk_at_the_start_of_a_design_is_one_line(small: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *args: Any, **options: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    Path("run").mkdir()
    monkeypatch.setattr(Path, "write_text", full)
    assert "No space left on device" in refused(*small, "--out", "run")


def test_a_trained_generator_that_does_not_fit_leaves_the_old_checkpoint(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archgen.pretrain._sample_figures", lambda *_: {"valid": 100.0, "unique": 90.0})
    with room_for(10_000):
        line = refused("train", "generator", "--space", "nasbench201", "--steps", 1, notes=1)
    assert "free space or check the path, nothing was overwritten" in line
    succeeds("generate", "--space", "nasbench201", "-n", 1)


# -- the process


def process(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONUNBUFFERED", "COLUMNS")}
    return subprocess.Popen(
        [sys.executable, *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment, **options},
    )


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['archgen', *sys.argv[1:]]\n"
        "from archgen.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'numpy', 'pandas', 'optuna', 'botorch', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "print('ended', code, sorted(heavy))"
    )
    out, err = process("-c", code, "--help").communicate()
    assert out.splitlines()[-1] == "ended 0 []"
    for command in ("spaces", "generate", "search", "design", "export", "train"):
        assert f"  {command} " in out
    assert err == ""


@pytest.mark.parametrize("command", ["spaces", "generate", "search", "design", "export", "train generator"])
def test_every_command_has_its_help(command: str) -> None:
    outcome = succeeds(*command.split(), "--help")
    assert outcome.out.startswith("Usage: archgen")
    assert outcome.err == ""


@pytest.mark.parametrize("arguments", [[], ["train"]])
def test_without_a_command_the_help_comes_in_lines(arguments: list[str]) -> None:
    outcome = archgen(*arguments)
    assert outcome.code == 2
    assert "Commands:" in outcome.err.splitlines()


def test_what_the_command_line_itself_refuses_is_one_line_too() -> None:
    assert "No such command 'desing'" in refused("desing")
    assert "No such option: --spaec" in refused("generate", "--spaec", "nasbench201")
    assert "Missing option '--space'" in refused("generate")


def test_a_real_process_ends_with_status_2_and_one_line() -> None:
    running = process("-m", "archgen", "desing")
    out, err = running.communicate()
    assert (running.returncode, out) == (2, "")
    assert err.startswith("archgen: No such command 'desing'")
    assert err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which only Linux has")
@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "archgen", "--help"],
        ["-c", "from archgen import cli; cli.app = lambda **_: print('buffered until the end'); cli.main()"],
    ],
    ids=["help", "result"],
)
def test_standard_output_that_takes_nothing_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        running = process(*arguments, stdout=full)
        _, err = running.communicate()
    assert running.returncode == 2
    assert err.splitlines() == [
        "archgen: No space left on device; free space or check the path, nothing was overwritten"
    ]


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    running = process("-m", "archgen", "--help", stdout=write)
    os.close(write)
    _, err = running.communicate()
    assert (running.returncode, err) == (1, "")


def test_a_real_ctrl_c_ends_a_real_design(finished: tuple[Outcome, Path], workplace: Path) -> None:
    _, folder = finished
    request = DesignRequest(**json.loads((folder / "run.json").read_text())["request"])
    RunFolder.create(workplace / "run", asdict(replace(request, epochs=100_000)))
    shutil.copy(folder / "latency.parquet", workplace / "run")
    running = process("-m", "archgen", "design", "--resume", str(workplace / "run"))
    assert running.stderr is not None
    for line in running.stderr:
        if "training the supernet" in line:
            break
    running.send_signal(signal.SIGINT)
    out, err = running.communicate()
    assert running.returncode == 130, err
    assert out == ""
    assert err.splitlines() == [f"archgen: interrupted; go on with: archgen design --resume {workplace / 'run'}"]
    assert RunFolder.open(workplace / "run").seconds["supernet"] > 0
