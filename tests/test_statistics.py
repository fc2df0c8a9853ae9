"""Statistics over seeds against scipy, enumeration and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from archgen.errors import ArchgenError
from archgen.statistics import first_within, holm, mean_interval, median_interval, signed_rank


def test_the_interval_of_a_mean_is_scipys_percentile_bootstrap(rng: np.random.Generator) -> None:
    values = rng.exponential(size=(30, 4))
    found = mean_interval(values, resamples=50_000, rng=np.random.default_rng(1))
    expected = stats.bootstrap(
        (values,), np.mean, axis=0, n_resamples=50_000, method="percentile", vectorized=True, batch=1000, rng=rng
    )
    np.testing.assert_allclose(found.value, values.mean(0))
    # the standard error of a quantile from 50,000 resamples is about 0.012 standard errors of the mean, 0.18 here
    np.testing.assert_allclose(found.low, expected.confidence_interval.low, atol=0.02)
    np.testing.assert_allclose(found.high, expected.confidence_interval.high, atol=0.02)


def test_columns_share_their_resamples_and_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).normal(size=(10, 1))
    low, high = mean_interval(np.hstack([values, values + 1]), rng=np.random.default_rng(3))[1:]
    assert low[1] == pytest.approx(low[0] + 1)
    assert high[1] == pytest.approx(high[0] + 1)
    assert mean_interval(values[:, 0], rng=np.random.default_rng(3)).low == pytest.approx(low[0])


def test_a_run_that_never_got_there_makes_a_mean_infinite_but_not_the_others() -> None:
    found = mean_interval([[1.0, np.inf], [1.0, 2.0], [1.0, 2.0]], rng=np.random.default_rng(0))
    assert found.value.tolist() == [1.0, np.inf]
    assert found.low.tolist() == pytest.approx([1.0, 2.0])  # 8 of 27 resamples do without the infinite one
    assert found.high.tolist() == [pytest.approx(1.0), np.inf]


@pytest.mark.parametrize(("level", "low", "high"), [(0.44, 5.0, 5.0), (0.56, 2.0, np.inf)])
def test_the_bootstrap_of_a_median_of_three_is_known(level: float, low: float, high: float) -> None:
    """The least of three is the median of 7 of the 27 resamples: 0.259, five standard errors from both tails."""
    found = median_interval([5.0, np.inf, 2.0], level=level, rng=np.random.default_rng(0))
    assert (float(found.value), float(found.low), float(found.high)) == (5.0, low, high)


def test_the_median_is_infinite_when_half_of_the_runs_fail() -> None:
    assert float(median_interval([3.0, 4.0, np.inf, np.inf], rng=np.random.default_rng(0)).value) == np.inf
    assert float(median_interval([3.0, 4.0, 5.0, np.inf], rng=np.random.default_rng(0)).value) == 4.5


@pytest.mark.parametrize(("values", "level"), [([], 0.95), ([1.0, np.nan], 0.95), ([1.0], 1.0)])
def test_intervals_of_nothing_of_nan_and_of_certainty_are_refused(values: list[float], level: float) -> None:
    for interval in (mean_interval, median_interval):
        with pytest.raises(ArchgenError, match=r"expected a value for each|must lie between 0 and 1"):
            interval(values, level=level, rng=np.random.default_rng(0))


def enumerated(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p value over all signs of the differences, with Pratt's ranks."""
    difference = first - second
    ranks = stats.rankdata(np.abs(difference))[difference != 0]
    observed = ranks[(difference > 0)[difference != 0]].sum()
    sums = [float(np.dot(signs, ranks)) for signs in itertools.product((0, 1), repeat=len(ranks))]
    tails = (np.mean(np.array(sums) >= observed), np.mean(np.array(sums) <= observed))
    return min(1.0, 2 * float(min(tails)))


def test_signed_ranks_agree_with_enumerating_all_signs_with_and_without_ties() -> None:
    rng = np.random.default_rng(0)
    for draw in (rng.normal, lambda size: rng.integers(0, 4, size).astype(float)):
        for _ in range(5):
            first, second = draw(size=9), draw(size=9)
            assert signed_rank(first, second).p == pytest.approx(enumerated(first, second))


def test_the_effect_is_one_where_every_pair_agrees_and_the_p_value_that_of_all_signs_equal() -> None:
    worse = np.arange(1.0, 7.0)
    test = signed_rank(2 * worse, worse)
    assert test == (pytest.approx(2 / 2**6), 1.0, 6, 0)
    assert signed_rank(worse, 2 * worse).effect == -1.0


def test_the_effect_counts_ranks_and_pairs_that_do_not_differ_shrink_it() -> None:
    # differences 0, 1, 2, -3 have ranks 1, 2, 3, 4: (2 + 3 - 4) / 10
    test = signed_rank([0.0, 1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 3.0])
    assert test[1:] == (pytest.approx(0.1), 2, 1)


def test_runs_that_both_failed_are_equal_and_one_that_failed_alone_is_worst() -> None:
    assert signed_rank([np.inf, 1.0], [np.inf, 1.0]) == (1.0, 0.0, 0, 0)
    assert signed_rank([np.inf, 1.0, 2.0], [1.0, 1.5, 2.5])[1:] == (pytest.approx((3 - 3) / 6), 1, 2)


def test_pairs_without_a_partner_are_refused() -> None:
    with pytest.raises(ArchgenError, match=r"expected pairs of values"):
        signed_rank([1.0, 2.0], [1.0])
    with pytest.raises(ArchgenError, match=r"expected pairs of values"):
        signed_rank([1.0, np.nan], [1.0, 2.0])


def test_holm_steps_down() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_evaluations_until_the_goal_are_counted_from_one_and_infinite_without_it() -> None:
    assert first_within([[3.0, 0.5, 0.0], [0.0, 0.0, 0.0], [2.0, 1.0, 0.1]]).tolist() == [3.0, 1.0, np.inf]
    assert first_within([[3.0, 0.5, 0.0]], tolerance=0.5).tolist() == [2.0]
    with pytest.raises(ArchgenError, match="seeds x evaluations"):
        first_within([1.0, 0.0])
