"""A cache never pays twice, in memory, on disk and between processes, and takes nobody else's file."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from archgen.errors import InvalidTable
from archgen.evaluators import Cached, Evaluator, Measurement, TabularEvaluator
from archgen.graph import Architecture
from archgen.spaces import CellSpace, SearchSpace


class Counting(Evaluator):
    """`acc` is how many were asked before it, plus the seed; `lat` is there for every other one."""

    def __init__(self, *fails: int) -> None:
        self.fails, self.asked = set(fails), 0

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("acc", "lat")

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        return [self.measure(seed) for _ in archs]

    def measure(self, seed: int) -> Measurement:
        number, self.asked = self.asked, self.asked + 1
        if number in self.fails:
            return Measurement({}, 0.0, "it diverged")
        return Measurement({"acc": number + seed + 0.1, **({"lat": 0.5} if number % 2 else {})}, 0.25 + number)


@pytest.fixture
def archs(space: SearchSpace) -> list[Architecture]:
    return list(dict.fromkeys(space.sample(8, np.random.default_rng(0))))[:6]


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_is_known_is_not_paid_for_again(
    space: SearchSpace, archs: list[Architecture], tmp_path: Path, on_disk: bool
) -> None:
    counting = Counting()
    cached = Cached(counting, space, tmp_path / "cache.parquet" if on_disk else None)
    first = cached.evaluate(archs[:4], seed=1)
    assert cached.evaluate([archs[2], archs[4], archs[0]], seed=1)[::2] == [first[2], first[0]]
    assert counting.asked == 5
    assert cached.evaluate(archs[:1], seed=2) != first[:1], "another seed is another measurement"
    assert counting.asked == 6


def test_the_file_gives_back_every_measurement_to_the_bit(
    space: SearchSpace, archs: list[Architecture], tmp_path: Path
) -> None:
    path = tmp_path / "folder" / "cache.parquet"
    first = Cached(Counting(), space, path).evaluate(archs, seed=0)
    counting = Counting()
    assert Cached(counting, space, path).evaluate(archs, seed=0) == first
    assert counting.asked == 0
    table = TabularEvaluator(space, path, needed=["acc"], partial=True)
    assert table.metrics == ("acc", "lat")
    assert table.evaluate(archs, seed=0) == first


def test_a_failure_is_tried_again(space: SearchSpace, archs: list[Architecture], tmp_path: Path) -> None:
    cached = Cached(Counting(0), space, tmp_path / "cache.parquet")
    assert [m.error for m in cached.evaluate(archs[:2], seed=0)] == ["it diverged", None]
    assert [m.error for m in cached.evaluate(archs[:2], seed=0)] == [None, None]


def test_two_caches_of_one_file_lose_nothing(space: SearchSpace, archs: list[Architecture], tmp_path: Path) -> None:
    path = tmp_path / "cache.parquet"
    a, b = Counting(), Counting()
    first, second = Cached(a, space, path), Cached(b, space, path)
    one, two = first.evaluate(archs[:2], seed=0), second.evaluate(archs[2:4], seed=0)
    assert len(pd.read_parquet(path)) == 4
    assert second.evaluate(archs[:2], seed=0) == one
    assert first.evaluate(archs[2:4], seed=0) == two
    assert (a.asked, b.asked) == (2, 2)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_kill_leaves_a_whole_file_and_no_lock(space: SearchSpace, archs: list[Architecture], tmp_path: Path) -> None:
    path = tmp_path / "cache.parquet"
    Cached(Counting(), space, path).evaluate(archs[:3], seed=0)
    pid = os.fork()
    if pid == 0:  # dies while the next file is half written and the lock is held
        real = pd.DataFrame.to_parquet

        def half(self: pd.DataFrame, beside: Path, **options: object) -> None:
            real(self, beside, **options)  # type: ignore[call-overload]
            beside.write_bytes(beside.read_bytes()[:50])
            os.kill(os.getpid(), signal.SIGKILL)

        pd.DataFrame.to_parquet = half  # type: ignore[method-assign, assignment]
        Cached(Counting(), space, path).evaluate(archs[3:], seed=0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    counting = Counting()
    Cached(counting, space, path).evaluate(archs, seed=0)
    assert counting.asked == 3
    assert len(pd.read_parquet(path)) == 6


def test_files_of_something_else_are_refused(space: SearchSpace, archs: list[Architecture], tmp_path: Path) -> None:
    path = tmp_path / "cache.parquet"
    Cached(Counting(), space, path).evaluate(archs[:1], seed=0)
    tiny = CellSpace("tiny", 2, {"none": "zero", "skip_connect": "identity"}, {})
    with pytest.raises(InvalidTable, match=r"cache\.parquet is of another space than tiny"):
        Cached(Counting(), tiny, path)
    pd.read_parquet(path).rename(columns={"lat": "energy"}).to_parquet(path)
    with pytest.raises(InvalidTable, match="energy, cost_seconds, expected arch, seed, acc, lat, cost_seconds: it"):
        Cached(Counting(), space, path)
    path.write_bytes(b"PAR1 and nothing")
    with pytest.raises(InvalidTable, match=r"can not be read as a parquet table .*; remove it or name another"):
        Cached(Counting(), space, path)
    with pytest.raises(InvalidTable, match=r"c\.csv does not end in \.parquet"):
        Cached(Counting(), space, tmp_path / "c.csv")


def test_a_file_serves_no_evaluator_that_says_it_is_another(
    space: SearchSpace, archs: list[Architecture], tmp_path: Path
) -> None:
    path = tmp_path / "cache.parquet"
    first = Cached(Counting(), space, path, "training for 20 epochs").evaluate(archs[:2], seed=0)
    counting = Counting()
    assert Cached(counting, space, path, "training for 20 epochs").evaluate(archs[:2], seed=0) == first
    assert Cached(counting, space, path).evaluate(archs[:2], seed=0) == first, "one that says nothing is trusted"
    assert counting.asked == 0
    with pytest.raises(InvalidTable, match="was measured by training for 20 epochs, asked for training for 5 epochs"):
        Cached(counting, space, path, "training for 5 epochs")


def test_what_is_known_is_given_before_the_next_is_taken(space: SearchSpace, archs: list[Architecture]) -> None:
    """What is asked for next may hang on it."""
    cached = Cached(Counting(), space)
    cached.evaluate(archs[:3], seed=0)
    given: list[int] = []

    def asked() -> Iterator[Architecture]:
        for i, arch in enumerate(archs):
            assert given == list(range(i))
            yield arch

    for i, _ in cached.stream(asked(), seed=0):
        given.append(i)
    assert len(given) == len(archs)
