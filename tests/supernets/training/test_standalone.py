"""Stand-alone training: it learns, it can be repeated, and its figures are what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from archgen.data import ImageData, Split, load_data
from archgen.supernets.training import Schedule, accuracy, batch_size, train_network


def test_accuracy_is_in_percent_and_the_loss_in_nats() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0], [0.0, 5.0, 0.0]])
    labels = torch.tensor([0, 1, 2, 0])
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.9)).train()
    got = accuracy(network, logits[:, :, None, None], labels, size=3)
    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    by_hand = np.mean([math.log(sum(math.exp(v) for v in row)) - row[label] for row, label in rows])
    assert got == (75.0, pytest.approx(by_hand, rel=1e-6))
    assert got[1] == pytest.approx(F.cross_entropy(logits, labels).item())
    assert not network.training


@pytest.mark.parametrize(("images", "expected"), [(20, 16), (240, 30), (1079, 128), (50_000, 128)])
def test_an_epoch_has_eight_steps_where_the_images_suffice(images: int, expected: int) -> None:
    part = Split(torch.zeros(images, 1, 1, 1), torch.zeros(images, dtype=torch.long))
    data = ImageData("x", part, part, part, ("a", "b"), (0.0,), (1.0,), False)
    assert batch_size(data) == expected


def test_a_teacher_is_followed_and_stays_as_it_is() -> None:
    data = load_data("digits", limit=200)

    class Teacher(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training
            return 50 * F.one_hot(torch.full((len(x),), 3), 10).float() + 0 * self.linear(x.flatten(1))

    teacher = Teacher().train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    train_network(network, data, Schedule(5), seed=0, teacher=teacher)
    probabilities = network(data.validation.images).softmax(-1)
    assert probabilities[:, 3].mean() > 0.4, "half of the loss asks for class 3, whatever the image"
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_training_learns_and_the_same_seed_gives_the_same_weights() -> None:
    data = load_data("digits", limit=300)
    trained = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        before = accuracy(network, data.validation.images, data.validation.labels)
        train_network(network, data, Schedule(epochs=5), seed=seed)
        after = accuracy(network, data.validation.images, data.validation.labels)
        assert after[1] < before[1]
        assert after[0] > before[0] + 20
        trained.append(network[1].weight)
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])
