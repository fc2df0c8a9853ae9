"""The choice of each variable as one-hot features: what GBDT-NAS gives its trees."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from archgen.graph import Architecture
from archgen.spaces import SearchSpace


class ChoiceEncoder:
    """One feature a value of a variable, 1 where an architecture has it: as written, without simplification.

    Args:
        space: The space.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        widths = [len(values) for values in space.variables.values()]
        starts = list(itertools.accumulate(widths, initial=0))
        self.width = starts[-1]
        self.columns = {
            name: slice(start, start + width)
            for name, start, width in zip(space.variables, starts[:-1], widths, strict=True)
        }
        """Where the features of each variable are."""
        self._starts = np.array(starts[:-1], dtype=int)

    def __call__(self, archs: Sequence[Architecture]) -> Tensor:
        """Encode architectures, `b x d`, in double precision."""
        rows = np.zeros((len(archs), self.width))
        rows[np.arange(len(archs))[:, None], self._starts + self.space.choices(archs)] = 1.0
        return torch.from_numpy(rows)
