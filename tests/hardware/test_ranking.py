"""Measurements whose intervals overlap are ties, and nobody says otherwise."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archgen.hardware import LatencyMeasurement, faster, ranks, tied_groups


def interval(low, high):
    return LatencyMeasurement((low + high) / 2, low, high, 0.1, 30)


intervals = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 6)).map(lambda v: interval(v[0], v[0] + v[1])), max_size=12
)


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ((1, 2), (3, 4), True),
        ((3, 4), (1, 2), False),
        ((1, 3), (2, 4), None),
        ((1, 2), (2, 3), None),
        ((1, 9), (4, 5), None),
        ((1, 2), (1, 2), None),
    ],
)
def test_an_order_is_told_only_where_the_intervals_are_apart(a, b, verdict):
    assert faster(interval(*a), interval(*b)) is verdict


def test_groups_come_fastest_first_and_ties_share_their_places():
    measured = [interval(5, 6), interval(1, 2), interval(5.5, 7), interval(3, 4), interval(6.5, 8)]
    assert tied_groups(measured) == [[1], [3], [0, 2, 4]]
    assert [str(rank) for rank in ranks(measured)] == ["3-5 tie", "1", "3-5 tie", "2", "3-5 tie"]
    assert [rank.tied for rank in ranks(measured)] == [True, False, True, False, True]


def test_a_wide_interval_ties_everything_below_it():
    assert tied_groups([interval(1, 100), interval(2, 3), interval(50, 60), interval(101, 102)]) == [[1, 0, 2], [3]]


def test_nothing_measured_is_nothing_ranked():
    assert tied_groups([]) == []
    assert ranks([]) == []


@given(intervals)
def test_the_order_of_two_groups_is_certain_and_of_one_is_not(measured):
    groups = tied_groups(measured)
    assert sorted(i for group in groups for i in group) == list(range(len(measured)))
    for early, late in itertools.combinations(groups, 2):
        assert all(faster(measured[i], measured[j]) for i in early for j in late)
    for group in groups:
        for size in range(1, len(group)):  # no part of it stands apart from the rest
            for part in itertools.combinations(group, size):
                rest = set(group) - set(part)
                assert any(faster(measured[i], measured[j]) is None for i in part for j in rest)
            if len(group) > 6:
                break


@given(intervals)
def test_a_rank_counts_the_groups_before(measured):
    found = ranks(measured)
    for group in tied_groups(measured):
        (rank,) = {found[i] for i in group}
        assert rank.last - rank.first + 1 == len(group)
        before = sum(faster(each, measured[group[0]]) is True and found[k] != rank for k, each in enumerate(measured))
        assert rank.first == before + 1
