"""`archgen train` writes checkpoints that the other commands use, and overwrites nothing else."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest

from archgen.generators import load_generator
from archgen.predictors import load_predictor
from archgen.spaces import SearchSpace

RoomFor = Callable[[int], AbstractContextManager[None]]
Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]

GENERATOR = ["train", "generator", "--space", "nasbench201"]
PREDICTOR = ["train", "predictor", "--space", "nasbench201", "--table", "table.parquet"]


@pytest.fixture
def empty(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for checkpoints that holds none."""
    monkeypatch.setenv("ARCHGEN_CHECKPOINTS", str(workplace / "checkpoints"))
    return workplace / "checkpoints"


# -- generator


@pytest.mark.usefixtures("quick_training")
def test_a_generator_is_trained_into_a_checkpoint_that_generates(empty: Path, succeeds: Run) -> None:
    outcome = succeeds(*GENERATOR, "--steps", 2)
    folder = empty / "generators" / "nasbench201-discrete_flow"
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    assert outcome.stdout.startswith(f"{folder}: loss ")
    assert outcome.stderr == "archgen: training (2) ...\n"
    trained = load_generator(folder)
    assert trained.properties is not None
    assert trained.properties.metrics == ("params", "flops")
    assert trained.noised is not None
    succeeds("generate", "--space", "nasbench201", "-n", 2)
    succeeds(*GENERATOR, "--steps", 1)  # its own checkpoint may be replaced


@pytest.mark.usefixtures("quick_training")
def test_a_generator_is_conditioned_on_every_predictor_of_the_checkpoints(trained: Path, succeeds: Run) -> None:
    succeeds(*GENERATOR, "--steps", 1, "--out", "new")
    properties = load_generator(Path("new")).properties
    assert properties is not None
    assert properties.metrics == ("params", "flops", "acc@phone")
    assert "takes a condition on `params`, `flops`, `acc@phone`" in Path("new/README.md").read_text()


@pytest.mark.usefixtures("quick_training")
def test_an_unlabelled_generator_takes_no_condition_and_needs_no_predictor(trained: Path, succeeds: Run) -> None:
    (trained / "predictors" / "nasbench201-acc-on-phone" / "model.safetensors").unlink()
    succeeds(*GENERATOR, "--unlabelled", "--steps", 1, "--out", "new")
    assert load_generator(Path("new")).properties is None
    assert "takes no condition" in Path("new/README.md").read_text()


@pytest.mark.usefixtures("quick_training")
def test_a_generator_of_another_kind_is_trained_by_its_name(empty: Path, succeeds: Run) -> None:
    succeeds(*GENERATOR, "--generator", "score_sde", "--unlabelled", "--steps", 1)
    header = json.loads((empty / "generators" / "nasbench201-score_sde" / "config.json").read_text())
    assert (header["kind"], header["name"]) == ("generator", "score_sde")


@pytest.mark.usefixtures("quick_training")
def test_one_step_is_distilled_from_the_conditional_generator_of_the_checkpoints(trained: Path, succeeds: Run) -> None:
    outcome = succeeds(*GENERATOR, "--generator", "one_step", "--steps", 2)
    assert outcome.stderr.splitlines() == [
        "archgen: distilling on samples of the discrete_flow generator of nasbench201",
        "archgen: training (2) ...",
    ]
    student = load_generator(trained / "generators" / "nasbench201-one_step")
    assert student.properties is not None
    assert student.properties.metrics == ("params", "acc@phone")
    condition = ("--condition", "acc@phone=75")
    succeeds("generate", "--space", "nasbench201", "-n", 2, "--generator", "one_step", *condition)


@pytest.mark.usefixtures("quick_training")
def test_a_generator_is_adapted_to_examples(trained: Path, listed: Path, succeeds: Run) -> None:
    base = trained / "generators" / "nasbench201-discrete_flow"
    before = {path.name: path.read_bytes() for path in base.iterdir()}
    outcome = succeeds(*GENERATOR, "--from", base, "--examples", listed, "--steps", 2, "--out", "mine")
    assert outcome.stderr == "archgen: adapting (2) ...\n"
    assert "60 examples, to which a trained one is adapted" in Path("mine/README.md").read_text()
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before
    old, new = load_generator(base).state_dict(), load_generator(Path("mine")).state_dict()
    assert {name for name in new if not new[name].equal(old[name])} == {"context"}


