"""The options of `archgen search` become the evaluator they name, in wrappers of one order; bad noise is refused."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from archgen.cli.search_evaluator import EvaluatorOptions, make_evaluator, read_noise
from archgen.data import ImageData, Split
from archgen.errors import ArchgenError, InvalidOption, RunConflict, UnknownMetric
from archgen.evaluators import Cached, Cluster, Evaluator, Noisy, Parallel, TabularEvaluator, TrainEvaluator, Wrapper
from archgen.objectives import at_least, at_most, maximize
from archgen.spaces import SearchSpace

OPTIONS = EvaluatorOptions(
    evaluator="table.parquet",
    partial=True,
    data=None,
    epochs=None,
    transfer=None,
    noise=[],
    cache=None,
    workers=1,
    timeout=None,
)
TRAIN = replace(OPTIONS, evaluator="train", partial=False)
WISHES = [maximize("acc"), at_most("lat", 3.0)]
CACHE = Path("c.parquet")


def layers(evaluator: Evaluator) -> list[Evaluator]:
    """The wrappers from the outermost on, and what they are around."""
    inner = layers(evaluator.evaluator) if isinstance(evaluator, Wrapper) else []
    return [evaluator, *inner]


# -- noise -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "std"),
    [
        ([], {}),
        (["0.5"], {"acc": 0.5, "energy": 0.5}),
        (["0"], {"acc": 0.0, "energy": 0.0}),
        (["lat=5e-1"], {"lat": 0.5}),
        (["latency_ms@pixel3=2"], {"latency_ms@pixel3": 2.0}),
        (["acc=1", "lat=2"], {"acc": 1.0, "lat": 2.0}),
        (["0.5", "lat=1"], {"acc": 0.5, "energy": 0.5, "lat": 1.0}),
        (["0.5", "acc=1"], {"acc": 1.0, "energy": 0.5}),
        (["acc=1", "0.5"], {"acc": 0.5, "energy": 0.5}),
        (["acc=1", "acc=2"], {"acc": 2.0}),
    ],
)
def test_noise_is_of_the_metric_named_or_of_all_and_the_last_word_counts(
    texts: list[str], std: dict[str, float]
) -> None:
    assert read_noise(texts, ["acc", "energy"]) == std


@pytest.mark.parametrize(
    "text",
    ["", "=", "acc", "acc=", "0.5=acc", "acc=0,5", "-0.1", "acc=-0.1", "nan", "acc=nan", "inf", "acc=inf", "=0"],
)
def test_what_is_no_standard_deviation_is_refused_wherever_it_stands(text: str) -> None:
    for texts in ([text, "0.5"], ["0.5", text]):
        with pytest.raises(InvalidOption) as refused:
            read_noise(texts, ["acc"])
        expected = f"expected SD or METRIC=SD, a number of at least 0, for --noise, got '{text}'"
        assert str(refused.value) == expected


# -- wrappers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "wrappers"),
    [
        (OPTIONS, []),
        (replace(OPTIONS, workers=2), [Parallel]),
        (replace(OPTIONS, timeout=9.0), [Parallel]),
        (replace(OPTIONS, cache=CACHE), [Cached]),
        (replace(OPTIONS, noise=["0.1"]), [Noisy]),
        (replace(OPTIONS, workers=2, cache=CACHE), [Cached, Parallel]),
        (replace(OPTIONS, timeout=9.0, noise=["lat=0.1"]), [Noisy, Parallel]),
        (replace(OPTIONS, workers=2, timeout=9.0, noise=["0.1"], cache=CACHE), [Noisy, Cached, Parallel]),
    ],
)
def test_noise_is_on_top_of_the_cache_which_asks_the_workers(
    listed: Path, space: SearchSpace, options: EvaluatorOptions, wrappers: list[type[Wrapper]]
) -> None:
    with closing(make_evaluator(options, space, WISHES, seed=0, study=None)) as evaluator:
        assert [type(layer) for layer in layers(evaluator)] == [*wrappers, TabularEvaluator]
        assert evaluator.workers == options.workers
        for layer in layers(evaluator):
            if isinstance(layer, Parallel):
                assert (layer.workers, layer.timeout) == (options.workers, options.timeout)
            if isinstance(layer, Cached):
                assert layer.path == CACHE
    assert list(Path().iterdir()) == [listed], "nothing is written before something is measured"


@pytest.mark.parametrize(
    ("noise", "std"), [(["0.5"], {"acc": 0.5}), (["0.5", "lat=0.1"], {"acc": 0.5, "lat": 0.1}), (["0"], {"acc": 0.0})]
)
def test_a_bound_has_noise_only_where_it_is_named(
    listed: Path, space: SearchSpace, noise: list[str], std: dict[str, float]
) -> None:
    with closing(make_evaluator(replace(OPTIONS, noise=noise), space, WISHES, seed=0, study=None)) as evaluator:
        assert isinstance(evaluator, Noisy)
        assert evaluator.std == std


def test_the_cache_keeps_what_was_measured_and_not_its_noise(listed: Path, space: SearchSpace) -> None:
    noisy, plain = (replace(OPTIONS, cache=CACHE, noise=noise) for noise in (["0.5"], []))
    with closing(make_evaluator(OPTIONS, space, WISHES, seed=0, study=None)) as table:
        assert isinstance(table, TabularEvaluator)
        archs = table.architectures[:2]
        true = [measured.values["acc"] for measured in table.evaluate(archs, seed=0)]
    with closing(make_evaluator(noisy, space, WISHES, seed=0, study=None)) as evaluator:
        values = [measured.values["acc"] for measured in evaluator.evaluate(archs, seed=0)]
        assert all(value != truth for value, truth in zip(values, true, strict=True))
    with closing(make_evaluator(plain, space, WISHES, seed=0, study=None)) as evaluator:
        assert [measured.values["acc"] for measured in evaluator.evaluate(archs, seed=0)] == true


def test_a_cache_that_is_a_folder_is_refused(listed: Path, space: SearchSpace) -> None:
    CACHE.mkdir()
    with pytest.raises(RunConflict, match=r"c\.parquet is a folder"):
        make_evaluator(replace(OPTIONS, cache=CACHE), space, WISHES, seed=0, study=None)


# -- tables and training -----------------------------------------------------------------------------------------


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What images were asked for, with which seed; a few blank ones are given."""
    asked: list[tuple[str, int]] = []
    part = Split(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]))

    def load(what: str, *, seed: int) -> ImageData:
        asked.append((what, seed))
        return ImageData("blank", part, part, part, ("a", "b"), (0.0,), (1.0,), False)

    monkeypatch.setattr("archgen.data.load_data", load)
    return asked


