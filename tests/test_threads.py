"""The body runs on one torch thread and the caller's number comes back."""

from __future__ import annotations

import pytest
import torch

from archgen.threads import single_threaded


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
