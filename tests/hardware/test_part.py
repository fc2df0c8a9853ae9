"""Parts of networks, timed on inputs of their own."""

import pytest
import torch

from archgen.hardware import Part
from archgen.hardware.part import example_of


def test_a_part_is_timed_on_inputs_of_its_own(pretended, machine, costly):
    part = Part(torch.nn.ReLU(), torch.zeros(1, 5, 4, 4))
    part.load_error = part.run_error = None
    part.cost = 2.0
    whole, piece = pretended(batch=3).measure([costly(1.0), part], seed=0)
    assert [tuple(x.shape) for x in machine.inputs] == [(3, 1, 8, 8), (3, 5, 4, 4)]
    assert (whole.latency_ms, piece.latency_ms) == pytest.approx((1.0, 2.0))


def test_a_part_has_its_example_at_hand_and_no_weights_of_it():
    part, whole = Part(torch.nn.ReLU(), torch.zeros(3, 5, 4, 4)), torch.zeros(1, 1, 8, 8)
    assert example_of(part, whole).shape == (1, 5, 4, 4), "one input"
    assert example_of(torch.nn.ReLU(), whole) is whole
    assert not part.state_dict()
    assert torch.equal(part(torch.tensor([-1.0, 2.0])), torch.tensor([0.0, 2.0]))
