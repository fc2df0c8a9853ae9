"""The meta predictor: what it takes from sources, how labels change it, and its checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, norm

from archgen.artifacts import load_checkpoint
from archgen.errors import ArchgenError
from archgen.objectives import at_most
from archgen.predictors import FreeLabels, MetaPredictor, Source, load_predictor, save_predictor
from archgen.predictors.source_scores import similarity

VALUE = {"none": 0.0, "skip_connect": 1.0, "avg_pool_3x3": 0.5, "nor_conv_1x1": 2.0, "nor_conv_3x3": 3.0}


def quality(space, archs):
    """An accuracy in percent: convolutions on live edges are better, on some edges more than on others."""
    edges = np.array([1.0, 1.13, 0.89, 1.21, 0.77, 1.37])
    value = np.array([np.dot(edges, [VALUE[op] for op in space.simplify(arch).ops[1:-1]]) for arch in archs])
    return 95 - 60 * np.exp(-value / 6)


@pytest.fixture(scope="module")
def archs(space):
    return list(dict.fromkeys(space.sample(330, np.random.default_rng(0))))[:300]


@pytest.fixture(scope="module")
def y(space, archs):
    return quality(space, archs)


@pytest.fixture(scope="module")
def noise(archs):
    """A data set on which nothing that matters on the target does."""
    return Source(archs, np.random.default_rng(5).uniform(50, 90, len(archs)))


def test_without_labels_it_orders_as_the_source_and_speaks_in_its_unit(space, archs, y):
    predictor = MetaPredictor(space, "acc", [Source(archs, y)]).fit([], np.zeros(0))
    mean, std = predictor.predict(archs)
    assert kendalltau(mean, y).statistic > 0.9
    assert np.abs(mean - y).mean() < 2.0
    assert bool((std > 0).all())
    assert predictor.weights == pytest.approx([1.0])


def test_a_source_equal_to_the_target_is_followed(space, archs, y):
    """Values of the target that are the source's, through any rising function, are told of unseen architectures."""
    target = 40 + (y - 50) ** 3 / 2000
    predictor = MetaPredictor(space, "acc", [Source(archs, y)]).fit(archs[:60], target[:60])
    assert predictor.weights == pytest.approx([1.0], abs=0.05)
    mean, _ = predictor.predict(archs[60:])
    assert kendalltau(mean, target[60:]).statistic > 0.97
    assert np.abs(mean - target[60:]).mean() < 0.06 * np.std(target)


def test_of_a_good_and_a_useless_source_the_good_one_gets_the_weight(space, archs, y, noise):
    predictor = MetaPredictor(space, "acc", [noise, Source(archs, y)])
    assert predictor.fit([], np.zeros(0)).weights == pytest.approx([0.5, 0.5])
    bad, good = predictor.fit(archs[:60], y[:60]).weights
    assert good == pytest.approx(1.0, abs=0.12)
    assert bad == pytest.approx(0.0, abs=0.08)
    assert kendalltau(predictor.predict(archs[60:]).mean, y[60:]).statistic > 0.94


def test_a_useless_source_costs_little(space, archs, y, noise):
    seen, unseen = archs[:60], archs[60:]
    alone = MetaPredictor(space, "acc").fit(seen, y[:60]).predict(unseen).mean
    misled = MetaPredictor(space, "acc", [noise]).fit(seen, y[:60])
    assert misled.weights == pytest.approx([0.0], abs=0.15)
    without, beside = (kendalltau(mean, y[60:]).statistic for mean in (alone, misled.predict(unseen).mean))
    assert without > 0.8
    assert beside > without - 0.05


def test_an_inverted_source_is_turned_round(space, archs, y):
    predictor = MetaPredictor(space, "acc", [Source(archs, -y)]).fit(archs[:60], y[:60])
    assert predictor.weights[0] < -0.5
    assert kendalltau(predictor.predict(archs[60:]).mean, y[60:]).statistic > 0.8


def test_before_the_first_label_sources_of_two_levels_leave_the_level_open(space, archs, y):
    low, high = Source(archs, y - 45), Source(archs, y)
    predictor = MetaPredictor(space, "acc", [low, high]).fit([], np.zeros(0))
    mean, std = predictor.predict(archs)
    assert std == pytest.approx(45 / np.sqrt(2) * np.sqrt(1.5), rel=0.2)
    assert mean == pytest.approx(y - 22.5, abs=12.0)
    upper = predictor.limit(archs, at_most("acc", 50.0), 0.9)
    assert upper == pytest.approx(mean + norm.ppf(0.9) * std)
    log_p = predictor.log_probability(archs, at_most("acc", 50.0))
    assert log_p == pytest.approx(norm.logcdf((50 - mean) / std))
    predictor.fit(archs[:10], y[:10])
    assert predictor.predict(archs).std.max() < 15.0


def test_one_label_sets_the_level_and_leaves_the_order(space, archs, y):
    """A target of another level than the source's: the label that is known is predicted, others around it."""
    source = Source(archs, y)
    before = MetaPredictor(space, "acc", [source]).fit([], np.zeros(0)).predict(archs).mean
    best = int(np.argmax(before))
    after = MetaPredictor(space, "acc", [source]).fit([archs[best]], np.array([30.0])).predict(archs).mean
    assert after[best] == pytest.approx(30.0, abs=0.5)
    assert after.max() < 35.0
    assert kendalltau(before, after).statistic > 0.95


def test_selected_labels_keep_the_scores_that_were_expected_of_them(space, archs, y):
    """Ten labels of the best alone do not make half of them look bad, as ranks among themselves would."""
    top = np.argsort(-y)[:10]
    predictor = MetaPredictor(space, "acc", [Source(archs, y)]).fit([archs[i] for i in top], y[top])
    mean, _ = predictor.predict_scores([archs[i] for i in top])
    rest, _ = predictor.predict_scores([archs[i] for i in np.argsort(-y)[100:]])
    assert mean.min() > 1.0
    assert rest.max() < mean.min()


