"""How batches are shared out among processes, and what one process alone makes of it."""

from __future__ import annotations

import pytest
import torch

from archgen.errors import InvalidOption
from archgen.supernets.training import Processes


@pytest.mark.parametrize(("count", "sizes"), [(1, [7]), (2, [3, 4]), (3, [2, 2, 3])])
def test_parts_are_the_whole_batch_in_order_and_differ_by_one_image_at_most(count: int, sizes: list[int]) -> None:
    x, y = torch.arange(7.0)[:, None], torch.arange(7)
    parts, weights = [], []
    for rank in range(count):
        one = Processes()
        one.count, one.rank = count, rank
        images, labels = one.share((x, y))
        assert torch.equal(images[:, 0].long(), labels)
        assert one.whole == 7
        assert torch.equal(y[one.part], labels) or count == 1
        parts.append(labels)
        weights.append(one.weight)
    assert [len(part) for part in parts] == sizes
    assert torch.equal(torch.cat(parts), y)
    assert weights == pytest.approx([size / 7 for size in sizes])


def test_a_batch_that_leaves_a_process_too_few_images_is_refused() -> None:
    """Two each, in a last batch of half the size too."""
    two = Processes()
    two.count = 2
    two.check(8)
    with pytest.raises(InvalidOption, match="7 images is too small for 2 processes, expected at least 8"):
        two.check(7)
    Processes().check(1)


def test_alone_a_sum_is_what_it_was_and_all_agree() -> None:
    values = torch.tensor([1.0, 2.0])
    assert Processes().sum(values) is values
    assert Processes().agree(3.5)