@pytest.mark.parametrize("config_text", [None, '{"kind": "predictor", "name": "gp", "config": {}}'])
@pytest.mark.parametrize("command", [GENERATOR, [*PREDICTOR, "--metric", "acc"]], ids=["generator", "predictor"])
def test_training_does_not_overwrite_what_it_did_not_write(
    listed: Path, command: list[str], config_text: str | None, refused: Refused
) -> None:
    kind = command[1]
    Path("mine").mkdir()
    Path("mine/model.safetensors").write_text("something")
    if config_text:
        other = {"generator": "predictor", "predictor": "generator"}[kind]
        Path("mine/config.json").write_text(config_text.replace("predictor", other))
    line = refused(*command, "--out", "mine")
    assert f"mine holds something that is not a {kind}'s checkpoint; give another --out" in line
    Path("paper.txt").write_text("years of work")
    assert "paper.txt is a file, expected a folder" in refused(*command, "--out", "paper.txt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--space", "x"], "unknown search space 'x'"),
        (["--generator", "flow"], "unknown generator 'flow'"),
        (["--steps", "0"], "Invalid value for '--steps'"),
        (["--generator", "one_step", "--unlabelled"], "one_step is distilled from a conditional generator"),
        (["--generator", "one_step"], "there is no discrete_flow generator for nasbench201"),
        (["--from", "base"], "--from and --examples go together"),
        (["--examples", "table.parquet"], "--from and --examples go together"),
        (["--from", "base", "--examples", "table.parquet"], "base/config.json does not exist"),
        (["--from", "base", "--examples", "no.csv"], "base/config.json does not exist"),
    ],
)
def test_training_a_generator_refuses_what_it_can_not_do(
    empty: Path, listed: Path, arguments: list[str], message: str, refused: Refused
) -> None:
    assert message in refused(*GENERATOR, *arguments, "--out", "new")


def test_an_adapted_generator_does_not_replace_the_trained_one(trained: Path, listed: Path, refused: Refused) -> None:
    base = trained / "generators" / "nasbench201-discrete_flow"
    line = refused(*GENERATOR, "--from", base, "--examples", listed)
    assert "--from needs --out: without it the adapted generator would replace a trained one" in line


@pytest.mark.usefixtures("quick_training")
def test_only_a_flow_of_the_same_space_is_adapted_to_examples_of_that_space(
    trained: Path, own_space: Path, listed: Path, table: pd.DataFrame, succeeds: Run, refused: Refused
) -> None:
    succeeds("train", "generator", "--space", own_space, "--unlabelled", "--steps", 1, "--out", "other")
    base = [*GENERATOR, "--out", "new", "--from"]
    assert "other was trained on another space than nasbench201" in refused(*base, "other", "--examples", listed)
    succeeds(*GENERATOR, "--generator", "score_sde", "--unlabelled", "--steps", 1, "--out", "sde")
    assert "only a discrete_flow generator can be adapted" in refused(*base, "sde", "--examples", listed)
    flow = trained / "generators" / "nasbench201-discrete_flow"
    assert "no.csv is not a file" in refused(*base, flow, "--examples", "no.csv")
    table[:1].to_csv("one.csv", index=False)
    assert "expected at least 2 examples and one step, got 1 and 3000" in refused(*base, flow, "--examples", "one.csv")


@pytest.mark.usefixtures("quick_training")
def test_one_step_needs_a_teacher_that_takes_conditions(empty: Path, succeeds: Run, refused: Refused) -> None:
    succeeds(*GENERATOR, "--unlabelled", "--steps", 1)
    line = refused(*GENERATOR, "--generator", "one_step", "--steps", 1)
    assert "the discrete_flow generator of nasbench201 takes no condition" in line


@pytest.mark.usefixtures("quick_training")
def test_a_trained_generator_that_does_not_fit_leaves_the_old_checkpoint(
    trained: Path, succeeds: Run, refused: Refused, room_for: RoomFor
) -> None:
    with room_for(3_000):
        line = refused(*GENERATOR, "--steps", 1, notes=1)
    assert "free space or check the path, nothing was overwritten" in line
    succeeds("generate", "--space", "nasbench201", "-n", 1)


# -- predictor


