"""How many threads torch uses while tensors are small, or while several trainings share them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """So many torch threads for the body; the caller's number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def single_threaded() -> AbstractContextManager[None]:
    """One torch thread for the body.

    Guided sampling works on thousands of tensors of a few kilobytes. A second thread saves nothing there, and when the
    other core is busy each of these operations waits for it: measured six to twenty times slower.
    """
    return torch_threads(1)


def shared(tasks: int, processes: int) -> list[int]:
    """Torch threads of each of some tasks, in order, where each has a process of its own.

    Those of this process are shared out to as many tasks at a time as there are processes; when fewer tasks than that
    are left, they share all of them.

    Args:
        tasks: How many there are, at least 1.
        processes: At the same time, at least 1.
    """
    here, at_once = torch.get_num_threads(), min(tasks, processes)
    last = tasks % at_once or at_once
    return [max(1, here // at_once)] * (tasks - last) + [max(1, here // last)] * last


def rounds(tasks: int, processes: int) -> int:
    """How many of these tasks follow one another."""
    return math.ceil(tasks / processes)
