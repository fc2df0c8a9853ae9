"""What goes wrong in one worker stays there, results are in order, and no worker outlives the search."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from archgen.data import load_data
from archgen.errors import ArchgenError, InvalidOption
from archgen.evaluators import Evaluator, Measurement, Parallel, TabularEvaluator, TrainEvaluator
from archgen.evaluators.parallel import _Running
from archgen.graph import Architecture
from archgen.objectives import maximize
from archgen.spaces import SearchSpace, load
from archgen.strategies import Random
from archgen.study import Study, search
from archgen.supernets.training import Schedule
from archgen.workers import MakeExecutor

forked = partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("fork"))
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
LONG = 300.0


class Misbehaving(Evaluator):
    """Measures the place of an architecture in a list; some do something else."""

    def __init__(self, archs: Sequence[Architecture], **places: int) -> None:
        self.archs, self.does = list(archs), {place: what for what, place in places.items()}

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("acc",)

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        return [self.measure(self.archs.index(arch), seed) for arch in archs]

    def measure(self, place: int, seed: int) -> Measurement:
        match self.does.get(place):
            case "raises":
                raise ValueError("this one\ndoes not train")
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs":
                threading.Event().wait(LONG)
            case "memory":
                raise MemoryError
            case "disk":
                raise OSError("no space left on device")
            case "nan":
                return Measurement({"acc": math.nan}, 0.5)
        return Measurement({"acc": float(place + seed)}, 0.5)


@pytest.fixture(scope="module")
def archs(space: SearchSpace) -> list[Architecture]:
    return list(dict.fromkeys(space.sample(20, np.random.default_rng(0))))[:8]


@pytest.fixture(params=["processes", "threads"])
def make(request: pytest.FixtureRequest) -> MakeExecutor:
    return forked if request.param == "processes" else ThreadPoolExecutor


def errors(measurements: Sequence[Measurement]) -> dict[int, str]:
    return {i: m.error for i, m in enumerate(measurements) if m.error is not None}


def test_results_are_those_of_the_evaluator_in_the_order_asked(archs: list[Architecture], make: MakeExecutor) -> None:
    plain = Misbehaving(archs)
    parallel = Parallel(plain, workers=3, executor=make)
    assert parallel.evaluate(archs[::-1], seed=7) == plain.evaluate(archs[::-1], seed=7)
    assert parallel.evaluate([], seed=0) == []
    parallel.close()
    assert parallel.evaluate(archs[:1], seed=0) == plain.evaluate(archs[:1], seed=0), "it may be used again"
    parallel.close()


def test_an_error_in_one_evaluation_is_its_own(archs: list[Architecture], make: MakeExecutor) -> None:
    parallel = Parallel(Misbehaving(archs, raises=1, nan=3, memory=4), workers=2, executor=make)
    measured = parallel.evaluate(archs, seed=0)
    parallel.close()
    assert errors(measured) == {
        1: "ValueError: this one does not train",
        3: "acc is not finite: nan",
        4: "MemoryError: ",
    }
    assert [m.values["acc"] for m in measured if m.error is None] == [0, 2, 5, 6, 7]


def test_a_worker_that_dies_and_one_that_hangs_take_no_other_evaluation_with_them(archs: list[Architecture]) -> None:
    parallel = Parallel(Misbehaving(archs, dies=2, hangs=5), workers=3, timeout=1.0, executor=forked)
    measured = parallel.evaluate(archs, seed=0)
    parallel.close()
    assert errors(measured) == {2: "the worker died: out of memory, or a crash", 5: "took more than 1 s"}
    assert [m.values["acc"] for m in measured if m.error is None] == [0, 1, 3, 4, 6, 7]


def test_a_thread_that_hangs_is_left_behind(archs: list[Architecture]) -> None:
    go = threading.Event()

    class Hanging(Misbehaving):
        def measure(self, place: int, seed: int) -> Measurement:
            if place == 1:
                go.wait(LONG)
            return super().measure(place, seed)

    parallel = Parallel(Hanging(archs), workers=2, timeout=0.5, executor=ThreadPoolExecutor)
    measured = parallel.evaluate(archs, seed=0)
    go.set()
    parallel.close()
    assert errors(measured) == {1: "took more than 0.5 s"}
    assert [m.values["acc"] for m in measured if m.error is None] == [0, 2, 3, 4, 5, 6, 7]


def test_the_machines_errors_are_raised(archs: list[Architecture], make: MakeExecutor) -> None:
    parallel = Parallel(Misbehaving(archs, disk=1), workers=2, executor=make)
    with pytest.raises(OSError, match="no space left"):
        parallel.evaluate(archs, seed=0)
    parallel.close()


def test_stopping_in_the_middle_ends_the_workers(archs: list[Architecture], tmp_path: Path) -> None:
    parallel = Parallel(Misbehaving(archs, hangs=0), workers=2, executor=forked)
    results: Iterator[tuple[int, Measurement]] = parallel.stream(archs, seed=0)
    assert next(results)[0] != 0
    before = multiprocessing.active_children()
    assert before
    results.close()  # type: ignore[attr-defined]  as Ctrl-C does
    ended = time.monotonic() + LONG
    while any(child.is_alive() for child in before):  # no `join`: the pool's own thread waits for them too, and one of
        assert time.monotonic() < ended  # two that wait for the same process may return before its end is known
        time.sleep(0.01)


def test_a_search_records_what_is_finished_although_an_earlier_one_is_not(
    space: SearchSpace, archs: list[Architecture]
) -> None:
    wishes = [maximize("acc")]
    study, strategy = Study(space, wishes), Random(space, wishes)
    asked = strategy.ask(4)
    evaluator = Misbehaving(asked, hangs=0)
    parallel = Parallel(evaluator, workers=2, executor=forked)

    def stop(trial: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(study, strategy, parallel, budget=4, batch=4, on_trial=stop)
    assert [t.arch for t in study.trials] == asked[1:2]
    assert study.pending() == [asked[0], *asked[2:]]
    parallel.close()


def test_spawned_processes_get_the_evaluator(space: SearchSpace, archs: list[Architecture], tmp_path: Path) -> None:
    """The default executor: nothing is inherited, all is sent."""
    rows = {"arch": [space.format(arch) for arch in archs], "acc": range(len(archs)), "cost_seconds": 2.0}
    pd.DataFrame(rows).to_parquet(tmp_path / "table.parquet")
    table = TabularEvaluator(space, tmp_path / "table.parquet", partial=True)
    parallel = Parallel(table, workers=1, timeout=LONG)
    assert parallel.evaluate(archs, seed=0) == table.evaluate(archs, seed=0)
    parallel.close()


def test_a_process_has_the_code_of_a_space_of_ones_own() -> None:
    own = load(Path(__file__).parents[1] / "spaces" / "fixtures" / "my_net.toml")
    (ghostly,) = [arch for arch in own.sample(20, np.random.default_rng(0)) if "ghost" in own.format(arch)][:1]
    training = TrainEvaluator(own, load_data("digits", limit=60), Schedule(1))
    with closing(Parallel(training, workers=os.cpu_count() or 1, timeout=LONG)) as parallel:  # a thread each, as here
        (measured,) = parallel.evaluate([ghostly], seed=0)
    assert measured.error is None
    assert measured.values == training.evaluate([ghostly], seed=0)[0].values


def test_workers_that_can_not_start_are_an_error(archs: list[Architecture]) -> None:
    def broken(**options: object) -> ProcessPoolExecutor:
        return forked(max_workers=1, initializer=os._exit, initargs=(1,))

    with pytest.raises(ArchgenError, match="the worker processes can not start: a script that uses them must"):
        Parallel(Misbehaving(archs), workers=1, executor=broken).evaluate(archs, seed=0)


@pytest.mark.parametrize(("workers", "timeout"), [(0, None), (1, 0.0), (1, -1.0), (1, math.nan)])
def test_numbers_out_of_range_are_refused(archs: list[Architecture], workers: int, timeout: float | None) -> None:
    with pytest.raises(InvalidOption, match=r"expected at least 1 worker|a time-out must be above 0"):
        Parallel(Misbehaving(archs), workers=workers, timeout=timeout)


def test_what_was_done_when_another_one_timed_out_is_not_paid_for_again(archs: list[Architecture]) -> None:
    """Two futures, one late and one done but not read yet: the late one's time-out leaves the done one to be read."""
    parallel = Parallel(Misbehaving(archs), workers=2, timeout=1.0)
    done, late, other = Future[Measurement](), Future[Measurement](), Future[Measurement]()
    done.set_result(Measurement({"acc": 1.0}, 0.5))
    running = {
        done: _Running(0, 0.0, 0.0, False),
        late: _Running(1, 0.0, 0.0, False),
        other: _Running(2, 0.0, math.inf, False),
    }
    waiting: deque[int] = deque()
    parallel._executor = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
    parallel._executor.submit(int).result()
    found = dict(parallel._overdue(running, waiting))
    assert found == {1: Measurement({}, 1.0, "took more than 1 s")}
    assert list(running) == [done]
    assert list(waiting) == [2]
