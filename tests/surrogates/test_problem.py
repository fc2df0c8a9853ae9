"""Several surrogates as one model, and bounds in its scale."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from botorch.models import ModelListGP

from archgen.graph import Architecture
from archgen.objectives import at_least, at_most
from archgen.predictors.base import Floats
from archgen.spaces import SearchSpace
from archgen.surrogates import Constraint, GaussianProcess, Problem


def test_several_gaussian_processes_are_a_model_list_over_shared_features(
    space: SearchSpace, rng: np.random.Generator
) -> None:
    archs = space.sample(12, rng)
    gps = [GaussianProcess(space, name).fit(archs, rng.normal(size=12)) for name in ("a", "b")]
    model = Problem(gps).model
    assert isinstance(model, ModelListGP)
    posterior = model.posterior(gps[0].features(archs[:3]))
    for i, gp in enumerate(gps):
        alone = gp.posterior(archs[:3])
        assert torch.allclose(posterior.mean[:, i], alone.mean[:, 0])
        assert torch.allclose(posterior.variance[:, i], alone.variance[:, 0])


def test_other_models_are_joined_as_independent_outputs(
    known: Callable[..., Any], archs: list[Architecture], rows: Floats
) -> None:
    problem = Problem([known(rows)], [Constraint(known(rows, 2, 3), at_most("metric2", 0.0))])
    posterior = problem.model.posterior(problem.objective.features(archs)[:, None])
    assert posterior.mean[:, 0].numpy() == pytest.approx(rows[:, [0, 2]])
    assert posterior.variance[:, 0].numpy() == pytest.approx(rows[:, [1, 3]] ** 2)


def test_one_surrogate_is_its_own_model(known: Callable[..., Any], rows: Floats) -> None:
    surrogate = known(rows)
    assert Problem([surrogate]).model is surrogate.model


def test_violations_are_negative_where_a_bound_is_met(known: Callable[..., Any], rows: Floats) -> None:
    bounds = [Constraint(known(rows, 2, 3), wish) for wish in (at_most("metric2", 1.0), at_least("metric2", 0.5))]
    upper, lower = Problem([known(rows)], bounds).violations
    samples = torch.tensor([[9.0, 1.5, 0.1], [9.0, 0.2, 0.6]])  # objective, and the metric of each bound
    assert upper(samples).tolist() == pytest.approx([0.5, -0.8])
    assert lower(samples).tolist() == pytest.approx([0.4, -0.1])