def test_intervals_hold_unseen_values(space, archs, y):
    rng = np.random.default_rng(1)
    target, source = (y + 3.0 * rng.standard_normal(len(y)) for _ in range(2))
    predictor = MetaPredictor(space, "acc", [Source(archs[:200], source[:200])]).fit(archs[200:240], target[200:240])
    mean, std = predictor.predict_scores(archs[100:200] + archs[240:])
    truth = predictor.normal.normalise(np.concatenate([target[100:200], target[240:]]))
    inside = np.abs(truth - mean) < 1.645 * std
    assert 0.8 < inside.mean() <= 1.0  # binomial(160, 0.9) is below 0.8 with probability 1e-4
    assert std[100:].mean() > std[:100].mean()  # the source has no label there


def test_similar_data_sets_count_more(space, archs, y, noise):
    near, far = Source(archs, y, np.array([0.0, 1.0])), Source(archs, noise.y, np.array([4.0, 0.0]))
    predictor = MetaPredictor(space, "acc", [far, near], np.array([0.0, 0.0]))
    assert predictor.prior_weights[1] > 0.7
    assert predictor.prior_weights.sum() == pytest.approx(1.0)
    equal = MetaPredictor(space, "acc", [Source(archs, y), noise])
    fitted, other = (p.fit([], np.zeros(0)).predict(archs).mean for p in (predictor, equal))
    assert kendalltau(fitted, y).statistic > kendalltau(other, y).statistic


def test_similarity_is_a_softmax_of_distances_over_their_mean():
    weights = similarity(np.zeros(1), [np.array([1.0]), np.array([-3.0])])
    assert weights == pytest.approx(np.exp([-0.5, -1.5]) / np.exp([-0.5, -1.5]).sum())
    assert similarity(np.zeros(1), [np.zeros(1), np.zeros(1)]) == pytest.approx([0.5, 0.5])
    assert similarity(None, [None, None, None]) == pytest.approx([1 / 3] * 3)
    assert similarity(None, []).shape == (0,)


@pytest.mark.parametrize("labels", [0, 1, 20])
def test_a_checkpoint_holds_the_sources_too(space, archs, y, noise, labels, tmp_path):
    sources = [Source(archs[:80], y[:80], np.zeros(1)), Source(noise.archs, noise.y, np.ones(1))]
    predictor = MetaPredictor(space, "acc", sources, np.full(1, 0.2)).fit(archs[:labels], y[:labels])
    save_predictor(predictor, "meta", tmp_path, "# card\n")
    again = load_predictor(tmp_path, space)
    for before, after in zip(predictor.predict(archs), again.predict(archs), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-9)
    more = (p.fit(archs[:30], y[:30]).predict(archs).mean for p in (predictor, again))
    np.testing.assert_allclose(*more, rtol=1e-9)


def test_the_same_labels_give_the_same_predictor(space, archs, y, noise):
    one, other = (MetaPredictor(space, "acc", [noise]).fit(archs[:20], y[:20]).predict(archs) for _ in range(2))
    assert np.array_equal(one.mean, other.mean)
    assert np.array_equal(one.std, other.std)


@pytest.mark.parametrize("values", [[7.0] * 5, [1.0, 1.0, 1.0, 2.0, 2.0], [3.0]])
def test_equal_values_can_be_learnt(space, archs, y, values):
    for sources in ([], [Source(archs, y)], [Source(archs[:5], np.full(5, 8.0))]):
        mean, std = MetaPredictor(space, "acc", sources).fit(archs[: len(values)], np.array(values)).predict(archs)
        assert np.isfinite(mean).all()
        assert bool((std > 0).all())


def test_what_can_not_be_used_is_refused(space, archs, y):
    with pytest.raises(ArchgenError, match="as many values of acc as architectures"):
        MetaPredictor(space, "acc").fit([], np.zeros(0))
    with pytest.raises(ArchgenError, match="as many values of acc as architectures"):
        MetaPredictor(space, "acc", [Source(archs[1:], y)])
    with pytest.raises(ArchgenError, match="1 NaN"):
        MetaPredictor(space, "acc", [Source(archs, np.append(y[1:], np.nan))])
    with pytest.raises(ArchgenError, match="of none"):
        MetaPredictor(space, "acc", [Source(archs, y)], np.zeros(3))
    with pytest.raises(ArchgenError, match="call fit first"):
        MetaPredictor(space, "acc", [Source(archs, y)]).predict(archs)


def test_the_predictors_of_the_sources_read_free_labels(space, archs, y, tmp_path):
    """A proxy that is the accuracy itself: what path features tell of it roughly, the free label tells well."""
    labels = FreeLabels(space, width=32, members=1).fit(archs, {"proxy": y}, steps=300)
    source = Source(archs[:40], y[:40])
    with_labels = MetaPredictor(space, "acc", [source], free_labels=labels).fit([], np.zeros(0))
    without = MetaPredictor(space, "acc", [source]).fit([], np.zeros(0))
    better, worse = (kendalltau(p.predict(archs[40:]).mean, y[40:]).statistic for p in (with_labels, without))
    assert better > worse + 0.02
    save_predictor(with_labels, "meta", tmp_path, "# card\n")
    assert sum("layers.0.weight" in name for name in load_checkpoint(tmp_path, "predictor").tensors) == 1
    again = load_predictor(tmp_path, space)
    np.testing.assert_allclose(again.predict(archs).mean, with_labels.predict(archs).mean, rtol=1e-9)