def test_a_predictor_is_fitted_judged_on_other_rows_and_written(
    empty: Path, listed: Path, table: pd.DataFrame, space: SearchSpace, succeeds: Run
) -> None:
    outcome = succeeds(*PREDICTOR, "--metric", "acc@phone", "--column", "acc", "--labels", 45)
    folder = empty / "predictors" / "nasbench201-acc-on-phone"
    name, _, figures = outcome.stdout.strip().partition(": ")
    assert name == str(folder)
    told = {key: float(value) for key, value in (part.split() for part in figures.split(", "))}
    assert list(told) == ["labels", "unseen", "tau", "rho", "error", "coverage90", "seconds"]
    assert (told["labels"], told["unseen"]) == (48, 12)  # four fifths of a table of less than twice the labels
    assert told["rho"] > 0.5  # the accuracy follows from the number of convolutions, dead ones too
    assert outcome.stderr == ""
    predictor = load_predictor(folder, space)
    assert predictor.metric == "acc@phone"
    predicted = predictor.predict([space.parse(text) for text in table["arch"]]).mean
    assert np.corrcoef(predicted, table["acc"])[0, 1] > 0.8
    card = (folder / "README.md").read_text()
    assert "column `acc` of table.parquet" in card
    assert "archgen train predictor --space nasbench201 --table table.parquet --metric acc@phone" in card
    succeeds(*PREDICTOR, "--metric", "acc@phone", "--column", "acc", "--labels", 20, "--seed", 1)  # may be replaced


@pytest.mark.usefixtures("quick_training")
def test_what_is_predicted_can_be_wished_for(empty: Path, listed: Path, succeeds: Run) -> None:
    succeeds(*PREDICTOR, "--metric", "lat", "--predictor", "latency")
    succeeds(*GENERATOR, "--steps", 1)
    wishes = ("--at-most", "lat=4", "--condition", "lat=3", "--json")
    samples = json.loads(succeeds("generate", "--space", "nasbench201", "-n", 3, *wishes).stdout)["samples"]
    assert all(sample["lat"] <= 4 for sample in samples)


def test_a_predictor_of_a_space_of_ones_own(own_space: Path, succeeds: Run) -> None:
    operations = ("none", "skip_connect", "my_scale")
    cells = [f"|{a}~0|+|{b}~0|{c}~1|" for a, b, c in itertools.product(operations, repeat=3)]
    pd.DataFrame({"arch": cells, "acc": [cell.count("my_scale") + 0.1 for cell in cells]}).to_csv(
        "own.csv", index=False
    )
    outcome = succeeds("train", "predictor", "--space", own_space, "--table", "own.csv", "--metric", "acc")
    assert "my_cells-acc: labels 21, unseen 6" in outcome.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "accu"], "unknown metric 'accu': did you mean 'acc'?"),
        (["--metric", "acc", "--column", "latency"], "unknown metric 'latency': did you mean 'lat'?"),
        (["--metric", "acc@phone"], "unknown metric 'acc@phone': did you mean 'acc'?"),
        (["--metric", "acc", "--predictor", "gpp"], "unknown predictor 'gpp': did you mean 'gp'?"),
        (["--metric", "acc", "--predictor", "count"], "unknown metric 'acc': known are: flops, params"),
        (["--metric", "acc", "--labels", "4"], "--labels"),
        (["--metric", "acc", "--table", "few.csv"], "expected at least 10 architectures to fit and judge"),
        (["--metric", "acc", "--table", "nan.csv"], "nan.csv: 1 row has NaN or an infinite value in 'acc'"),
        (["--metric", "acc", "--table", "no.csv"], "no.csv is not a file"),
        (["--metric", "acc", "--table", "bare.csv"], "bare.csv has no column 'arch'"),
        (["--metric", "acc", "--space", "nasbench_macro"], "an architecture that is none of nasbench_macro"),
        (["--metric", "negative", "--table", "nan.csv", "--predictor", "latency"], "negative must be above 0 ms"),
        ([], "Missing option '--metric'"),
    ],
)
def test_training_a_predictor_refuses_what_it_can_not_learn(
    empty: Path, listed: Path, table: pd.DataFrame, arguments: list[str], message: str, refused: Refused
) -> None:
    table[:9].to_csv("few.csv", index=False)
    table.assign(acc=table["acc"].where(table.index != 4), negative=-table["lat"]).to_csv("nan.csv", index=False)
    table.drop(columns="arch").to_csv("bare.csv", index=False)
    assert message in refused(*PREDICTOR, *arguments)


def test_a_predictor_that_does_not_fit_on_the_disk_is_one_line(
    trained: Path, listed: Path, space: SearchSpace, refused: Refused, room_for: RoomFor
) -> None:
    with room_for(500):
        line = refused(*PREDICTOR, "--metric", "acc@phone", "--column", "acc")
    assert "free space or check the path, nothing was overwritten" in line
    assert load_predictor(trained / "predictors" / "nasbench201-acc-on-phone", space).metric == "acc@phone"
