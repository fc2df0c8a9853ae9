"""`archgen predictor evaluate` and `fit` on a table of a known law."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest

from archgen import spaces
from archgen.predictors import MetaPredictor, load_predictor
from archgen.surrogates import Ensemble, GaussianProcess

Run = Callable[..., CompletedProcess[str]]
Refused = Callable[..., str]
Images = Callable[[str, float], str]
SPACE = spaces.load("nasbench201")


@pytest.fixture
def table(workplace: Path) -> Path:
    archs = SPACE.sample(90, np.random.default_rng(0))
    convolutions = np.array([sum("conv" in op for op in SPACE.simplify(arch).ops) for arch in archs])
    frame = pd.DataFrame({"arch": [SPACE.format(arch) for arch in archs]})
    frame["accuracy"] = 60 + 5 * convolutions + np.random.default_rng(1).uniform(0, 1, 90)
    frame.to_csv("accuracy.csv", index=False)
    return workplace / "accuracy.csv"


def test_evaluate_prints_the_figures_of_the_unseen_rows(table: Path, succeeds: Run) -> None:
    arguments = ["predictor", "evaluate", "--space", "nasbench201", "--table", table, "--target", "accuracy", "-n", 40]
    figures = json.loads(succeeds(*arguments, "--seed", 1, "--json").stdout)
    assert {"kendall_tau", "spearman_rho", "mae", "coverage"} <= figures.keys()
    assert figures["unseen"] == 50
    assert figures["kendall_tau"] > 0.7
    assert 50 < figures["coverage"] <= 100
    assert succeeds(*arguments, "--seed", 1).stdout.startswith(f"kendall_tau {figures['kendall_tau']:.4g}, ")


def test_fit_writes_a_checkpoint_that_predicts(table: Path, succeeds: Run) -> None:
    arguments = ["predictor", "fit", "--space", "nasbench201", "--table", table, "--target", "accuracy"]
    facts = json.loads(succeeds(*arguments, "-n", 30, "--out", "mine", "--json").stdout)
    assert facts == {"out": "mine", "target": "accuracy", "model": "gp", "n": 30}
    predictor = load_predictor(Path("mine"), SPACE)
    assert isinstance(predictor, GaussianProcess)
    assert len(predictor.training_data[0]) == 30


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        ({}, ["--model", "gpp"], "unknown predictor 'gpp': did you mean 'gp'?"),
        ({}, ["--target", "acuracy"], "did you mean 'accuracy'?"),
        ({}, ["-n", "89"], "the table has 90 architectures; give n from 2 to 88"),
        ({"accuracy": 3.0}, [], "the same value, 3, everywhere"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    table: Path, refused: Refused, change: dict[str, float], more: list[str], message: str
) -> None:
    pd.read_csv(table).assign(**change).to_csv(table, index=False)
    arguments = ["predictor", "evaluate", "--space", "nasbench201", "--table", table, "--target", "accuracy", "-n", 40]
    assert message in refused(*arguments, *more)


def test_a_fit_of_nothing_is_refused(table: Path, refused: Refused) -> None:
    arguments = ["predictor", "fit", "--space", "nasbench201", "--table", table, "--target", "accuracy", "--out", "m"]
    assert "has 90 architectures, 91 were asked for" in refused(*arguments, "-n", 91)
    pd.read_csv(table).assign(accuracy=1.0).to_csv(table, index=False)
    assert "the same value, 1, in every row" in refused(*arguments)


@pytest.fixture
def data_sets(table: Path) -> Path:
    """`accuracy` is known of 30 rows only; `other` and `third`, data sets that order alike, of nearly all."""
    frame = pd.read_csv(table)
    frame["other"], frame["third"] = 0.5 * frame["accuracy"] + 7, np.log(frame["accuracy"])
    frame.loc[30:, "accuracy"] = np.nan
    frame.loc[80:, "third"] = np.nan
    frame.to_csv(table, index=False)
    return table


def test_meta_leans_on_other_columns_of_the_table(data_sets: Path, succeeds: Run) -> None:
    """Without a single label of the target it orders the 30 cells that have one as the other data sets do."""
    meta = ["--target", "accuracy", "--model", "meta", "--sources", "other, third", "--json"]
    evaluate = ["predictor", "evaluate", "--space", "nasbench201", "--table", data_sets, *meta]
    none, some = (json.loads(succeeds(*evaluate, "-n", n).stdout) for n in (0, 10))
    assert (none["unseen"], some["unseen"]) == (30, 20)
    assert none["kendall_tau"] > 0.8
    assert some["kendall_tau"] > 0.8
    assert some["mae"] < 5 < none["mae"]  # the level of the target is known from labels alone
    fit = ["predictor", "fit", "--space", "nasbench201", "--table", data_sets, *meta, "--out", "mine"]
    facts = json.loads(succeeds(*fit).stdout)
    assert facts == {"out": "mine", "target": "accuracy", "model": "meta", "n": 30, "sources": ["other", "third"]}
    predictor = load_predictor(Path("mine"), SPACE)
    assert isinstance(predictor, MetaPredictor)
    assert [len(source.archs) for source in predictor.sources] == [90, 80]
    assert "leaning on `other`, `third`" in Path("mine/README.md").read_text()


def test_sources_count_as_their_images_resemble_the_targets(
    data_sets: Path, images: Images, succeeds: Run, refused: Refused
) -> None:
    looks = {"accuracy": images("a.npz", 0.3), "other": images("o.npz", 0.32), "third": images("t.npz", 0.8)}
    meta = ["--space", "nasbench201", "--table", data_sets, "--target", "accuracy", "--model", "meta"]
    fit = ["predictor", "fit", *meta, "--sources", "other,third", "-n", 10, "--out", "mine"]
    given = [f"--images={column}={path}" for column, path in looks.items()]
    succeeds(*fit, *given)
    predictor = load_predictor(Path("mine"), SPACE)
    assert isinstance(predictor, MetaPredictor)
    assert predictor.prior_weights[0] > 0.6 > 0.4 > predictor.prior_weights[1]
    evaluate = ["predictor", "evaluate", *meta, "--sources", "other,third", "-n", 0]
    assert "kendall_tau" in succeeds(*evaluate, *given).stdout
    assert "give --images of other, third too" in refused(*evaluate, given[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "accuracy=digits"], "a gp predictor has no use for --images"),
        (["--model", "meta"], "name their columns by --sources"),
        (["--model", "meta", "--sources", " ,"], "name their columns by --sources"),
        (["--sources", "other"], "a gp predictor has no use for --sources"),
        (["--model", "meta", "--sources", "other,accuracy"], "accuracy is the target, so it can not be a source too"),
        (["--model", "meta", "--sources", "othr"], "did you mean 'other'?"),
        (["--model", "meta", "--sources", "empty"], "column 'empty' has no value in any row"),
        (["--model", "meta", "--sources", "endless"], "1 row has an infinite value in 'endless'"),
        (["--model", "meta", "--sources", "other", "-n", 29], "the table has 30 architectures; give n from 0 to 28"),
        (["--model", "gbdt", "-n", 0], "a gbdt predictor needs labels to fit on, got -n 0"),
        ([], "60 rows have NaN or an infinite value in 'accuracy'"),
    ],
)
def test_sources_that_can_not_be_leant_on_are_refused(
    data_sets: Path, refused: Refused, arguments: list[object], message: str
) -> None:
    frame = pd.read_csv(data_sets).assign(empty=np.nan, endless=1.0)
    frame.loc[3, "endless"] = np.inf
    frame.to_csv(data_sets, index=False)
    evaluate = ["predictor", "evaluate", "--space", "nasbench201", "--table", data_sets, "--target", "accuracy"]
    assert message in refused(*evaluate, "-n", 10, *arguments)


def test_an_argument_of_the_model_is_an_option(table: Path, succeeds: Run) -> None:
    evaluate = ["predictor", "evaluate", "--space", "nasbench201", "--table", table, "--target", "accuracy", "-n", 40]
    small = [f"--option={o}" for o in ("members=2", "steps=20", "pretraining=2", "unlabelled=20", "width=8")]
    taus = [
        json.loads(succeeds(*evaluate, "--model", "gnn", *small, f"--option=loss={loss}", "--json").stdout)
        for loss in ("hinge", "diff_kendall", "diff_kendall")
    ]
    assert taus[0]["kendall_tau"] != taus[1]["kendall_tau"] == taus[2]["kendall_tau"]


@pytest.mark.parametrize(
    ("model", "option", "message"),
    [
        ("gnn", "loss=kendal", "did you mean 'diff_kendall'?"),
        ("gnn", "width=0", "width of a predictor must be at least 1, got 0"),
        ("parzc", "draws=-1", "draws of a predictor must be at least 1, got -1"),
        ("gp", "layers=maybe", "option 'layers' must be true or false"),
        ("gp+gbdt", "features=choices", "unknown option of model 'gp+gbdt' 'features'"),
        ("gbdt", "features=edges", "unknown value of option 'features' 'edges'"),
    ],
)
def test_an_option_that_the_model_has_not_is_refused(
    table: Path, refused: Refused, model: str, option: str, message: str
) -> None:
    evaluate = ["predictor", "evaluate", "--space", "nasbench201", "--table", table, "--target", "accuracy", "-n", 40]
    assert message in refused(*evaluate, "--model", model, "--option", option)


def test_names_joined_by_plus_are_an_ensemble(table: Path, succeeds: Run, refused: Refused) -> None:
    fit = ["predictor", "fit", "--space", "nasbench201", "--table", table, "--target", "accuracy", "--out", "mine"]
    assert "(gbdt+gp) from 30 architectures" in succeeds(*fit, "-n", 30, "--model", "gbdt+gp").stdout
    predictor = load_predictor(Path("mine"), SPACE)
    assert isinstance(predictor, Ensemble)
    assert predictor.names == ("gbdt", "gp")
    assert "unknown predictor 'gnnn': did you mean 'gnn'?" in refused(*fit, "--model", "gp+gnnn")
