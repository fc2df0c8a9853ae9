"""Which of the processes that `accelerate launch` started this one is, and which of them says why all end."""

from __future__ import annotations

import os
import sys

LAUNCHED = "ACCELERATE_MIXED_PRECISION"
"""Variable that `accelerate launch` sets, whatever it launches."""
FAILED = "archgen/failed"
"""Key of the launcher's store that counts the processes that failed."""


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

    Before they know of each other all fail by the same arguments, and the first of them says it.
    """
    torch = sys.modules.get("torch")
    if not launched() or torch is None or not torch.distributed.is_available():
        return rank() == 0
    if not torch.distributed.is_initialized():
        return rank() == 0
    try:
        return int(torch.distributed.distributed_c10d._get_default_store().add(FAILED, 1)) == 1
    except RuntimeError:  # the store went with the process that held it; better said twice than never
        return True
