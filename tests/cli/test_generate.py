"""`archgen generate` prints and writes what it draws, keeps wishes, and refuses what can not be drawn."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import CompletedProcess

import pandas as pd
import pytest

from archgen.objectives import Objective
from archgen.predictors import load_predictor
from archgen.spaces import SearchSpace, load

RoomFor = Callable[[int], AbstractContextManager[None]]
Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]


def test_generate_prints_a_table_of_as_many_architectures_as_asked_for(space: SearchSpace, succeeds: Run) -> None:
    outcome = succeeds("generate", "--space", "nasbench201", "-n", 4, "--seed", 3)
    header, *rows = outcome.stdout.splitlines()
    assert header.split() == ["arch", "params", "flops", "valid"]
    assert len({space.parse(row.split()[0]) for row in rows}) == 4
    assert "4 architectures (drawn" in outcome.stderr
    assert succeeds("generate", "--space", "nasbench201", "-n", 4, "--seed", 3).stdout == outcome.stdout
    assert succeeds("generate", "--space", "nasbench201", "-n", 4, "--seed", 4).stdout != outcome.stdout


def test_generate_keeps_bounds_and_its_json_can_be_read(space: SearchSpace, succeeds: Run) -> None:
    wishes = ["--minimize", "flops", "--at-most", "params=600000", "--at-least", "params=200000"]
    outcome = succeeds("generate", "--space", "nasbench201", "-n", 5, *wishes, "--json")
    answer = json.loads(outcome.stdout)
    assert len(answer["samples"]) == 5
    for sample in answer["samples"]:
        assert 200_000 <= sample["params"] <= 600_000
        arch = space.simplify(space.parse(sample["arch"]))
        assert space.count(arch) == {"params": sample["params"], "flops": sample["flops"]}
    assert answer["diagnostics"]["valid"] == 100
    assert outcome.stderr == ""


@pytest.mark.parametrize(("name", "read"), [("a.parquet", pd.read_parquet), ("new/a.csv", pd.read_csv)])
def test_generate_writes_parquet_and_csv(
    name: str, read: Callable[[Path], pd.DataFrame], space: SearchSpace, succeeds: Run
) -> None:
    outcome = succeeds("generate", "--space", "nasbench201", "-n", 6, "--out", name)
    assert outcome.stdout == ""
    assert f"6 architectures in {name}" in outcome.stderr
    frame = read(Path(name))
    assert list(frame.columns) == ["arch", "params", "flops", "valid"]
    assert len({space.parse(text) for text in frame["arch"]}) == 6
    assert [p.name for p in Path(name).parent.iterdir()] == [Path(name).name], "a temporary file was left"


def test_too_few_distinct_architectures_are_a_warning_in_one_line(
    own_space: Path, quick_training: None, succeeds: Run
) -> None:
    succeeds("train", "generator", "--space", own_space, "--unlabelled", "--steps", 1)
    outcome = succeeds("generate", "--space", own_space, "-n", 30, "--out", "a.parquet")
    warning, summary = outcome.stderr.splitlines()
    assert warning.startswith("archgen: only 27 of 30 architectures were found that differ")
    assert summary.startswith("archgen: 27 architectures in a.parquet (drawn")
    assert len(set(pd.read_parquet("a.parquet")["arch"])) == 27
    again = succeeds("generate", "--space", own_space, "-n", 30, "--duplicates", "--out", "b.parquet")
    assert len(again.stderr.splitlines()) == 1
    assert len(pd.read_parquet("b.parquet")) == 30


def test_generate_refuses_unknown_names(space: SearchSpace, refused: Refused) -> None:
    base = ["generate", "--space", "nasbench201", "--out", "new.parquet"]
    assert "unknown generator 'flow'" in refused(*base, "--generator", "flow")
    assert "unknown metric 'param': did you mean 'params'?" in refused(*base, "--maximize", "param")
    assert "expected 1 to 10,000,000 samples, got n=0" in refused(*base, "-n", 0)
    assert "expected 1 to 10,000,000 samples, got n=10000001" in refused(*base, "-n", 10_000_001)
    assert "no architecture of nasbench201 was found with params at most 5 (reachable: " in refused(
        *base, "-n", 1, "--steps", 2, "--at-most", "params=5"
    )


def test_a_pipe_is_not_replaced_by_a_file(run: Run) -> None:
    os.mkfifo("pipe")
    line = run("generate", "--space", "nasbench201", "--out", "pipe")
    assert line.returncode == 2
    assert "pipe is a device or a pipe, expected the name of a file to write" in line.stderr
    assert Path("pipe").is_fifo()


@pytest.mark.parametrize("name", ["old.parquet", "old.csv"])
def test_a_full_disk_is_one_line_and_the_old_file_stays(name: str, refused: Refused, room_for: RoomFor) -> None:
    Path(name).write_bytes(b"old")
    with room_for(1000):
        line = refused("generate", "--space", "nasbench201", "-n", 40, "--out", name)
    assert "free space or check the path, nothing was overwritten" in line
    assert Path(name).read_bytes() == b"old"


def test_truncated_and_foreign_checkpoints_are_refused(damaged: Path, refused: Refused) -> None:
    assert "nasbench201" in refused("generate", "--space", "nasbench201", "--out", "new.parquet")


# -- conditions and guidance, on checkpoints of the tests' own


def generate(*arguments: object) -> list[object]:
    return ["generate", "--space", "nasbench201", "-n", 3, "--steps", 2, *arguments]


def test_a_condition_is_predicted_and_shown(trained: Path, succeeds: Run) -> None:
    outcome = succeeds(*generate("--condition", "acc@phone=75", "--condition", "params=5e5", "--json"))
    samples = json.loads(outcome.stdout)["samples"]
    assert list(samples[0]) == ["arch", "acc@phone", "params", "flops", "valid"]
    assert all(60 <= sample["acc@phone"] <= 90.5 for sample in samples)
    assert outcome.stderr == ""


def test_a_condition_outside_the_trained_range_is_a_warning_that_says_the_range(trained: Path, succeeds: Run) -> None:
    outcome = succeeds(*generate("--condition", "acc@phone=300", "--out", "a.csv"))
    warning, summary = outcome.stderr.splitlines()
    assert re.match(
        r"archgen: acc@phone = 300 is outside what the generator was trained on, 6\d\.\d* to [789]\d\.?\d*; "
        "the nearest end is used",
        warning,
    )
    assert summary.startswith("archgen: 3 architectures in a.csv")


@pytest.mark.parametrize("method", ["classifier_free", "importance", "particles", "noised"])
def test_each_guidance_follows_a_wish(trained: Path, succeeds: Run, method: str) -> None:
    outcome = succeeds(*generate("--maximize", "acc@phone", "--guidance", method, "--strength", 2, "--json"))
    answer = json.loads(outcome.stdout)
    assert len(answer["samples"]) == 3
    assert (answer["diagnostics"]["calls"] > 0) == (method in ("importance", "particles"))


def test_several_guidances_join(trained: Path, succeeds: Run) -> None:
    both = ("--guidance", "classifier_free", "--guidance", "importance")
    answer = json.loads(succeeds(*generate("--maximize", "acc@phone", *both, "--json")).stdout)
    assert answer["diagnostics"]["calls"] > 0


def test_a_stronger_pull_reaches_further(trained: Path, succeeds: Run) -> None:
    """An importance weight of exp(6 z) against none at all: 40 samples each, of a spread of about 6."""

    def mean(strength: float) -> float:
        wish = ("--maximize", "acc@phone", "--guidance", "importance", "--strength", strength)
        answer = json.loads(succeeds(*generate("-n", 40, *wish, "--json")).stdout)
        return sum(sample["acc@phone"] for sample in answer["samples"]) / 40

    assert mean(6.0) > mean(0.0) + 2


@pytest.mark.parametrize("trade_off", ["sum", "weights", "hypervolume"])
def test_two_directions_trade_off(trained: Path, succeeds: Run, trade_off: str) -> None:
    wishes = ("--maximize", "acc@phone", "--minimize", "params", "--trade-off", trade_off, "--json")
    assert len(json.loads(succeeds(*generate(*wishes)).stdout)["samples"]) == 3


def test_a_confidence_moves_the_bound_by_the_predictors_interval(
    trained: Path, succeeds: Run, space: SearchSpace
) -> None:
    bound, confidence = Objective("acc@phone", "at_least", 72.0), 0.8
    wish = ("--at-least", "acc@phone=72", "--confidence", confidence, "--json")
    samples = json.loads(succeeds(*generate(*wish)).stdout)["samples"]
    predictor = load_predictor(trained / "predictors" / "nasbench201-acc-on-phone", space)
    archs = [space.parse(sample["arch"]) for sample in samples]
    assert (predictor.limit(archs, bound, confidence) >= 72).all()
    assert all(sample["acc@phone"] > 72 for sample in samples)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--condition", "acc@phone"], "expected METRIC=VALUE with a number for --condition, got 'acc@phone'"),
        (
            ["--condition", "acc@phone=high"],
            "expected METRIC=VALUE with a number for --condition, got 'acc@phone=high'",
        ),
        (["--condition", "params=nan"], "expected METRIC=VALUE with a number for --condition, got 'params=nan'"),
        (["--condition", "=5"], "expected METRIC=VALUE with a number for --condition, got '=5'"),
        (["--condition", "flops=5"], "unknown metric 'flops'"),
        (["--at-least", "acc@phone=70", "--confidence", "1.5"], "a confidence must be between 0 and 1, got 1.5"),
        (["--at-least", "acc@phone=70", "--confidence", "0"], "a confidence must be between 0 and 1, got 0.0"),
        (["--at-least", "acc@phone=99", "--confidence", "0.9"], "found with acc@phone at least 99 (reachable: "),
        (["--at-least", "acc@phone=70", "--at-most", "acc@phone=60"], "can not be at least 70 and at most 60"),
        (["--maximize", "params", "--guidance", "import"], "unknown guidance 'import': did you mean 'importance'?"),
        (["--maximize", "params", "--strength", "-1"], "--strength"),
        (["--maximize", "params", "--strength", "nan"], "--strength"),
        (["--maximize", "params", "--strength", "inf"], "expected a finite --strength of at least 0, got inf"),
        (["--maximize", "params", "--strength", "much"], "--strength"),
        (["--trade-off", "best"], "expected a trade-off out of sum, weights, hypervolume, got 'best'"),
        (["--steps", "0"], "expected at least one solver step and at most 10,000, got steps=0"),
        (["--steps", "some"], "--steps"),
        (["--generator", "one_step"], "there is no one_step generator for nasbench201"),
    ],
)
def test_generate_refuses_bad_conditions_and_guidance_in_one_line(
    trained: Path, arguments: list[str], message: str, refused: Refused
) -> None:
    assert message in refused(*generate(*arguments, "--out", "new.parquet"))


def test_a_condition_needs_a_generator_that_takes_one(
    own_space: Path, quick_training: None, succeeds: Run, refused: Refused
) -> None:
    succeeds("train", "generator", "--space", own_space, "--unlabelled", "--steps", 1)
    base = ["generate", "--space", own_space, "--out", "new.parquet"]
    line = refused(*base, "--condition", "params=5")
    assert "a condition (params) needs a generator that was trained with conditions" in line
    line = refused(*base, "--maximize", "params", "--guidance", "classifier_free")
    assert "classifier-free guidance needs a generator that was trained with conditions" in line
    assert "no predictor of noised graphs" in refused(*base, "--maximize", "params", "--guidance", "noised")


def test_a_space_of_ones_own_has_a_generator_of_its_own(own_space: Path, quick_training: None, succeeds: Run) -> None:
    trained = succeeds("train", "generator", "--space", own_space, "--steps", 1)
    assert "my_cells-discrete_flow: loss " in trained.stdout
    wishes = ("--at-most", "params=18900", "--condition", "params=18800")
    answer = json.loads(succeeds("generate", "--space", own_space, "-n", 4, *wishes, "--json").stdout)
    own = load(own_space)
    assert len({own.parse(sample["arch"]) for sample in answer["samples"]}) == 4
    assert all(sample["params"] <= 18_900 for sample in answer["samples"])


def test_a_space_of_ones_own_without_a_generator_says_how_to_train_one(own_space: Path, refused: Refused) -> None:
    assert "train one: archgen train generator --space my_cells" in refused("generate", "--space", own_space)
