"""Updates by hand: averages over processes, clipping, what is not finite, and what a resumed training has to know."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from archgen.errors import InvalidCheckpoint
from archgen.supernets.training import Processes, Updates


class First(Processes):
    """The first of two processes, whose other one has what the test says, in the order of the messages."""

    count = 2

    def __init__(self, *others: list[float]) -> None:
        self.others = [torch.tensor(other) for other in others]

    def sum(self, values: Tensor) -> Tensor:
        return values + self.others.pop(0).to(values).view(values.shape)


def made(processes: Processes | None = None) -> tuple[nn.Linear, Updates]:
    net = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 2.0]]))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    return net, Updates(net, optimizer, processes=processes)


def descend(updates: Updates, net: nn.Linear, gradient: list[float], clip: float = 100.0) -> float:
    updates.clear()
    updates.backward((net.weight * torch.tensor([gradient])).sum())
    return updates.apply(clip)


def test_a_gradient_is_clipped_and_its_norm_is_told() -> None:
    """By hand: (3, 4) has norm 5, clipped to 1 it moves the weights by (.3, .4)."""
    net, updates = made()
    assert descend(updates, net, [3.0, 4.0], clip=1.0) == pytest.approx(5)
    assert net.weight.tolist()[0] == pytest.approx([1 - 0.3, 2 - 0.4], abs=1e-5)


def test_gradients_are_averaged_by_the_images_of_each_process() -> None:
    """By hand: one image of three here, with gradient (3, 0); the other process has (0, 6) of two."""
    processes = First([1.0], [0.0, 6 * 2 / 3])
    net, updates = made(processes)
    updates.batch((torch.zeros(3, 2), torch.zeros(3)))
    descend(updates, net, [3.0, 0.0])
    assert processes.weight == pytest.approx(1 / 3)
    assert net.weight.tolist()[0] == pytest.approx([1 - 0.5 * 1, 2 - 0.5 * 4])


def test_a_weight_that_only_another_process_trains_moves_here_too() -> None:
    processes = First([1.0], [2.0, 4.0])
    net, updates = made(processes)
    updates.batch((torch.zeros(4, 2), torch.zeros(4)))
    updates.clear()
    updates.apply(100.0)
    assert net.weight.tolist()[0] == pytest.approx([1 - 0.5 * 2, 2 - 0.5 * 4])


def test_moving_statistics_are_averaged_with_the_gradients() -> None:
    norm = nn.BatchNorm1d(1, affine=False)
    processes = First([], [2.0, 0.5])
    processes.others[0] = torch.zeros(0)
    updates = Updates(norm, torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1), processes=processes)
    updates.batch((torch.zeros(2, 1), torch.zeros(2)))
    updates.apply(1.0)
    assert (norm.running_mean.item(), norm.running_var.item()) == (2.0, 1.0)  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("gradient", [[math.nan, 0.0], [math.inf, 0.0]])
def test_what_is_not_finite_moves_nothing(gradient: list[float]) -> None:
    net, updates = made()
    assert not math.isfinite(descend(updates, net, gradient))
    assert net.weight.tolist() == [[1.0, 2.0]]


def test_losses_that_are_not_finite_move_nothing_either() -> None:
    net, updates = made()
    updates.clear()
    updates.backward(net.weight.sum())
    updates.apply(1.0, sound=False)
    assert net.weight.tolist() == [[1.0, 2.0]]


def test_momenta_go_on_where_they_were_kept_and_begin_anew_where_they_are_forgotten() -> None:
    """By hand: the second step is .5 (1 + .9), after forgetting .5."""
    net, updates = made()
    descend(updates, net, [1.0, 0.0])
    state = {name: value.clone() for name, value in updates.state().items()}
    other, resumed = made()
    resumed.load_state(state, "here")
    descend(resumed, other, [1.0, 0.0])
    assert other.weight[0, 0].item() == pytest.approx(1 - 0.5 * 1.9)
    resumed.forget()
    descend(resumed, other, [1.0, 0.0])
    assert other.weight[0, 0].item() == pytest.approx(1 - 0.5 * 1.9 - 0.5)


def test_a_momentum_of_another_shape_is_refused() -> None:
    _, updates = made()
    with pytest.raises(InvalidCheckpoint, match=r"my\.file: the momentum of weight has another shape"):
        updates.load_state({"momentum.weight": torch.zeros(3)}, "my.file")
