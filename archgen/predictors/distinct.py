"""Rows that occur several times, found once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from archgen.predictors.base import Floats


def distinct(rows: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Each row that there is once, in order of its first place, and which of them each given row is.

    Args:
        rows: `b x d`; equal to the bit counts.
    """
    known: dict[bytes, int] = {}
    whole = np.dtype((np.void, max(rows.shape[1] * rows.itemsize, 1)))
    texts: list[Any] = np.ascontiguousarray(rows).view(whole).ravel().tolist() if rows.size else [b""] * len(rows)
    which = np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)
    first = np.unique(which, return_index=True)[1]
    return rows[first], which
