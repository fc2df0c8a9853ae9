"""Conditions for a generator: thresholds of candidates, and optima in the space of embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from archgen.graph import Architecture
from archgen.objectives import at_most
from archgen.spaces import SearchSpace
from archgen.strategies.conditions import CONDITIONS, OPTIMISM, exceeds, most_improving
from archgen.surrogates import Boshnas, Constraint, GaussianProcess, Problem, Surrogate


def merit(space: SearchSpace, archs: list[Architecture]) -> np.ndarray:
    return np.array([float(space.simplify(arch).ops.count("nor_conv_3x3")) for arch in archs])


@pytest.fixture(scope="module")
def archs(space: SearchSpace) -> list[Architecture]:
    return list(dict.fromkeys(space.sample(40, np.random.default_rng(0))))


@pytest.fixture(scope="module", params=["gp", "boshnas"])
def surrogate(request: pytest.FixtureRequest, space: SearchSpace, archs: list[Architecture]) -> Surrogate:
    kind = {"gp": GaussianProcess, "boshnas": Boshnas}[request.param]
    fitted = kind(space, "merit").fit(archs, merit(space, archs))
    assert isinstance(fitted, Surrogate)
    return fitted


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_threshold_is_what_the_best_candidate_may_reach(surrogate: Surrogate, archs: list[Architecture]) -> None:
    mean, std = surrogate.predict_normalised(archs)
    tilts = CONDITIONS["candidates"](Problem([surrogate]), archs, noise())
    for kappa, tilt in zip(OPTIMISM, tilts, strict=True):
        tau = (mean + kappa * std).max()
        assert tilt(archs) == pytest.approx(norm.logcdf((mean - tau) / std))


def test_candidates_that_break_a_bound_set_no_threshold(
    space: SearchSpace, surrogate: Surrogate, archs: list[Architecture]
) -> None:
    """Large cells are the best and cost the most."""
    cost = GaussianProcess(space, "cost").fit(archs, merit(space, archs))
    bound = at_most("cost", 1.5)
    free = CONDITIONS["candidates"](Problem([surrogate]), archs, noise())
    bounded = CONDITIONS["candidates"](Problem([surrogate], [Constraint(cost, bound)]), archs, noise())
    assert all(np.all(b(archs) >= f(archs)) for f, b in zip(free, bounded, strict=True))
    assert bounded[0](archs).max() > free[0](archs).max() - 1e-9
    assert np.median(bounded[0](archs)) > np.median(free[0](archs)) + 1


def test_exceeding_a_threshold_is_a_probability(surrogate: Surrogate, archs: list[Architecture]) -> None:
    mean, _ = surrogate.predict_normalised(archs)
    assert np.exp(exceeds(archs, [surrogate], mean[:1]))[0] == pytest.approx(0.5)


def test_an_optimum_of_the_embedding_pulls_towards_what_is_good(
    space: SearchSpace, surrogate: Surrogate, archs: list[Architecture]
) -> None:
    """Of architectures that the surrogate has not seen; the similarity alone does, too."""
    unseen = space.sample(300, np.random.default_rng(1))
    good = merit(space, unseen)
    optima, again = (CONDITIONS["gobi"](Problem([surrogate]), archs, noise()) for _ in range(2))
    plain = CONDITIONS["candidates"](Problem([surrogate]), archs, noise())
    assert len(optima) == len(OPTIMISM)
    weights, similarity = optima[0](unseen), optima[0](unseen) - plain[0](unseen)
    assert again[0](unseen).tolist() == weights.tolist()
    assert similarity.max() <= 1e-9
    for each in (weights, similarity):
        assert np.mean(good[np.argsort(-each)[:10]]) > good.mean() + 1


def test_an_optimum_is_found_with_few_labels_too(space: SearchSpace, archs: list[Architecture]) -> None:
    few = archs[:10]
    surrogate = GaussianProcess(space, "merit").fit(few, merit(space, few))
    weights = CONDITIONS["gobi"](Problem([surrogate]), archs, noise())[0](archs)
    assert merit(space, archs)[np.argsort(-weights)[:10]].mean() > merit(space, archs).mean()


# -- several objectives -------------------------------------------------------------------------------------------


def test_of_several_directions_the_point_that_adds_most_hypervolume_is_taken() -> None:
    """By hand, above the corner (-0.2, 0.8) of all: the points add 2.2 x 1, nothing, and 0.2 x 0.9."""
    known = np.array([[2.0, 2.0]])
    points = np.array([[2.0, 3.0], [1.0, 1.0], [0.0, 2.9]])
    assert most_improving(points, known) == 0
    assert most_improving(points[1:], known) == 1


def test_where_nothing_adds_volume_the_largest_sum_is_taken() -> None:
    assert most_improving(np.array([[0.0, 1.0], [1.0, 0.5], [0.2, 0.2]]), np.array([[2.0, 2.0]])) == 1


def test_of_one_direction_it_is_the_largest_value() -> None:
    assert most_improving(np.array([[0.3], [0.9], [0.5]]), np.array([[0.4]])) == 1
    assert most_improving(np.array([[0.3], [0.2]]), np.zeros((0, 1))) == 0
