"""Rows found once."""

import numpy as np

from archgen.predictors.distinct import distinct


def test_rows_come_once_in_order_and_can_be_put_back() -> None:
    rows = np.array([[2.0, 1.0], [0.0, 0.0], [2.0, 1.0], [0.0, 3.0], [0.0, 0.0]])
    once, which = distinct(rows)
    np.testing.assert_array_equal(once, [[2.0, 1.0], [0.0, 0.0], [0.0, 3.0]])
    np.testing.assert_array_equal(which, [0, 1, 0, 2, 1])
    np.testing.assert_array_equal(once[which], rows)


def test_equal_means_to_the_bit() -> None:
    once, _ = distinct(np.array([[0.1 + 0.2], [0.3]]))
    assert len(once) == 2


def test_no_rows_stay_none() -> None:
    once, which = distinct(np.zeros((0, 3)))
    assert once.shape == (0, 3)
    assert which.shape == (0,)


def test_rows_of_nothing_are_all_the_same() -> None:
    once, which = distinct(np.zeros((3, 0)))
    assert once.shape == (1, 0)
    np.testing.assert_array_equal(which, [0, 0, 0])
