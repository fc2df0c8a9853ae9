"""Architecture parameters: a softmax an edge, torch's Adam, and a state that has all of it."""

from __future__ import annotations

import torch
from torch import nn

from archgen.supernets.training.architecture_parameters import ArchitectureParameters

EDGES = {"a": ("x", "y"), "b": ("x", "y", "z")}


def made() -> ArchitectureParameters:
    return ArchitectureParameters(EDGES, lr=0.1, betas=(0.5, 0.999), weight_decay=0.01)


def test_at_first_the_operations_of_an_edge_are_equal() -> None:
    assert made().scores() == {"a": [0.5, 0.5], "b": [torch.tensor(1 / 3).item()] * 3}


def test_steps_are_those_of_adam_also_after_the_state_was_read() -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(4, 5, generator=generator)
    expected = nn.Parameter(torch.zeros(5))
    adam = torch.optim.Adam([expected], lr=0.1, betas=(0.5, 0.999), weight_decay=0.01)
    alphas = made()
    for i, gradient in enumerate(gradients):
        expected.grad = gradient.clone()
        adam.step()
        alphas.descend(gradient.clone())
        if i == 1:
            state = {name: value.clone() for name, value in alphas.state().items()}
            alphas = made()
            assert {n: v.shape for n, v in alphas.state().items()} == {n: v.shape for n, v in state.items()}
            alphas.load_state(state)
    assert torch.equal(alphas.values, expected)


def test_a_gradient_that_overflowed_moves_nothing() -> None:
    alphas = made()
    alphas.descend(torch.ones(5))
    before = {name: value.clone() for name, value in alphas.state().items()}
    alphas.descend(torch.tensor([1.0, torch.inf, 1.0, 1.0, 1.0]))
    assert all(torch.equal(value, before[name]) for name, value in alphas.state().items())
    assert alphas.values.grad is None


def test_what_is_split_is_a_view() -> None:
    alphas, values = made(), torch.zeros(5)
    alphas.split(values)["b"][[0, 2]] += torch.tensor([1.0, 2.0])
    assert values.tolist() == [0, 0, 1, 0, 2]
