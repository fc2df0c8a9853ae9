"""Guidance: tilts of what a generator draws, from any function of architectures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from archgen.graph import Architecture, GraphBatch

LogTilt = Callable[[Sequence[Architecture]], NDArray[np.float64]]


class ArchitectureGuidance:
    """Decodes the clean graphs of a step and weighs the architectures; graphs that do not decode are forbidden.

    The function sees each distinct architecture once in the life of this object, so it may be slow.

    Args:
        decode: Graphs to architectures (`SearchSpace.decode`).
        log_tilt: Log-weight of each architecture, up to a constant; `-inf` forbids.
    """

    def __init__(self, decode: Callable[[GraphBatch], list[Architecture | None]], log_tilt: LogTilt) -> None:
        self.decode, self._log_tilt = decode, log_tilt
        self._known: dict[Architecture | None, float] = {None: -np.inf}

    @property
    def evaluated(self) -> int:
        """Number of distinct architectures weighed so far."""
        return len(self._known) - 1

    def log_tilt(self, clean: GraphBatch) -> Float[Tensor, " b"]:
        """See `Guidance`."""
        archs = self.decode(clean)
        new = list(dict.fromkeys(arch for arch in archs if arch is not None and arch not in self._known))
        if new:
            self._known.update(zip(new, self._log_tilt(new).tolist(), strict=True))
        return torch.tensor([self._known[arch] for arch in archs])
