"""DARTS: the gradient of the mixture, who is trained on what, and what is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from archgen import spaces
from archgen.data import ImageData
from archgen.errors import InvalidSpace
from archgen.networks.operations import OPERATIONS
from archgen.spaces import CellSpace, GenotypeSpace
from archgen.supernets import CellSupernet, GenotypeSupernet, make_supernet
from archgen.supernets.training import Darts, Plan, Schedule, SharpDarts, train_supernet

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 10, "in_channels": 1, "image_size": 8}
SPACE = CellSpace("small", 3, ROLES, NETWORK)


def supernet(space: CellSpace = SPACE) -> CellSupernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CellSupernet(space, {}).train()


def batch(n: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 10


def prepared(net: CellSupernet, **options: float) -> Darts:
    strategy = Darts(**options)
    strategy.prepare(net, Plan(8, 1, 4))
    return strategy


def test_the_architecture_descends_the_loss_of_the_held_out_half() -> None:
    """By hand: the derivative of a softmax is p (delta - p), and a mixture is linear in its weights."""
    net = supernet().eval()
    strategy = prepared(net, alpha_weight_decay=0.0)
    gradients = []
    strategy.alphas.descend = lambda g: gradients.append(g.clone())  # type: ignore[method-assign, assignment]
    x, y = batch()
    weights = {e: {op: torch.tensor(0.25, requires_grad=True) for op in ROLES} for e in SPACE.variables}
    loss = F.cross_entropy(net.mixed(x, weights), y)
    loss.backward()
    strategy.update(net, (x, y), np.random.default_rng(0))
    for edge, found in strategy.alphas.split(gradients[0]).items():
        by_weight = torch.stack([torch.zeros(()) if w.grad is None else w.grad for w in weights[edge].values()])
        torch.testing.assert_close(found, 0.25 * (by_weight - by_weight.mean()), rtol=1e-4, atol=1e-7)
    assert all(float(g.abs().max()) > 0 for g in strategy.alphas.split(gradients[0]).values())


def test_weights_are_trained_on_one_half_by_the_mixture_and_the_architecture_on_the_other() -> None:
    net, other = supernet(), supernet()
    strategy = prepared(net, alpha_lr=0.1)
    x, y = batch()
    order = strategy.order(torch.Generator().manual_seed(1))
    losses = strategy.step(net, (x[order], y[order]), np.random.default_rng(0))
    held_out = strategy.halves.held_out
    uniform = {edge: dict.fromkeys(ROLES, 0.25) for edge in SPACE.variables}
    shuffled = [i for i in order.tolist() if i in held_out.tolist()]
    expected = F.cross_entropy(other.mixed(x[shuffled], uniform), y[shuffled])
    assert losses["architecture"] == pytest.approx(expected.item(), rel=1e-5)
    assert all(p.grad is None for p in other.parameters())
    rest = [i for i in order.tolist() if i not in held_out.tolist()]
    expected = F.cross_entropy(other.mixed(x[rest], strategy.path(np.random.default_rng(0))), y[rest])
    assert losses["loss"] == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    for (name, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        assert p.grad is not None, name
        torch.testing.assert_close(p.grad, q.grad, msg=name)
    assert strategy.alphas.values.grad is None


def test_adam_has_the_published_arguments() -> None:
    (group,) = prepared(supernet()).alphas._optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (3e-4, (0.5, 0.999), 1e-3)


class Noise(torch.nn.Module):
    """An operation that says nothing of what it reads."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn_like(x)


@pytest.mark.parametrize("kind", [Darts, SharpDarts])
def test_an_operation_that_alone_lets_the_image_through_is_found(
    kind: type[Darts], data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One edge, whose mixture is the clearer the less of it is noise; `none` makes it neither better nor worse."""
    monkeypatch.setitem(OPERATIONS._members, "noise", lambda channels: Noise())
    space = CellSpace("planted", 2, {"none": "zero", "noise": "weighted", "nor_conv_3x3": "weighted"}, NETWORK)
    net = supernet(space)
    strategy = kind(alpha_lr=0.02)
    train_supernet(net, strategy, data, Schedule(15), seed=0)
    assert strategy.found(net) == space.from_operations(["nor_conv_3x3"])
    assert strategy.alphas.scores()["0->1"][2] > 0.5


def test_in_a_space_of_genotypes_two_edges_a_node_are_found(data: ImageData) -> None:
    roles = {"none": "zero", "skip_connect": "identity", "sep_conv_3x3": "weighted"}
    network = {"cells": 3, "channels": 2, "classes": 10, "in_channels": 1, "image_size": 8, "auxiliary": 0}
    space = GenotypeSpace("pair", 2, roles, network)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = GenotypeSupernet(space, {})
    strategy = Darts(alpha_lr=0.01)
    train_supernet(net, strategy, data, Schedule(1), seed=0)
    found = strategy.found(net)
    space.validate(found)
    assert "none" not in found.ops
    for cell in space.cells(found):
        assert all(cell[i][1] != cell[i + 1][1] for i in (0, 2)), "two different sources"


def test_a_space_without_mixtures_is_refused() -> None:
    with torch.random.fork_rng():
        net = make_supernet(spaces.load("nasbench101"), stacks=1, cells=1, channels=8)
    with pytest.raises(InvalidSpace, match="train it with 'uniform'"):
        Darts().prepare(net, Plan(1, 1, 1))
