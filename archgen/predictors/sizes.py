"""The size of any architecture from its path features: what a predictor may know of it before the first label."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from archgen.encoders.paths import PathEncoder
from archgen.graph import Architecture
from archgen.networks.workload import WORKLOAD
from archgen.predictors.base import Floats
from archgen.spaces import SearchSpace

COUNTED = 500
"""Random architectures that are counted."""
PENALTY = 1e-3
"""Of the regression, for features and logarithms of mean 0 and variance 1."""


class Sizes:
    """Logarithms of parameters and of multiply-adds, of mean 0 and variance 1 over the space, by ridge regression.

    Counting a network takes up to milliseconds, and a sampler asks for thousands a second; what was read of it for
    other features tells its size nearly as well. In spaces without zero-cost proxies (`FreeLabels`) these are the free
    labels of FBNetV3 (arXiv 2006.02049), which pre-trains a network on them.

    Args:
        encoder: Gives features of architectures of a space.
    """

    names = ("params", "macs")

    def __init__(self, encoder: PathEncoder) -> None:
        self.encoder = encoder

    def __call__(self, features: Floats) -> Floats:
        """The logarithms, `b x 2`, without unit; 0 of what is the same all over the space.

        Args:
            features: What the encoder gives of `b` architectures, `b x d`.
        """
        found: Floats = features @ self.weights[:-1] + self.weights[-1]
        return found

    @cached_property
    def weights(self) -> Floats:
        """Of each feature, and the constant, `(d + 1) x 2`."""
        space = self.encoder.space
        archs = space.sample(COUNTED, np.random.default_rng(0))
        x, y = self.encoder(archs).numpy(), np.log1p(counted(space, archs))
        scale = np.where(y.std(0) > 1e-9, y.std(0), np.inf)
        middle, spread = x.mean(0), np.where(x.std(0) > 1e-9, x.std(0), np.inf)
        z = (x - middle) / spread
        slopes = np.linalg.solve(z.T @ z + PENALTY * len(x) * np.eye(x.shape[1]), z.T @ ((y - y.mean(0)) / scale))
        slopes /= spread[:, None]
        return np.vstack([slopes, -middle @ slopes])

    def state(self) -> Tensor:
        """The tensor of a checkpoint: `weights`, `(d + 1) x 2`."""
        return torch.from_numpy(self.weights)

    def restore(self, weights: Tensor) -> None:
        """Take the weights of a `state`: counting anew takes seconds in some spaces."""
        self.weights = weights.numpy().astype(float)


def counted(space: SearchSpace, archs: Sequence[Architecture]) -> Floats:
    """Parameters and multiply-adds of the simplified networks of `b` architectures, `b x 2`."""
    simple = space.simplified(archs)
    workloads = space.workloads(simple)  # for thousands at once, where a space has them
    if workloads is None:
        counts = [space.count(arch) for arch in simple]
        return np.array([[count["params"], count["flops"]] for count in counts], dtype=float)
    macs = [i for i, name in enumerate(WORKLOAD) if name.endswith("_macs") and not name.endswith("_root_macs")]
    return np.stack([workloads[:, WORKLOAD.index("parameters")], workloads[:, macs].sum(1)], 1)
