"""Published tables of blocks, against the published estimator and the blocks that their networks have."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from archgen import spaces
from archgen.errors import InvalidTable
from archgen.predictors import BlockTable, read_published
from archgen.spaces import SearchSpace
from archgen.spaces.chain_blocks import ChainBlocks
from archgen.spaces.restricted import RestrictedSpace


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return spaces.load("mobilenetv3")


@pytest.fixture(scope="module")
def ofa_truth() -> ModuleType:
    path = Path(__file__).parents[2] / "experiments" / "ofa_truth.py"
    spec = importlib.util.spec_from_file_location("ofa_truth", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ofa_truth"] = module
    spec.loader.exec_module(module)
    return module


def test_once_for_alls_table_gives_what_its_estimator_gives(
    space: SearchSpace, tables: Path, ofa_truth: ModuleType
) -> None:
    wider = {"width_percent": 120}
    latencies = read_published(space, tables / "ofa_mobilenetv3" / "block_latency_note10.parquet", wider)
    truth = ofa_truth.Truth(space, tables / "ofa_mobilenetv3")
    archs = [arch for arch in space.sample(500, np.random.default_rng(0)) if truth.knows(arch)]
    assert len(archs) > 50
    predicted = BlockTable(space, "latency_ms@note10", latencies, wider).predict(archs).mean
    np.testing.assert_allclose(predicted, truth.note10(archs), rtol=1e-12)


@pytest.mark.parametrize("width", [100, 120])
def test_nsganetv2s_table_has_every_block_of_both_widths(space: SearchSpace, tables: Path, width: int) -> None:
    part, network = RestrictedSpace(space, {"resolution": ["r128", "r176", "r224"]}), {"width_percent": width}
    latencies = read_published(part, tables / "mbconv_latency_i7_8700k.parquet", network)
    assert latencies.keys() == ChainBlocks(part, network).all().keys()
    archs = part.sample(50, np.random.default_rng(0))
    sums = BlockTable(part, latencies=latencies, network=network).predict(archs).mean
    assert ((sums > 3) & (sums < 60)).all()
    assert np.corrcoef(sums, [space.count(arch)["macs"] for arch in archs])[0, 1] > 0.9


def test_rows_are_summed_for_the_network_that_they_are_of(tmp_path: Path) -> None:
    space = spaces.load("mobilenetv3@32")
    stem, head = "first_conv-input:64x64x3-output:32x32x8", "classifier-input:640-output:1000"
    pd.DataFrame({"block": [stem, head], "mean_ms": [2.0, 1.0]}).to_csv(tmp_path / "t.csv")
    found = read_published(space, tmp_path / "t.csv")
    assert found["stem 3 8 @ 3x64x64"] == 2.0
    assert not any(name.startswith("head") for name in found), "two rows of the head are missing"


def test_tables_that_say_nothing_of_the_space_are_refused(tmp_path: Path) -> None:
    space = spaces.load("nasbench_macro")
    pd.DataFrame({"block": ["x"], "mean_ms": [1.0]}).to_csv(tmp_path / "t.csv")
    with pytest.raises(InvalidTable, match="no row of a block of nasbench_macro"):
        read_published(space, tmp_path / "t.csv")
    pd.DataFrame({"block": ["x"], "mean_ms": ["fast"]}).to_csv(tmp_path / "t.csv")
    with pytest.raises(InvalidTable, match="is no table of blocks: expected the columns block and"):
        read_published(space, tmp_path / "t.csv")
