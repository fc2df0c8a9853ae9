"""Judging a predictor on the rows it has not seen, against figures by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from archgen import spaces
from archgen.errors import ArchgenError
from archgen.predictor_evaluation import evaluate_predictor, fit_sources
from archgen.predictors import Count, LatencyPredictor, MetaPredictor, Prediction, Source

SPACE = spaces.load("nasbench201")
ARCHS = SPACE.sample(60, np.random.default_rng(0))
FLOPS = Count(SPACE, "flops").predict(ARCHS).mean


class Remembering(Count):
    """Predicts FLOPs, wrong by a tenth, and remembers what it was shown."""

    def fit(self, archs, y):
        self.seen = list(archs), list(y)
        return self

    def predict(self, archs):
        mean = 1.1 * super().predict(archs).mean
        return Prediction(mean, np.full(len(archs), 1e6))


def test_figures_are_of_the_rows_that_were_not_used():
    predictor = Remembering(SPACE, "flops")
    figures = evaluate_predictor(predictor, ARCHS, FLOPS, n=20, seed=3)
    used = predictor.seen[0]
    assert len(used) == 20
    rest = [i for i, arch in enumerate(ARCHS) if arch not in used]
    assert figures["unseen"] == 40
    assert figures["mae"] == pytest.approx(0.1 * FLOPS[rest].mean())
    assert figures["median_relative_error"] == pytest.approx(10.0, abs=1e-6)
    inside = 0.1 * FLOPS[rest] <= 1.6448536 * 1e6
    assert figures["coverage_90"] == pytest.approx(100 * inside.mean())
    assert figures["kendall_tau"] == pytest.approx(kendalltau(1.1 * FLOPS[rest], FLOPS[rest]).statistic)
    assert figures["spearman_rho"] == pytest.approx(spearmanr(1.1 * FLOPS[rest], FLOPS[rest]).statistic)


def test_the_seed_draws_the_rows():
    seen = []
    for seed in (0, 0, 1):
        predictor = Remembering(SPACE, "flops")
        evaluate_predictor(predictor, ARCHS, FLOPS, n=20, seed=seed)
        seen.append(predictor.seen[0])
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize("n", [0, 1, 59, 100])
def test_too_few_rows_are_refused(n):
    with pytest.raises(ArchgenError, match="the table has 60 architectures; give n from 2 to 58"):
        evaluate_predictor(Remembering(SPACE, "flops"), ARCHS, FLOPS, n=n, seed=0)


def test_equal_values_are_refused():
    with pytest.raises(ArchgenError, match="the same value, 2, everywhere"):
        evaluate_predictor(Remembering(SPACE, "flops"), ARCHS, np.full(60, 2.0), n=20, seed=0)


def test_a_predictor_that_ranks_nothing_gets_no_rank():
    class Constant(Remembering):
        def predict(self, archs):
            return Prediction(np.ones(len(archs)), np.ones(len(archs)))

    figures = evaluate_predictor(Constant(SPACE, "flops"), ARCHS, FLOPS, n=20, seed=0)
    assert figures["kendall_tau"] == figures["spearman_rho"] == 0.0


def test_sources_are_fitted_and_named():
    latency = FLOPS / 1e8 + 0.3
    (source,) = fit_sources(SPACE, ARCHS, {"phone": latency}, simplify=False, seed=0)
    assert isinstance(source, LatencyPredictor)
    assert source.metric == "latency_ms@phone"
    assert source.predict(ARCHS).mean == pytest.approx(latency, rel=0.05)


def test_a_predictor_that_needs_no_labels_is_judged_on_all_rows():
    figures = evaluate_predictor(MetaPredictor(SPACE, "flops", [Source(ARCHS, FLOPS / 1e6)]), ARCHS, FLOPS, n=0, seed=0)
    assert (figures["n"], figures["unseen"]) == (0, 60)
    assert figures["kendall_tau"] > 0.8
    with pytest.raises(ArchgenError, match="give n from 0 to 58"):
        evaluate_predictor(MetaPredictor(SPACE, "flops", [Source(ARCHS, FLOPS)]), ARCHS, FLOPS, n=59, seed=0)
    with pytest.raises(ArchgenError, match="the same value, 2, everywhere"):
        evaluate_predictor(MetaPredictor(SPACE, "flops", [Source(ARCHS, FLOPS)]), ARCHS, np.full(60, 2.0), n=0, seed=0)
