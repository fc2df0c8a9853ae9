"""A wrapper that evaluates several architectures at the same time, on any `concurrent.futures.Executor`."""

from __future__ import annotations

import math
import os
import pickle
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from dataclasses import dataclass

from archgen.errors import ArchgenError, InvalidOption
from archgen.evaluators.base import Evaluator, Measurement, Results, Wrapper, attempt, failure, in_order, noted
from archgen.graph import Architecture
from archgen.spaces.custom import Imports
from archgen.workers import MakeExecutor, begin, kill, spawned

LONGEST = 1e8
"""Seconds of the longest time-out, three years; clocks take no number whatever."""


@dataclass(frozen=True)
class _Running:
    """An evaluation in a worker; `alone` when nothing else ran that could have brought the executor down."""

    index: int
    start: float
    deadline: float
    alone: bool

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start


class Parallel(Wrapper):
    """Evaluates in workers; what goes wrong in one evaluation becomes its `error`, and the others go on.

    An exception, a value that is not finite, a time-out and the death of a worker are such errors. Where one worker's
    death takes the whole executor with it, as in a pool of processes, a new one is started, and what was running is
    evaluated again one by one, which shows whose fault it was. After a time-out processes are killed, and what else was
    running in them starts again; a thread can not be killed and runs on beside the next ones.

    Args:
        evaluator: Measures; each worker gets its own copy, once.
        workers: Evaluations at the same time, at least 1.
        timeout: Seconds that one evaluation may take, on a cluster the wait for a place included; None for any time.
        threads: Of torch in each worker process, at least 1; None shares out the cores.
        executor: Makes the executor: `ProcessPoolExecutor`, `ThreadPoolExecutor`, `archgen.evaluators.RayExecutor`.

    Raises:
        InvalidOption: Fewer than one worker, or a time-out that is not above 0.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        *,
        workers: int,
        timeout: float | None = None,
        threads: int | None = None,
        executor: MakeExecutor = spawned,
    ) -> None:
        super().__init__(evaluator)
        if workers < 1:
            raise InvalidOption(f"expected at least 1 worker, got {workers}")
        if timeout is not None and not 0 < timeout <= LONGEST:
            raise InvalidOption(f"a time-out must be above 0 and at most {LONGEST:g} seconds, got {timeout:g}")
        self.workers, self.timeout = workers, timeout
        self._threads = threads or max(1, (os.cpu_count() or 1) // workers)  # or all of them wait for each other
        self._make = executor
        self._executor: Executor | None = None

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        return in_order(self.stream(archs, seed=seed))

    def stream(self, archs: Iterable[Architecture], *, seed: int) -> Results:
        taken: list[Architecture] = []
        source = enumerate(noted(archs, taken))
        again, suspects = deque[int](), deque[int]()
        running: dict[Future[Measurement], _Running] = {}
        more = True
        try:
            while more or again or suspects or running:
                if suspects and not running:
                    self._submit(running, taken, suspects.popleft(), seed, alone=True)
                while (again or more) and not suspects and len(running) < self.workers:
                    index = again.popleft() if again else next(source, (None, None))[0]
                    if index is None:
                        more = False
                        break
                    self._submit(running, taken, index, seed, alone=self.workers == 1)
                self._wait(running)
                for future in [f for f in running if f.done()]:
                    task = running.pop(future)
                    measured = _result(future, task)
                    if measured is not None:
                        yield task.index, measured
                        continue
                    self._discard()
                    if task.alone:
                        yield task.index, Measurement({}, task.seconds, "the worker died: out of memory, or a crash")
                    else:
                        suspects.append(task.index)
                yield from self._overdue(running, again)
        finally:
            if running:  # given up by the caller, or by an error
                self._discard()

    def close(self) -> None:
        """End the workers; the next evaluation starts new ones."""
        super().close()
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def _submit(
        self,
        running: dict[Future[Measurement], _Running],
        archs: Sequence[Architecture],
        index: int,
        seed: int,
        *,
        alone: bool,
    ) -> None:
        executor = self._started()
        start = time.monotonic()
        try:
            future = executor.submit(_measure, archs[index], seed)
        except BrokenExecutor as error:  # it broke after the last result came
            future, alone = Future(), False  # it never ran: not its fault
            future.set_exception(error)
        running[future] = _Running(index, start, math.inf if self.timeout is None else start + self.timeout, alone)

    def _started(self) -> Executor:
        """The executor; processes are waited for, so that no evaluation's time is spent on their start."""
        if self._executor is None:
            self._executor = self._make(
                max_workers=self.workers, initializer=_begin, initargs=(Imports(), self.evaluator, self._threads)
            )
            if isinstance(self._executor, ProcessPoolExecutor):
                there: set[int] = set()
                try:
                    while len(there) < self.workers:
                        futures = [self._executor.submit(_who) for _ in range(self.workers)]
                        there |= {future.result() for future in futures}
                except (BrokenExecutor, pickle.PicklingError, TypeError, AttributeError):
                    self._discard()
                    raise ArchgenError(
                        "the worker processes can not start: a script that uses them must do its work under "
                        "`if __name__ == '__main__':`, and the evaluator must be one that can be pickled"
                    ) from None
        return self._executor

    def _wait(self, running: dict[Future[Measurement], _Running]) -> None:
        if not running:
            return
        first = min(r.deadline for r in running.values())
        left = None if math.isinf(first) else max(0.0, first - time.monotonic())
        wait(running, timeout=left, return_when=FIRST_COMPLETED)

    def _overdue(self, running: dict[Future[Measurement], _Running], again: deque[int]) -> Results:
        """Time-outs; what else ran in processes that were killed waits again, first in the queue."""
        now = time.monotonic()
        late = [future for future, r in running.items() if r.deadline <= now and not future.done()]
        if not late:
            return
        assert self.timeout is not None
        indices = [running.pop(future).index for future in late]
        kill_one = getattr(self._executor, "kill", None)
        if kill_one is not None:  # Ray's ends one call alone
            for future in late:
                kill_one(future)
        else:
            others = [future for future in running if not future.done()]  # the rest only waits to be read
            if self._discard():
                again.extendleft(sorted((running.pop(future).index for future in others), reverse=True))
        for index in indices:
            yield index, Measurement({}, self.timeout, f"took more than {self.timeout:g} s")

    def _discard(self) -> bool:
        """Drop the executor and kill its processes; whether it had any."""
        executor, self._executor = self._executor, None
        if executor is None:
            return False
        return kill(executor)


def _result(future: Future[Measurement], task: _Running) -> Measurement | None:
    """What an evaluation gave; None when its worker died, or another one that took this one with it."""
    try:
        return future.result()
    except (BrokenExecutor, CancelledError):
        return None
    except OSError as error:  # the machine's fault, as in `attempt`
        if not isinstance(error, TimeoutError):
            raise
        return failure(error, task.seconds)
    except Exception as error:  # what the worker could not say itself: no memory, a process of Ray's that died
        return failure(error, task.seconds)


# -- in the worker -----------------------------------------------------------------------------------------------

_worker = threading.local()


def _begin(imports: Imports, evaluator: Evaluator, threads: int) -> None:
    """Runs once in each worker, thread or process; a space's own code is there when the evaluator is unpickled."""
    _worker.evaluator = evaluator
    begin(threads)


def _who() -> int:
    time.sleep(0.02)  # leaves some for the others
    return os.getpid()


def _measure(arch: Architecture, seed: int) -> Measurement:
    return attempt(_worker.evaluator, arch, seed)
