"""Tables of architectures in files, parquet or CSV: the one way in which they are read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from archgen.errors import InvalidTable

COST = "cost_seconds"
"""Column of what a measurement cost, in seconds."""
NOT_METRICS = ("arch", "index", "strategy", "seed", "trial", "state", COST, "overhead_seconds")
"""Columns that say which row it is, or how it came about: of published tables, of runs of a search, of a cache."""


def read_table(path: Path, *, expected: str = "a table", mend: str = "write it anew") -> pd.DataFrame:
    """Read `.parquet` or `.csv`, by the suffix; names of columns are strings, and so are values of `arch`.

    Args:
        path: The file.
        expected: What it should be, in words.
        mend: What to do when it is damaged, in words.

    Raises:
        InvalidTable: Another suffix, no file, or one that can not be read.
    """
    if path.suffix not in (".parquet", ".csv"):
        raise InvalidTable(f"{path} is neither .parquet nor .csv: expected {expected}; convert it to one of them")
    if not path.is_file():
        raise InvalidTable(f"{path} is not a file: expected {expected}; check the path")
    try:
        if path.suffix == ".parquet":
            parquet.read_table(path).validate(full=True)  # texts are decoded late otherwise, and fail anywhere
            frame = pd.read_parquet(path)
        else:  # arch stays text even where it looks like a number, as in spaces whose strings are digits
            frame = pd.read_csv(path, dtype={"arch": str}, low_memory=False)
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:160]
        raise InvalidTable(f"{path} can not be read as a {path.suffix[1:]} table ({reason}); {mend}") from None
    return frame.rename(columns=str)
