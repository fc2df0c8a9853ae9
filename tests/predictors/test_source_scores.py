"""What sources say: labels where there are any, predictions elsewhere, and how alike data sets are."""

from __future__ import annotations

import numpy as np
import pytest

from archgen.errors import ArchgenError
from archgen.graph import Architecture
from archgen.predictors import PREDICTORS, Source
from archgen.predictors.normal_scores import NormalScores
from archgen.predictors.source_scores import LEAST, TRUST, SourceScores, similarity
from archgen.spaces import SearchSpace


@pytest.fixture(scope="module")
def archs(space: SearchSpace) -> list[Architecture]:
    return list(dict.fromkeys(space.sample(90, np.random.default_rng(0))))


@pytest.fixture(scope="module")
def y(space: SearchSpace, archs: list[Architecture]) -> np.ndarray:
    live = np.array([sum("conv" in op for op in space.simplify(arch).ops) for arch in archs], dtype=float)
    return live + np.random.default_rng(1).normal(0, 0.1, len(archs))


def scores_of(space: SearchSpace, *sources: Source) -> SourceScores:
    said = SourceScores(sources)
    said.learn([PREDICTORS["gbdt"](space, "m").fit(source.archs, source.y) for source in sources])
    return said


def test_a_label_moves_the_prediction_by_its_trust(
    space: SearchSpace, archs: list[Architecture], y: np.ndarray
) -> None:
    said = scores_of(space, Source(archs[:60], y[:60]))
    scores, own, variance = said(archs)
    predicted = NormalScores(y[:60]).normalise(said.predictors[0].predict(archs).mean)
    np.testing.assert_allclose(own[:60, 0], NormalScores(y[:60]).scores - predicted[:60])
    np.testing.assert_allclose(scores[:60, 0], predicted[:60] + TRUST * own[:60, 0])
    np.testing.assert_allclose(scores[60:, 0], predicted[60:])
    assert (own[60:] == 0).all()
    assert (variance[:60] == 0).all()
    assert (variance[60:] > 0).all()


def test_disagreement_is_the_variance_between_sources(
    space: SearchSpace, archs: list[Architecture], y: np.ndarray
) -> None:
    alike = scores_of(space, Source(archs, y), Source(archs, 10 * y + 3))
    opposed = scores_of(space, Source(archs, y), Source(archs, -y))
    assert alike.disagreement == LEAST
    both = opposed(archs)[0]
    assert opposed.disagreement == pytest.approx(both.var(1, ddof=1).mean())
    assert opposed.disagreement > 0.5


def test_asking_again_gives_the_same_in_any_order(space: SearchSpace, archs: list[Architecture], y: np.ndarray) -> None:
    said = scores_of(space, Source(archs[:60], y[:60]))
    first = np.stack(said(archs))
    again = np.stack(said(archs[::-1]))
    np.testing.assert_array_equal(first, again[:, ::-1])
    assert said([])[0].shape == (0, 1)


def test_the_nearer_source_weighs_more() -> None:
    target, near, far = np.zeros(3), np.array([0.1, 0.0, 0.0]), np.array([1.0, 0.0, 0.0])
    weights = similarity(target, [near, far])
    ratio = np.exp(-(0.1 - 1.0) / 0.55)  # distances over their mean
    np.testing.assert_allclose(weights, [ratio / (1 + ratio), 1 / (1 + ratio)])
    np.testing.assert_array_equal(similarity(None, [None, None]), [0.5, 0.5])
    np.testing.assert_array_equal(similarity(target, [target, target]), [0.5, 0.5])
    assert similarity(None, []).shape == (0,)
    with pytest.raises(ArchgenError, match="of the target and of all 2 sources, or of none"):
        similarity(target, [near, None])
