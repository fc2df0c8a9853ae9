"""A surrogate whose belief is written down, so that acquisition functions can be checked in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from botorch.models.model import Model
from botorch.posteriors import GPyTorchPosterior, Posterior
from gpytorch.distributions import MultivariateNormal
from torch import Tensor

from archgen.graph import Architecture
from archgen.predictors.base import Floats, Prediction
from archgen.spaces import SearchSpace
from archgen.surrogates import Surrogate


class Written(Model):  # type: ignore[misc]
    """Independent Gaussians whose mean and standard deviation are two of the features."""

    def __init__(self, mean: int, std: int) -> None:
        super().__init__()
        self.columns = mean, std

    @property
    def num_outputs(self) -> int:
        return 1

    @property
    def batch_shape(self) -> torch.Size:
        return torch.Size()

    def posterior(
        self, X: Tensor, output_indices: Any = None, observation_noise: Any = False, posterior_transform: Any = None
    ) -> Posterior:
        mean, std = (X[..., i] for i in self.columns)
        posterior = GPyTorchPosterior(MultivariateNormal(mean, torch.diag_embed(std.square())))
        return posterior if posterior_transform is None else posterior_transform(posterior)


class Known(Surrogate):
    """A surrogate that says what it was given of each architecture, in the metric's unit and without a fit.

    Args:
        table: Features of each architecture.
        mean, std: Columns of them that this surrogate believes.
    """

    power = 1
    """A value is the score to this power: an odd one, or 0, where nothing is normalised."""

    def __init__(self, space: SearchSpace, table: dict[Architecture, list[float]], mean: int = 0, std: int = 1) -> None:
        super().__init__(space, f"metric{mean}")
        self.table, self._model = table, Written(mean, std)

    @property
    def model(self) -> Written:
        return self._model

    def features(self, archs: Sequence[Architecture]) -> Tensor:
        return torch.tensor([self.table[arch] for arch in archs]).double()

    def denormalise(self, scores: Floats) -> Floats:
        return np.asarray(scores**self.power)

    def normalise(self, values: Sequence[float]) -> list[float]:
        return [float(np.sign(value) * abs(value) ** (1 / self.power)) for value in values]

    def predict_normalised(self, archs: Sequence[Architecture]) -> tuple[Floats, Floats]:
        x = self.features(archs).numpy()
        mean, std = self._model.columns
        return x[:, mean], x[:, std]

    def fit(self, archs: Sequence[Architecture], y: Floats) -> Known:
        return self

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        return Prediction(*self.predict_normalised(archs))

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        raise NotImplementedError

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Known:
        raise NotImplementedError


@pytest.fixture
def known(space: SearchSpace) -> Callable[..., Known]:
    """Makes a surrogate of rows of features, for the first architectures of the space: see `archs`."""

    def make(rows: Sequence[Sequence[float]], mean: int = 0, std: int = 1) -> Known:
        every = space.enumerate()[: len(rows)]
        return Known(space, dict(zip(every, map(list, rows), strict=True)), mean, std)

    return make


@pytest.fixture
def archs(space: SearchSpace) -> list[Architecture]:
    return space.enumerate()[:40]


@pytest.fixture
def rows() -> Floats:
    """Means and deviations of four Gaussians, of 40 architectures: columns 0, 2 are means, 1, 3 deviations."""
    rng = np.random.default_rng(5)
    means, deviations = rng.normal(size=(40, 2)), rng.uniform(0.2, 1.5, (40, 2))
    return np.stack([means[:, 0], deviations[:, 0], means[:, 1], deviations[:, 1]], 1)
