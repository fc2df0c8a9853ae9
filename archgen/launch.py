"""Which of the processes that `accelerate launch` started this one is, and which of them says why all end.

Each of them ends with status 2; the launcher adds a report of its own and ends with 1.
"""

from __future__ import annotations

import os
import sys
import time

LAUNCHED = "ACCELERATE_MIXED_PRECISION"
"""Variable that `accelerate launch` sets, whatever it launches."""
FAILED = "archgen/failed"
"""Key of the launcher's store that counts the processes that failed."""
GRACE = 20.0
"""Seconds that the first process gets to fail, where the others failed before it."""


def launched() -> bool:
    """Whether `accelerate launch` started this process."""
    return LAUNCHED in os.environ


def configured_precision() -> str:
    """The `mixed_precision` that this process was launched with; `no` where it was started alone."""
    return os.environ.get(LAUNCHED, "no")


def rank() -> int:
    """Number of this process among those that were launched together, from 0; 0 where it was started alone."""
    return int(os.environ.get("RANK", "0")) if launched() else 0


def first_to_fail() -> bool:
    """Whether no other of the processes has failed before, so that this one has to say why.

    Before they know of each other all fail by the same arguments, and the first of them says it; the others leave it
    the time for that, since their launcher ends all as soon as one has ended.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        if rank() > 0:
            time.sleep(GRACE)
        return True
    try:
        return int(torch.distributed.distributed_c10d._get_default_store().add(FAILED, 1)) == 1
    except RuntimeError:  # the store went with the process that held it; better said twice than never
        return True
