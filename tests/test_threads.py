"""The body runs on one torch thread and the caller's number comes back."""

from __future__ import annotations

import pytest
import torch

from archgen.threads import rounds, shared, single_threaded, torch_threads


def test_the_number_of_threads_is_the_callers_again_after_the_body_and_after_an_error() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with single_threaded():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(KeyError), single_threaded():
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("threads", "processes", "tasks", "expected", "after"),
    [
        (1, 1, 3, [1, 1, 1], 3),
        (2, 1, 2, [2, 2], 2),
        (2, 2, 1, [2], 1),
        (2, 2, 3, [1, 1, 2], 2),
        (1, 2, 3, [1, 1, 1], 2),
        (8, 8, 3, [2, 2, 2], 1),
        (4, 4, 6, [1, 1, 1, 1, 2, 2], 2),
    ],
)
def test_threads_are_shared_out(threads: int, processes: int, tasks: int, expected: list[int], after: int) -> None:
    with torch_threads(threads):
        assert shared(tasks, processes) == expected
        assert rounds(tasks, processes) == after
