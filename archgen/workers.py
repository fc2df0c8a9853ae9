"""Processes that work for this one: how they start, and how they end."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from typing import Any

import torch

MakeExecutor = Callable[..., Executor]
"""Takes `max_workers`, `initializer` and `initargs`, as the executors of the standard library do."""

SPAWN = multiprocessing.get_context("spawn")
spawned: MakeExecutor = partial(ProcessPoolExecutor, mp_context=SPAWN)
"""Processes that start afresh: slower to start than forked ones, but safe beside threads and with CUDA."""


def begin(threads: int) -> None:
    """First call in a worker; in a thread of the process that asks for the work it does nothing.

    Args:
        threads: For torch.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to handle, which ends the workers
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    """A parent that was killed leaves no workers behind."""
    with contextlib.suppress(Exception):
        parent.join()
    os._exit(1)


def kill(executor: Executor) -> bool:
    """End an executor and, where it can, what runs in it; whether it could."""
    kill_all = getattr(executor, "kill_workers", None)  # Ray's, and of the standard library from Python 3.14 on
    processes = list((getattr(executor, "_processes", None) or {}).values())
    if kill_all is not None:
        kill_all()
    for process in processes:
        process.kill()
    executor.shutdown(wait=False, cancel_futures=bool(processes))
    return kill_all is not None or bool(processes)