@pytest.mark.parametrize(
    ("transfer", "study", "folder"),
    [
        (None, None, None),
        (None, Path("runs/s.db"), None),
        (0.8, None, None),
        (0.8, Path("runs/s.db"), Path("runs/s.db-weights")),
    ],
)
def test_training_has_the_images_and_epochs_asked_for_and_keeps_weights_beside_the_study(
    read: list[tuple[str, int]], space: SearchSpace, transfer: float | None, study: Path | None, folder: Path | None
) -> None:
    options = replace(TRAIN, data="mine.npz", epochs=7, transfer=transfer)
    with closing(make_evaluator(options, space, [maximize("val_acc")], seed=3, study=study)) as evaluator:
        assert isinstance(evaluator, TrainEvaluator)
        assert read == [("mine.npz", 3)]
        assert evaluator.data.name == "blank"
        assert evaluator.schedule.epochs == 7
        assert (evaluator.transfer, evaluator.folder) == (transfer, folder)


def test_a_bound_on_a_metric_that_training_has_not_is_refused(read: list[tuple[str, int]], space: SearchSpace) -> None:
    wishes = [maximize("val_acc"), at_least("val_accc", 50.0)]
    with pytest.raises(UnknownMetric, match="'val_accc': did you mean 'val_acc'"):
        make_evaluator(replace(TRAIN, cache=CACHE), space, wishes, seed=0, study=None)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(("option", "value"), [("transfer", 0.8), ("data", "digits"), ("epochs", 20)])
def test_what_training_alone_needs_is_refused_before_a_table_is_read(
    space: SearchSpace, option: str, value: object
) -> None:
    with pytest.raises(InvalidOption, match=f"--{option} needs --evaluator train"):
        make_evaluator(replace(OPTIONS, **{option: value}), space, WISHES, seed=0, study=None)  # type: ignore[arg-type]


def test_partial_is_refused_before_images_are_read(read: list[tuple[str, int]], space: SearchSpace) -> None:
    with pytest.raises(InvalidOption, match="--partial is for tables"):
        make_evaluator(replace(TRAIN, partial=True), space, [maximize("val_acc")], seed=0, study=None)
    assert read == []


def test_on_a_cluster_there_are_as_many_workers_as_places(
    listed: Path, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "slots", lambda self, workers: 7)
    cluster = Cluster("auto", {"GPU": 1.0})
    for workers, expected in ((None, 7), (3, 3)):
        options = replace(OPTIONS, workers=workers, cluster=cluster)
        evaluator = make_evaluator(options, space, WISHES, seed=0, study=None)
        assert isinstance(evaluator, Parallel)
        assert evaluator.workers == expected
        made = evaluator._make
        assert isinstance(made, partial)
        assert made.keywords == {"address": "auto", "resources": {"GPU": 1.0}}


def test_a_cluster_without_a_place_is_refused_however_many_workers_are_asked_for(
    listed: Path, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Cluster, workers: int | None) -> int:
        raise ArchgenError("more than any node has")

    monkeypatch.setattr(Cluster, "slots", full)
    options = replace(OPTIONS, workers=3, cluster=Cluster("auto", {"GPU": 64.0}))
    with pytest.raises(ArchgenError, match="more than any node has"):
        make_evaluator(options, space, WISHES, seed=0, study=None)
