"""Exact counts as predictors: parameters and FLOPs follow from the architecture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from archgen.errors import UnknownMetric
from archgen.graph import Architecture
from archgen.predictors.base import PREDICTORS, Floats, Prediction, Predictor
from archgen.spaces import SearchSpace

COUNTED = ("params", "flops")


@PREDICTORS.register("count")
class Count(Predictor):
    """`params` or `flops` of the network that an architecture builds, dead edges left out; nothing to fit.

    Args:
        space: The space.
        metric: `params` or `flops`, plain numbers.
        network: Arguments of `space.build`; the published ones by default.
        simplify: Count the simplified architecture (what `archgen design` builds) instead of the published network.

    Raises:
        UnknownMetric: The metric is not one of the two.
    """

    def __init__(
        self, space: SearchSpace, metric: str, network: dict[str, int] | None = None, simplify: bool = True
    ) -> None:
        if metric not in COUNTED:
            raise UnknownMetric(metric, COUNTED)
        super().__init__(space, metric)
        self.simplify, self.network = simplify, dict(network or {})

    def fit(self, archs: Sequence[Architecture], y: Floats) -> Count:
        """Checks its arguments and learns nothing: the count is exact."""
        self.check_fit(archs, np.asarray(y, dtype=float))
        return self

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        counted = [self.space.simplify(arch) if self.simplify else arch for arch in archs]
        mean = np.array([self.space.count(arch, **self.network)[self.metric] for arch in counted], dtype=float)
        return Prediction(mean, np.zeros(len(mean)))

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {"simplify": self.simplify, "network": self.network}, {}

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Count:
        return cls(space, metric, config["network"], config["simplify"])
