"""Tables of proxies: the same numbers whatever the order and the number of processes."""

from __future__ import annotations

import copy
import multiprocessing
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from archgen import spaces
from archgen.errors import ArchgenError, UnknownName
from archgen.graph import Architecture
from archgen.progress import Bar, Progress
from archgen.proxies import Swap, compute, compute_proxies
from archgen.spaces import SearchSpace

NETWORK = {"cells": 1, "channels": 4, "classes": 3, "image_size": 8}
NAMES = ["params", "snip", "zen", "expressivity"]


@pytest.fixture
def archs(space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
    return space.sample(3, rng)


def batch(n: int = 6) -> dict[str, torch.Tensor]:
    return {
        "images": torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
        "targets": torch.arange(n) % 3,
    }


class Counting(Progress):
    def __init__(self, stop_at: int | None = None) -> None:
        self.steps, self.total, self.stop_at = 0, 0, stop_at

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Bar]:
        self.total = total
        counting = self

        class Counted(Bar):
            def update(self, steps: int = 1, **shown: float) -> None:
                counting.steps += steps
                if counting.steps == counting.stop_at:
                    raise KeyboardInterrupt

        yield Counted()


def test_a_row_an_architecture_in_the_order_given(space: SearchSpace, archs: list[Architecture]) -> None:
    progress = Counting()
    asked = [archs[1], archs[0], archs[1]]
    table = compute_proxies(space, asked, NAMES, **batch(), progress=progress, **NETWORK)
    assert list(table.columns) == ["arch", *NAMES]
    assert table["arch"].tolist() == [space.format(arch) for arch in asked]
    assert table.iloc[0].equals(table.iloc[2])
    assert (progress.steps, progress.total) == (2, 2)  # equal ones once
    assert table["params"].tolist() == [space.count(arch, **NETWORK)["params"] for arch in asked]


def test_values_depend_on_seed_and_architecture_alone(space: SearchSpace, archs: list[Architecture]) -> None:
    table = compute_proxies(space, archs, NAMES, **batch(), **NETWORK)
    torch.manual_seed(123)
    torch.randn(5)
    alone = compute_proxies(space, archs[2:], ["expressivity", "snip"], **batch(), **NETWORK)
    for name in ("expressivity", "snip"):
        assert alone[name].tolist() == table[name].tolist()[2:]
    other = compute_proxies(space, archs, NAMES, **batch(), seed=1, **NETWORK)
    assert (other[["snip", "zen"]] != table[["snip", "zen"]]).all(axis=None)
    assert other["params"].equals(table["params"])


def test_processes_change_no_value_and_are_gone_afterwards(space: SearchSpace, archs: list[Architecture]) -> None:
    expected = compute_proxies(space, archs, NAMES, **batch(), **NETWORK)
    got = compute_proxies(space, archs, NAMES, **batch(), workers=2, **NETWORK)
    pd.testing.assert_frame_equal(got, expected, check_exact=True)
    assert not multiprocessing.active_children()


def test_an_interrupt_ends_the_processes(
    space: SearchSpace, archs: list[Architecture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads stand for processes, to save their start."""
    ended: list[bool] = []

    class Threads(ThreadPoolExecutor):
        def __init__(self, max_workers: int, initializer: object, initargs: tuple[Any, ...]) -> None:
            super().__init__(max_workers)
            monkeypatch.setattr(compute, "_job", initargs[0], raising=False)

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            ended.append(wait and cancel_futures)
            super().shutdown(wait, cancel_futures=cancel_futures)

    monkeypatch.setattr(compute, "spawned", Threads)
    with pytest.raises(KeyboardInterrupt):
        compute_proxies(space, archs, ["params", "l2_norm"], workers=2, progress=Counting(stop_at=1), **NETWORK)
    assert ended[-1]


def test_a_space_that_can_not_be_sent_is_refused(space: SearchSpace, archs: list[Architecture]) -> None:
    own = copy.copy(space)
    own.summary = lambda: "a function of this process alone"  # type: ignore[assignment]
    with pytest.raises(ArchgenError, match=r"nasbench201 or a proxy can not be sent to other processes.*use workers=1"):
        compute_proxies(own, archs, NAMES, **batch(), workers=2, **NETWORK)


def test_by_default_the_batch_is_drawn_from_the_seed(space: SearchSpace, archs: list[Architecture]) -> None:
    first, second, other = (
        compute_proxies(space, archs[:1], ["jacov", "snip"], seed=seed, **NETWORK) for seed in (0, 0, 1)
    )
    assert first.equals(second)
    assert -1000 < first["jacov"][0] <= -64  # 64 images
    assert not first.equals(other)


def test_own_settings_get_columns_of_their_own(space: SearchSpace, archs: list[Architecture]) -> None:
    size = space.count(archs[0], **NETWORK)["params"]
    proxies = {"swap": Swap(), "regularised": Swap(mu=size + 100, sigma=1e4)}
    table = compute_proxies(space, archs[:1], proxies, **batch(), **NETWORK)
    assert table["regularised"][0] == pytest.approx(table["swap"][0] / np.e)


def test_counts_equal_the_published_ones(space: SearchSpace, tables: Path) -> None:
    published = pd.read_parquet(tables / "nasbench201" / "zero_cost_cifar10.parquet").sample(50, random_state=0)
    table = compute_proxies(space, [space.parse(text) for text in published["arch"]], ["params", "flops", "complexity"])
    for ours, theirs in (("params", "params"), ("flops", "flops"), ("complexity", "flops")):
        assert (table[ours].to_numpy() / 1e6).tolist() == pytest.approx(published[theirs].tolist(), rel=1e-12)


def test_what_does_not_fit_is_refused(space: SearchSpace, archs: list[Architecture]) -> None:
    with pytest.raises(UnknownName, match="unknown zero-cost proxy 'synflo': did you mean 'synflow'"):
        compute_proxies(space, archs, ["synflo"])
    with pytest.raises(ArchgenError, match=r"read \(3, 32, 32\), the images are \(3, 8, 8\)"):
        compute_proxies(space, archs, ["snip"], **batch())
    with pytest.raises(ArchgenError, match="a target of 0 to 1 for each of 6 images, got 6 from 0 to 2"):
        compute_proxies(space, archs, ["snip"], **batch(), **{**NETWORK, "classes": 2})
    with pytest.raises(ArchgenError, match="at least 1, got 0"):
        compute_proxies(space, archs, ["params"], workers=0)


def test_an_error_names_the_architecture() -> None:
    space = spaces.load("flexibert")
    (arch,) = space.sample(1, np.random.default_rng(0))
    with pytest.raises(ArchgenError, match=f"{re.escape(space.format(arch))}: the proxy jacov needs images"):
        compute_proxies(space, [arch], ["jacov"], vocabulary=20, tokens=4)


def test_no_architectures_give_an_empty_table(space: SearchSpace) -> None:
    table = compute_proxies(space, [], ["params", "snip"], workers=2)
    assert list(table.columns) == ["arch", "params", "snip"]
    assert len(table) == 0
