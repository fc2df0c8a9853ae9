"""Sums of measured blocks, and what whole measured networks correct in them."""

import numpy as np
import pytest

from archgen import spaces
from archgen.errors import ArchgenError, InvalidSpace
from archgen.objectives import at_most
from archgen.predictors import BlockTable, judge
from archgen.spaces import SearchSpace
from archgen.spaces.chain_blocks import CALL, ChainBlocks


@pytest.fixture(scope="module")
def macro() -> SearchSpace:
    return spaces.load("nasbench_macro")


@pytest.fixture(scope="module")
def latencies(macro: SearchSpace) -> dict[str, float]:
    rng = np.random.default_rng(0)
    return {CALL: 0.01, **{name: float(rng.uniform(0.1, 1)) for name in ChainBlocks(macro).all()}}


def test_the_sum_is_that_of_the_blocks_and_the_call(macro: SearchSpace, latencies: dict[str, float]) -> None:
    arch = macro.parse("00000000")
    names = [block.name for block in ChainBlocks(macro).of(arch)]
    assert len(names) == 5, "identities of the same shape are no blocks"
    mean, std = BlockTable(macro, latencies=latencies).predict([arch])
    assert mean[0] == pytest.approx(0.01 + sum(latencies[name] for name in names))
    assert np.isnan(std[0]), "nothing says how far it is off"


def test_few_networks_find_factor_and_offset(macro: SearchSpace, latencies: dict[str, float]) -> None:
    archs = macro.sample(60, np.random.default_rng(1))
    table = BlockTable(macro, latencies=latencies)
    y = 0.8 * table.sums(archs) + 0.3
    table.fit(archs[:5], y[:5])
    assert (table.scale, table.offset) == pytest.approx((0.8, 0.3))
    assert table.sigma < 1e-6
    assert table.predict(archs[5:]).mean == pytest.approx(y[5:])
    table.fit(archs[:2], y[:2])
    assert table.offset == 0, "two networks give a factor"
    table.fit(archs[:6], y[:6][np.argsort(np.argsort(-table.sums(archs[:6])))])
    assert table.scale > 0, "no few networks turn the order round"


def test_networks_left_out_say_how_far_sums_are_off(macro: SearchSpace, latencies: dict[str, float]) -> None:
    rng = np.random.default_rng(2)
    archs = macro.sample(300, rng)
    table = BlockTable(macro, latencies=latencies)
    y = 1.3 * table.sums(archs) * np.exp(rng.normal(0, 0.05, 300))
    table.fit(archs[:100], y[:100])
    assert table.sigma == pytest.approx(0.05, rel=0.25)
    assert 80 < judge(table, archs[100:], y[100:])["coverage_90"] < 97  # of 200, 90 +- 7 for three deviations


def test_a_row_of_one_setting_goes_before_that_of_all() -> None:
    space = spaces.load("mobilenetv3@32")
    known = dict.fromkeys(ChainBlocks(space).all(), 1.0)
    arch = space.sample(1, np.random.default_rng(0))[0]
    blocks = ChainBlocks(space)
    first, setting = blocks.of(arch)[1].name, blocks.setting(arch)
    plain = BlockTable(space, latencies=known).sums([arch])[0]
    assert BlockTable(space, latencies={**known, f"{setting} | {first}": 3.0}).sums([arch])[0] == plain + 2
    assert BlockTable(space, latencies={**known, f"r1 | {first}": 3.0}).sums([arch])[0] == plain


def test_what_it_can_not_do_is_one_line(macro: SearchSpace, latencies: dict[str, float]) -> None:
    archs = macro.sample(3, np.random.default_rng(0))
    with pytest.raises(ArchgenError, match="the table has no block 'stem 3 32 @ 3x32x32'; measure it"):
        BlockTable(macro, latencies={}).predict(archs)
    with pytest.raises(ArchgenError, match=r"must be a number from 0, got nan ms of 'x'"):
        BlockTable(macro, latencies={"x": float("nan")})
    with pytest.raises(ArchgenError, match="fit it to two or more measured networks"):
        BlockTable(macro, latencies=latencies).limit(archs, at_most("latency_ms", 1.0), 0.9)
    with pytest.raises(ArchgenError, match="must be above 0 ms"):
        BlockTable(macro, latencies=latencies).fit(archs, np.zeros(3))
    with pytest.raises(InvalidSpace, match="no chain of blocks"):
        BlockTable(spaces.load("nasbench201"), latencies=latencies)
