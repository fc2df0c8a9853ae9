"""How many threads torch uses while tensors are small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single_threaded() -> Iterator[None]:
    """One torch thread for the body; the caller's number afterwards.

    Guided sampling works on thousands of tensors of a few kilobytes. A second thread saves nothing there, and when the
    other core is busy each of these operations waits for it: measured six to twenty times slower.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
