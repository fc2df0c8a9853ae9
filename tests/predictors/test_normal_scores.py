"""The rank-normal map: scores of values and values of scores."""

import numpy as np
import pytest
from scipy.stats import norm

from archgen.errors import ArchgenError
from archgen.objectives import at_least, at_most
from archgen.predictors.normal_scores import NormalScores

Y = np.array([3.0, 1.0, 2.0, 2.0, 10.0])


def test_scores_are_those_of_blom_and_ties_share_their_rank() -> None:
    ranks = np.array([4.0, 1.0, 2.5, 2.5, 5.0])
    np.testing.assert_allclose(NormalScores(Y).scores, norm.ppf((ranks - 0.375) / 5.25))


def test_values_undo_scores_beyond_the_known_range_too() -> None:
    normal = NormalScores(Y)
    np.testing.assert_allclose(normal.values(normal.scores), Y)
    np.testing.assert_allclose(normal.normalise(Y), normal.scores)
    wide = np.linspace(-9, 9, 50)
    np.testing.assert_allclose(normal.normalise(normal.values(wide)), wide)
    top = (10.0 - 2.0) / (normal.scores[4] - normal.scores[2])  # from the median to the greatest
    assert normal.values(normal.scores[4:] + 1.0)[0] == pytest.approx(10.0 + top)
    assert (np.diff(normal.normalise(np.linspace(-20, 40, 200))) > 0).all()


def test_a_prediction_is_the_median_and_half_the_middle_interval() -> None:
    normal = NormalScores(Y)
    mean, std = np.array([0.1, -0.5]), np.array([0.3, 0.2])
    prediction = normal.prediction(mean, std)
    np.testing.assert_allclose(prediction.mean, normal.values(mean))
    np.testing.assert_allclose(prediction.std, (normal.values(mean + std) - normal.values(mean - std)) / 2)


def test_limits_and_probabilities_are_those_of_the_gaussian_in_scores() -> None:
    normal = NormalScores(Y)
    mean, std = np.array([0.0]), np.array([0.4])
    low, high = (normal.limit(mean, std, wish, 0.8) for wish in (at_least("m", 2.0), at_most("m", 2.0)))
    np.testing.assert_allclose(normal.normalise(low), norm.ppf(0.2) * std)
    np.testing.assert_allclose(normal.normalise(high), norm.ppf(0.8) * std)
    (score,) = normal.normalise([2.0])
    assert normal.log_probability(mean, std, at_least("m", 2.0))[0] == pytest.approx(norm.logsf(score / 0.4))
    with pytest.raises(ArchgenError, match="between 0 and 1"):
        normal.limit(mean, std, at_least("m", 2.0), 1.0)


def test_one_value_is_a_constant() -> None:
    normal = NormalScores(np.array([7.0]))
    assert normal.values(np.array([-1.0, 0.0, 2.0])).tolist() == [7.0] * 3
    assert normal.normalise([7.0])[0] == 0.0
    assert (np.diff(normal.normalise([6.0, 7.0, 8.0])) > 0).all()
