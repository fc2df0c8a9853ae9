"""Every registered predictor keeps the promises of `Predictor`."""

import contextlib
import importlib
from pathlib import Path

import numpy as np
import pytest

import archgen.predictors.counts
import archgen.surrogates  # noqa: F401  (registers the Gaussian process)
from archgen import spaces
from archgen.errors import InvalidCheckpoint
from archgen.predictors import PREDICTORS, BlockTable, Predictor, load_predictor, save_predictor
from archgen.spaces import SearchSpace
from archgen.spaces.chain_blocks import ChainBlocks
from archgen.testing import check_predictor

with contextlib.suppress(ModuleNotFoundError):
    importlib.import_module("archgen.predictors.latency")

METRICS = {"count": "params", "latency": "latency_ms"}
"""Metric that each member is for; the others take any."""
SETTINGS = {
    "gnn": {"width": 16, "members": 2, "unlabelled": 50, "pretraining": 3, "steps": 10, "reference": 20},
    "parzc": {"width": 8, "members": 2, "steps": 10, "reference": 20},
    "boshnas": {"steps": 20, "unlabelled": 20},
}
"""Arguments that make a member quick to train; promises do not depend on how well it predicts."""


@pytest.fixture
def space(request: pytest.FixtureRequest, space: SearchSpace) -> SearchSpace:
    """A space of chains for what needs one."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    return spaces.load("nasbench_macro") if parameters.get("name") == "block_table" else space


def make(name: str, space: SearchSpace) -> Predictor:
    if name == "block_table":
        return BlockTable(space, "latency_ms", dict.fromkeys(ChainBlocks(space).all(), 1.0))
    return PREDICTORS[name](space, METRICS.get(name, "val_acc"), **SETTINGS.get(name, {}))


@pytest.mark.parametrize("name", list(PREDICTORS))
def test_predictor_keeps_its_promises(name: str, space: SearchSpace, rng: np.random.Generator) -> None:
    check_predictor(make(name, space), rng=rng)


@pytest.mark.parametrize("name", list(PREDICTORS))
def test_predictor_survives_its_checkpoint(
    name: str, space: SearchSpace, rng: np.random.Generator, tmp_path: Path
) -> None:
    archs = space.sample(30, rng)
    predictor = make(name, space).fit(archs, rng.uniform(1, 2, 30))
    save_predictor(predictor, name, tmp_path, "# card\n")
    restored = load_predictor(tmp_path, space)
    assert type(restored) is type(predictor)
    assert restored.metric == predictor.metric
    assert restored.predict(archs).mean == pytest.approx(predictor.predict(archs).mean)


def test_predictor_of_another_space_is_refused(space: SearchSpace, rng: np.random.Generator, tmp_path: Path) -> None:
    archs = space.sample(5, rng)
    predictor = PREDICTORS["count"](space, "params").fit(archs, np.ones(5))
    save_predictor(predictor, "count", tmp_path, "# card\n")
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("nasbench201", "elsewhere"))
    with pytest.raises(InvalidCheckpoint, match=r"space 'elsewhere', expected 'nasbench201'"):
        load_predictor(tmp_path, space)
