"""Two halves of the training images: disjoint in every epoch, in turn within a batch, whatever the batch's size."""

from __future__ import annotations

import pytest
import torch

from archgen.data import Split, batches, steps
from archgen.supernets.training import Darts, Plan
from archgen.supernets.training.halves import Halves


@pytest.mark.parametrize("images", [1, 2, 7, 40])
def test_every_image_is_in_one_half(images: int) -> None:
    halves = Halves(Plan(images, 1, 1))
    assert len(halves.weights) - len(halves.held_out) in (0, 1)
    assert sorted([*halves.weights.tolist(), *halves.held_out.tolist()]) == list(range(images))
    again = Halves(Plan(images, 1, 1))
    assert torch.equal(halves.held_out, again.held_out), "a training that goes on has the same halves"


def test_halves_do_not_follow_the_order_of_the_images() -> None:
    """Ten classes, an image of each in turn: a class has about half of its 20 images in each half."""
    halves = Halves(Plan(200, 1, 1))
    counts = torch.bincount(halves.held_out % 10, minlength=10)
    assert counts.min() >= 3
    assert counts.max() <= 17


@pytest.mark.parametrize(("images", "size"), [(40, 8), (41, 7), (45, 16)])
def test_each_batch_has_images_of_both_halves_and_no_half_sees_the_others(images: int, size: int) -> None:
    x = torch.arange(images).float()
    steps = -(-images // size)
    halves = Halves(Plan(images, steps, 3))
    for epoch in range(3):
        order = halves.order(torch.Generator().manual_seed(epoch))
        assert sorted(order.tolist()) == list(range(images))
        seen: list[list[float]] = [[], []]
        for part in order.split(size):  # type: ignore[no-untyped-call]
            (weights, _), (held_out, _) = halves.split((x[part], part))
            assert abs(len(weights) - len(held_out)) <= 1
            seen[0] += weights.tolist()
            seen[1] += held_out.tolist()
        assert sorted(seen[0]) == halves.weights.tolist()
        assert sorted(seen[1]) == halves.held_out.tolist()


@pytest.mark.parametrize("images", range(12, 24))
@pytest.mark.parametrize("size", [8, 9])
def test_both_halves_of_the_smallest_batches_have_two_images(images: int, size: int) -> None:
    assert size >= Darts.least_batch
    split = Split(torch.zeros(images, 1, 8, 8), torch.zeros(images, dtype=torch.long))
    halves, generator = Halves(Plan(images, steps(images, size), 1)), torch.Generator().manual_seed(0)
    for batch in batches(split, size, generator=generator, order=halves.order(generator)):
        assert all(len(labels) >= 2 for _, labels in halves.split(batch))


def test_an_epoch_that_goes_on_divides_the_rest_as_it_would_have() -> None:
    x = torch.arange(42).float()
    whole, resumed = Halves(Plan(42, 6, 1)), Halves(Plan(42, 6, 1))
    parts = whole.order(torch.Generator().manual_seed(3)).split(7)  # type: ignore[no-untyped-call]
    for part in parts[:3]:
        whole.split((x[part], part))
    resumed.load_state(whole.state())
    resumed.order(torch.Generator().manual_seed(3))
    for part in parts[3:]:
        a, b = whole.split((x[part], part)), resumed.split((x[part], part))
        assert torch.equal(a[1][0], b[1][0])
    assert int(resumed.steps) == 6
