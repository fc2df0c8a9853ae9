"""A predictor's checkpoint is fitted on some rows and judged on others, and its card tells what was measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from archgen.errors import ArchgenError, UnknownMetric, UnknownName
from archgen.graph import Architecture
from archgen.objectives import at_least, at_most
from archgen.predictors import Count, LatencyPredictor, load_predictor
from archgen.pretrain_predictor import UNSEEN, checkpoint_name, make_predictor, pretrain_predictor
from archgen.spaces import SearchSpace
from archgen.surrogates import GaussianProcess

Floats = NDArray[np.float64]
FACTS: dict[str, Any] = {"source": "a made-up table", "command": "archgen train predictor --made-up"}


@pytest.fixture(scope="module")
def archs(space: SearchSpace) -> list[Architecture]:
    return list(dict.fromkeys(space.sample(170, np.random.default_rng(0))))[:160]


@pytest.fixture(scope="module")
def latency(space: SearchSpace, archs: list[Architecture]) -> Floats:
    """Milliseconds that follow from the FLOPs of the simplified network, with noise of 2 %."""
    flops = np.array([space.count(space.simplify(arch))["flops"] for arch in archs])
    return (0.5 + flops * 1e-8) * np.random.default_rng(1).normal(1.0, 0.02, len(archs))


@pytest.fixture(scope="module")
def made(
    space: SearchSpace, archs: list[Architecture], latency: Floats, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, float]]:
    """A checkpoint of a predictor that was fitted on 70 of 160 rows, and its figures."""
    folder = tmp_path_factory.mktemp("predictors") / checkpoint_name(space, "latency_ms@phone")
    arguments = {"metric": "latency_ms@phone", "kind": "latency", "labels": 70, "seed": 5}
    return folder, pretrain_predictor(space, archs, latency, folder, **arguments, **FACTS)


def rows(n: int, labels: int, seed: int) -> tuple[list[int], list[int]]:
    order = np.random.default_rng(seed).permutation(n).tolist()
    return order[:labels], order[labels:]


def test_the_figures_are_of_rows_that_the_predictor_has_not_seen(
    space: SearchSpace, archs: list[Architecture], latency: Floats, made: tuple[Path, dict[str, float]]
) -> None:
    folder, figures = made
    assert (figures["labels"], figures["unseen"]) == (70, 90)
    predictor = load_predictor(folder, space)
    seen, unseen = rows(160, 70, seed=5)
    again = make_predictor("latency", space, "latency_ms@phone", built_simplified=False)
    again.fit([archs[i] for i in seen], latency[seen])
    np.testing.assert_allclose(predictor.predict(archs).mean, again.predict(archs).mean, rtol=1e-6)
    others, truth = [archs[i] for i in unseen], latency[unseen]
    mean = predictor.predict(others).mean
    low = predictor.limit(others, at_least("latency_ms@phone", 0.0), 0.95)
    high = predictor.limit(others, at_most("latency_ms@phone", 0.0), 0.95)
    assert figures["tau"] == pytest.approx(kendalltau(mean, truth).statistic)
    assert figures["rho"] == pytest.approx(spearmanr(mean, truth).statistic)
    assert figures["error"] == pytest.approx(100 * np.median(np.abs(mean / truth - 1)))
    assert figures["coverage90"] == pytest.approx(100 * np.mean((low <= truth) & (truth <= high)))


def test_a_latency_that_follows_from_the_network_is_learnt(made: tuple[Path, dict[str, float]]) -> None:
    """What is left is mostly the noise of 2 %, whose median is 1.3 %; a constant has an error of about 40 %."""
    _, figures = made
    assert figures["rho"] > 0.95
    assert figures["error"] < 8
    assert figures["coverage90"] > 70
    assert figures["seconds"] > 0


def test_the_card_tells_the_figures_the_table_and_how_to_make_it_again(made: tuple[Path, dict[str, float]]) -> None:
    folder, figures = made
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (folder / "README.md").read_text()
    assert card.startswith("# latency_ms@phone of nasbench201\n")
    assert "70 random architectures of 160; a made-up table" in card
    assert "`archgen train predictor --made-up`" in card
    told = {
        "unseen": r"on ([\d,]+) unseen",
        "tau": r"Kendall tau (-?\d\.\d+)",
        "rho": r"Spearman rho\s+(-?\d\.\d+)",
        "error": r"absolute error ([\d.]+) %",
        "coverage90": r"([\d.]+) % inside the 90 % interval",
    }
    for name, pattern in told.items():
        found = re.search(pattern, card)
        assert found is not None, name
        assert float(found[1].replace(",", "")) == pytest.approx(figures[name], abs=0.51)


def test_the_same_seed_gives_the_same_predictor_and_another_one_other_rows(
    space: SearchSpace, archs: list[Architecture], latency: Floats, made: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    folder, figures = made
    arguments: dict[str, Any] = {"metric": "latency_ms@phone", "kind": "latency", "labels": 70, **FACTS}
    again = pretrain_predictor(space, archs, latency, tmp_path / "again", seed=5, **arguments)
    other = pretrain_predictor(space, archs, latency, tmp_path / "other", seed=6, **arguments)
    weights = [(path / "model.safetensors").read_bytes() for path in (folder, tmp_path / "again", tmp_path / "other")]
    assert weights[0] == weights[1] != weights[2]
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in figures.items() if k != "seconds"}
    assert other["error"] != figures["error"]


@pytest.mark.parametrize(
    ("n", "labels", "fitted"),
    [
        (160, 79, 79),
        (160, 80, 128),  # less than twice as many and one: four fifths
        (160, 600, 128),
        (10, 600, 8),
    ],
)
def test_a_small_table_is_fitted_on_four_fifths_of_its_rows(
    space: SearchSpace, archs: list[Architecture], latency: Floats, tmp_path: Path, n: int, labels: int, fitted: int
) -> None:
    arguments: dict[str, Any] = {"metric": "latency_ms", "kind": "latency", "labels": labels, **FACTS}
    figures = pretrain_predictor(space, archs[:n], latency[:n], tmp_path / "new", **arguments)
    assert (figures["labels"], figures["unseen"]) == (fitted, min(n - fitted, UNSEEN))


def test_a_large_table_is_judged_on_some_of_its_rows(
    space: SearchSpace, archs: list[Architecture], latency: Floats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archgen.pretrain_predictor.UNSEEN", 20)
    arguments: dict[str, Any] = {"metric": "latency_ms", "kind": "latency", "labels": 40, **FACTS}
    assert pretrain_predictor(space, archs, latency, tmp_path / "new", **arguments)["unseen"] == 20


def test_a_surrogate_is_a_predictor_too(
    space: SearchSpace, archs: list[Architecture], latency: Floats, tmp_path: Path
) -> None:
    figures = pretrain_predictor(space, archs, latency, tmp_path / "gp", metric="energy_mj", labels=60, **FACTS)
    assert figures["rho"] > 0.9
    loaded = load_predictor(tmp_path / "gp", space)
    assert isinstance(loaded, GaussianProcess)
    assert loaded.metric == "energy_mj"


def test_counts_are_exact(space: SearchSpace, archs: list[Architecture], tmp_path: Path) -> None:
    params = np.array([space.count(space.simplify(arch))["params"] for arch in archs], dtype=float)
    figures = pretrain_predictor(space, archs, params, tmp_path / "count", metric="params", kind="count", **FACTS)
    assert (figures["tau"], figures["error"], figures["coverage90"]) == (pytest.approx(1.0), 0.0, 100.0)


@pytest.mark.parametrize("simplified", [True, False])
def test_only_a_latency_predictor_is_told_whether_dead_parts_were_measured(
    space: SearchSpace, simplified: bool
) -> None:
    latency = make_predictor("latency", space, "latency_ms", built_simplified=simplified)
    assert isinstance(latency, LatencyPredictor)
    assert latency.simplify == simplified
    count = make_predictor("count", space, "params", built_simplified=simplified)
    assert isinstance(count, Count)
    assert count.simplify


def test_a_checkpoint_is_named_after_its_space_metric_and_device(space: SearchSpace) -> None:
    assert checkpoint_name(space, "latency_ms@pixel3") == "nasbench201-latency_ms-on-pixel3"
    assert checkpoint_name(space, "acc") == "nasbench201-acc"


@pytest.mark.parametrize(
    ("n", "factor", "kind", "error", "message"),
    [
        (9, 1.0, "latency", ArchgenError, "expected at least 10 architectures to fit and judge a predictor, got 9"),
        (40, 1.0, "gpp", UnknownName, "unknown predictor 'gpp': did you mean 'gp'"),
        (40, 1.0, "count", UnknownMetric, "unknown metric 'latency_ms'"),
        (40, -1.0, "latency", ArchgenError, "latency_ms must be above 0 ms"),
        (40, np.nan, "gp", ArchgenError, "latency_ms has 32 NaN or infinite values"),
    ],
)
def test_what_can_not_be_learnt_is_refused_before_anything_is_written(
    space: SearchSpace,
    archs: list[Architecture],
    latency: Floats,
    tmp_path: Path,
    n: int,
    factor: float,
    kind: str,
    error: type[ArchgenError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        pretrain_predictor(
            space, archs[:n], factor * latency[:n], tmp_path / "new", metric="latency_ms", kind=kind, **FACTS
        )
    assert not (tmp_path / "new").exists()


def test_one_and_the_same_value_is_not_learnt(space: SearchSpace, archs: list[Architecture], tmp_path: Path) -> None:
    y = np.full(len(archs), 3.0)
    with pytest.raises(ArchgenError, match="acc has the same value, 3, in"):
        pretrain_predictor(space, archs, y, tmp_path / "p", metric="acc", source="", command="")
    assert not (tmp_path / "p").exists()
