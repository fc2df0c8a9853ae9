"""What a sampler gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from archgen.artifacts import write_atomic
from archgen.graph import Architecture
from archgen.spaces import SearchSpace

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """What a sampler drew.

    Args:
        space: The space.
        archs: The architectures, in the order drawn.
        predicted: Predicted value of each metric, one an architecture.
        diagnostics: `drawn`; in percent of all drawn: `valid_raw` (decoded before the projector mended any), `valid`
            (after it), `accepted` (returned); in percent of the valid: `unique`, and `novel` where the sampler was
            told of known architectures; `calls` (distinct architectures that guidance asked predictors about);
            `seconds`.
    """

    space: SearchSpace
    archs: list[Architecture]
    predicted: dict[str, Floats]
    diagnostics: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.archs)

    def to_frame(self) -> pd.DataFrame:
        """A table: `arch` in the space's published form, a column a predicted metric, `valid`."""
        columns: dict[str, Any] = {"arch": [self.space.format(arch) for arch in self.archs], **self.predicted}
        return pd.DataFrame({**columns, "valid": [True] * len(self.archs)})

    def save(self, path: Path) -> None:
        """Write the table as parquet, or as CSV when the name ends so."""
        frame = self.to_frame()
        if path.suffix == ".csv":
            write_atomic(path, lambda p: frame.to_csv(p, index=False))
        else:
            write_atomic(path, lambda p: frame.to_parquet(p, index=False))
