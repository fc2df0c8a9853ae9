"""Fine-tuning of several networks at the same time, a process each.

Small networks gain, because a second thread saves them little: two of 0.33 ms were trained for four epochs 1.30 times
as fast as one after the other, two of 0.6 ms for two epochs 0.93 times, the start of the processes included
(`experiments/finetune_processes.py`). Processes start afresh and read the main module again, so a script that asks for
several must do its work under `if __name__ == "__main__"`.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from multiprocessing.queues import SimpleQueue
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load, save
from torch import nn

from archgen.data import ImageData
from archgen.design.finetuning import Tuning, finetune, prepare
from archgen.errors import ArchgenError
from archgen.spaces.custom import Imports
from archgen.study import Trial
from archgen.supernets import Supernet
from archgen.threads import rounds, shared
from archgen.workers import SPAWN, begin, kill, spawned

if TYPE_CHECKING:
    from archgen.design.pipeline import Design

REFRESH = 0.5
"""Seconds between two looks at how far the processes are."""
Allowed = Callable[[int], float]
"""Seconds for the next network, when so many trainings have to follow one another, it included."""


def finetune_all(
    design: Design, supernet: Supernet, trials: Sequence[Trial], epochs: int, allowed: Allowed
) -> list[tuple[nn.Module, float]]:
    """Each network as `finetune` gives it, with its validation accuracy in percent.

    The last digits of the weights depend on how many threads torch has.

    Args:
        design: Whose networks they are, and how many processes fine-tune.
        supernet: Its weights are inherited.
        trials: Of the architectures.
        epochs: Of each training at most.
        allowed: Asked before each training; as many epochs are done as fit.

    Raises:
        ArchgenError: A loss became NaN or infinite, or a process died.
    """
    n = len(trials)
    if rounds(n, design.processes) == n:
        return [finetune(design, supernet, trial, epochs, allowed(n - i)) for i, trial in enumerate(trials)]
    tunings = [prepare(design, supernet, trial) for trial in trials]
    after, done = [0.0] * n, [0] * n
    messages = SPAWN.SimpleQueue()
    executor = spawned(max_workers=min(n, design.processes), initializer=_start, initargs=(design.data, messages))
    try:
        with design.progress.bar(f"fine-tuning {n} networks, percent of each", 100 * n) as bar:

            def look() -> None:
                bar.update(_read(messages))
                design.folder.book()

            for i, trained in _run(executor, design.processes, tunings, epochs, allowed, look):
                weights, after[i], done[i] = trained
                tunings[i].network.load_state_dict(load(weights))
        executor.shutdown()
    except BrokenExecutor:
        raise ArchgenError("a process that fine-tunes died: out of memory, or a crash; `--resume` goes on") from None
    except BaseException:
        kill(executor)
        raise
    if min(done) < epochs:
        design.progress.note(f"the time limit allowed {', '.join(map(str, done))} epochs of fine-tuning")
    return [(tuning.network, percent) for tuning, percent in zip(tunings, after, strict=True)]


Trained = tuple[bytes, float, int]
"""Weights, validation accuracy in percent, and epochs."""


def _run(
    executor: Executor,
    processes: int,
    tunings: Sequence[Tuning],
    epochs: int,
    allowed: Allowed,
    look: Callable[[], None],
) -> Iterator[tuple[int, Trained]]:
    """What each training gave, as it ends."""
    n = len(tunings)
    waiting = deque(enumerate(zip(tunings, shared(n, processes), strict=True)))
    running: dict[Future[Trained], int] = {}
    while waiting or running:
        while waiting and len(running) < processes:
            i, (tuning, some) = waiting.popleft()
            seconds = allowed(rounds(n, processes) - i // processes)
            # by value: tensors that processes share take a file descriptor each
            running[executor.submit(_tune, pickle.dumps((Imports(), tuning)), epochs, seconds, some)] = i
        ended, _ = wait(running, timeout=REFRESH, return_when=FIRST_COMPLETED)
        look()
        for future in ended:
            yield running.pop(future), future.result()


def _read(messages: SimpleQueue[int]) -> int:
    """What came in since the last look."""
    total = 0
    while not messages.empty():
        total += messages.get()
    return total


# -- in the process ----------------------------------------------------------------------------------------------

_given: dict[str, Any] = {}


def _start(data: ImageData, messages: SimpleQueue[int]) -> None:
    begin(1)
    _given.update(data=data, messages=messages)


def _tune(packed: bytes, epochs: int, seconds: float, some: int) -> Trained:
    torch.set_num_threads(some)
    (_, tuning), data = pickle.loads(packed), _given["data"]  # from the process that started this one
    epochs = tuning.affordable(data, epochs, seconds)

    def tell(epoch: int, losses: dict[str, float]) -> None:
        _given["messages"].put(100 * epoch // epochs - 100 * (epoch - 1) // epochs)

    after = tuning.run(data, epochs, tell)
    return save(tuning.network.state_dict()), after, epochs
