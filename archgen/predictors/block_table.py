r"""Latency of a chain as the sum over its blocks, from a table of measured ones.

ProxylessNAS (arXiv 1812.00332, section 3.3 and appendix B) estimates the latency of a network from a look-up table of
its blocks, each measured once: :math:`LAT = \sum_i F(o_i)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.objectives import Objective
from archgen.predictors.base import PREDICTORS, Floats, Prediction, Predictor
from archgen.spaces import SearchSpace
from archgen.spaces.chain_blocks import CALL, ChainBlocks

LINE = 5
"""Fewest measured networks for which an offset is fitted beside the factor."""


@PREDICTORS.register("block_table")
class BlockTable(Predictor):
    r"""The sum of the latencies of an architecture's blocks, stem and head among them.

    Measured networks correct the sum: :math:`y = a \cdot LAT + b` by least squares of relative errors, :math:`b` from
    five networks on. What a network is off when it is left out of that fit gives the standard deviation, in
    proportion to the latency; before any `fit` the sum stands as it is, and its error is not known (NaN).

    Args:
        space: A chain, or a part of one.
        metric: Name of the latency, ms.
        latencies: Of each block by its name, ms (`archgen.spaces.chain_blocks`). A name with a setting before it,
            `r160 | mbconv ...`, is of networks with that setting alone and goes before the plain name. `call` is of a
            whole network besides its blocks.
        network: Arguments of `space.build` that the blocks belong to; the published ones by default.

    Raises:
        InvalidSpace: The space is no chain.
        ArgumentError: A latency is negative, NaN or infinite.

    Example:
        >>> table = BlockTable(space, latencies=block_latencies(file, device))  # doctest: +SKIP
        >>> table.predict(archs).mean, table.fit(measured, y).predict(archs)  # doctest: +SKIP
    """

    def __init__(
        self,
        space: SearchSpace,
        metric: str = "latency_ms",
        latencies: Mapping[str, float] | None = None,
        network: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(space, metric)
        self.latencies, self.network = dict(latencies or {}), dict(network or {})
        for name, ms in self.latencies.items():
            if not 0 <= ms < np.inf:
                raise ArchgenError(f"a block's latency must be a number from 0, got {ms} ms of '{name}'; measure it")
        self._blocks = ChainBlocks(space, self.network)
        self.scale, self.offset = 1.0, 0.0
        self.sigma = np.nan
        """Standard deviation of the relative error; NaN where it is not known."""

    @property
    def needs_labels(self) -> bool:
        return False

    def fit(self, archs: Sequence[Architecture], y: Floats) -> BlockTable:
        """Correct the sums by `b` measured networks and their latencies, ms.

        Raises:
            ArchgenError: Another number of values than of networks, none, one that is not above 0, or a block that the
                table lacks.
        """
        y = np.asarray(y, dtype=float)
        self.check_fit(archs, y)
        if (y <= 0).any():
            raise ArchgenError(f"{self.metric} must be above 0 ms, got {y.min():g}; measure it again")
        sums = self.sums(archs)
        if (sums <= 0).any():
            raise ArchgenError(f"{self.metric}: a measured network's blocks take no time in the table; measure these")
        line = np.stack([sums, np.ones_like(sums)], 1) / y[:, None]  # relative errors: every row is to give 1
        fitted = _fit(line) if len(y) >= LINE and np.ptp(sums) > 0 else None
        if fitted is None or fitted[0][0] <= 0:  # a line that falls ranks the other way round: too few say so
            fitted = _fit(line[:, :1])
        (self.scale, self.offset), left_out = fitted
        self.sigma = float(np.sqrt(np.mean(left_out**2))) if len(y) > 1 else np.nan
        return self

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        """Latency, ms, and its standard deviation, ms; raises `ArchgenError` naming a block that the table lacks."""
        sums = self.sums(archs)
        mean = np.maximum(self.scale * sums + self.offset, 0.0)
        return Prediction(mean, mean * self.sigma)

    def sums(self, archs: Sequence[Architecture]) -> Floats:
        """The sums alone, ms, without the correction."""
        return np.array([self._sum(arch) for arch in archs], dtype=float)

    def limit(self, archs: Sequence[Architecture], objective: Objective, confidence: float) -> Floats:
        """As `Predictor.limit`; raises `ArchgenError` where nothing says how far a sum may be off."""
        if np.isnan(self.sigma):
            raise ArchgenError(
                f"{self.metric}: nothing says how far a sum of blocks is off; fit it to two or more measured networks"
            )
        return super().limit(archs, objective, confidence)

    def _sum(self, arch: Architecture) -> float:
        setting, known = self._blocks.setting(arch), self.latencies
        total = known.get(CALL, 0.0)
        for block in self._blocks.of(arch):
            ms = known.get(f"{setting} | {block.name}", known.get(block.name))
            if ms is None:
                raise ArchgenError(
                    f"{self.metric}: the table has no block '{block.name}'{f' at {setting}' if setting else ''}; "
                    "measure it, or ask for architectures that the table knows"
                )
            total += ms
        return total

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        config = {"network": self.network, "blocks": list(self.latencies)}
        line = torch.tensor([self.scale, self.offset, self.sigma], dtype=torch.float64)
        return config, {"latencies": torch.tensor(list(self.latencies.values()), dtype=torch.float64), "line": line}

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> BlockTable:
        latencies = dict(zip(config["blocks"], tensors["latencies"].tolist(), strict=True))
        predictor = cls(space, metric, latencies, config["network"])
        predictor.scale, predictor.offset, predictor.sigma = tensors["line"].tolist()
        return predictor


def _fit(features: Floats) -> tuple[tuple[float, float], Floats]:
    """Coefficients (factor, offset) with which the rows of features come nearest to 1, and errors of rows left out."""
    inverse = np.linalg.pinv(features)
    coefficients = inverse @ np.ones(len(features))
    leverage = np.minimum(np.einsum("ij,ji->i", features, inverse), 1 - 1e-9)
    left_out = (1 - features @ coefficients) / (1 - leverage)
    factor, offset = (*coefficients.tolist(), 0.0)[:2]
    return (factor, offset), left_out
