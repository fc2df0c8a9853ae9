"""The sandwich rule: the largest path learns the labels, the others learn the largest one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from archgen import spaces
from archgen.errors import InvalidOption, InvalidSpace, UnknownName
from archgen.spaces import CellSpace
from archgen.supernets import CellSupernet, Supernet, make_supernet, mixture
from archgen.supernets.base import without_dropout
from archgen.supernets.training import Sandwich, Schedule
from archgen.supernets.training.divergences import adaptive_alpha_divergence

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 3, "in_channels": 1, "image_size": 8}
SPACE = CellSpace("ordered", 3, ROLES, NETWORK, ("skip_connect", "nor_conv_3x3"))
BATCH = (torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2]))


@pytest.fixture
def supernet() -> CellSupernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CellSupernet(SPACE, NETWORK).train()


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the images of `-sum_c target_c log softmax(logits)_c`, written out."""
    return -(target * (logits - logits.logsumexp(-1, keepdim=True))).sum(-1).mean()


@pytest.mark.parametrize(("random", "smoothing"), [(0, 0.0), (2, 0.0), (1, 0.2)])
def test_gradients_are_those_of_the_rule(supernet: CellSupernet, random: int, smoothing: float) -> None:
    x, y = BATCH
    smallest, largest = SPACE.extremes  # type: ignore[misc]
    labels = torch.nn.functional.one_hot(y, 3) * (1 - smoothing) + smoothing / 3
    logits = supernet(x, largest)
    terms = {"largest": soft_cross_entropy(logits, labels)}
    target = logits.detach().softmax(-1)
    terms["smallest"] = soft_cross_entropy(supernet(x, smallest), target)
    for i, arch in enumerate(SPACE.sample(random, np.random.default_rng(3)), start=1):
        terms[f"random{i}"] = soft_cross_entropy(supernet(x, arch), target)
    parameters = dict(supernet.named_parameters())
    expected = torch.autograd.grad(sum(terms.values()), list(parameters.values()), allow_unused=True)

    losses = Sandwich(random, smoothing).step(supernet, BATCH, np.random.default_rng(3))

    assert losses == {name: pytest.approx(term.item(), rel=1e-5) for name, term in terms.items()}
    for (name, parameter), gradient in zip(parameters.items(), expected, strict=True):
        if gradient is None:
            assert parameter.grad is None, name
        else:
            torch.testing.assert_close(parameter.grad, gradient, msg=name)


def test_no_gradient_flows_into_the_targets(supernet: CellSupernet) -> None:
    """The others' labels do not matter to the largest path: its own edges learn from the labels alone."""
    x, y = BATCH
    _, largest = SPACE.extremes  # type: ignore[misc]
    Sandwich(random=0).step(supernet, BATCH, np.random.default_rng(0))
    got = {name: p.grad.clone() for name, p in supernet.named_parameters() if p.grad is not None}
    supernet.zero_grad()
    torch.nn.functional.cross_entropy(supernet(x, largest), y).backward()  # type: ignore[no-untyped-call]
    own = [name for name in got if "nor_conv_3x3" in name]
    assert own
    for name in own:
        torch.testing.assert_close(got[name], dict(supernet.named_parameters())[name].grad, msg=name)


def test_a_space_without_order_is_refused_before_anything_is_computed() -> None:
    unordered = CellSpace("unordered", 3, ROLES, NETWORK)
    supernet = CellSupernet(unordered, NETWORK)
    with pytest.raises(InvalidSpace, match=r"unordered has no order, so no largest path; train it with 'uniform'"):
        Sandwich().step(supernet, BATCH, np.random.default_rng(0))
    assert all(parameter.grad is None for parameter in supernet.parameters())


def test_the_others_are_distilled_by_the_divergence_that_is_asked_for(supernet: CellSupernet) -> None:
    x, _ = BATCH
    smallest, largest = SPACE.extremes  # type: ignore[misc]
    supernet.eval()
    Sandwich(random=0, distillation="alpha_divergence").step(supernet, BATCH, np.random.default_rng(0))
    got = {name: p.grad.clone() for name, p in supernet.named_parameters() if p.grad is not None}
    supernet.zero_grad()
    target = supernet(x, largest)
    torch.nn.functional.cross_entropy(target, BATCH[1]).backward()  # type: ignore[no-untyped-call]
    adaptive_alpha_divergence(supernet(x, smallest), target).backward()  # type: ignore[no-untyped-call]
    for name, p in supernet.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(got[name], p.grad)
    with pytest.raises(UnknownName, match="unknown distillation 'kl'"):
        Sandwich(distillation="kl")


def test_the_largest_alone_has_dropout() -> None:
    """Two draws of the largest differ, two of the smallest under its rule do not."""
    space = spaces.load("mobilenetv3")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        elastic = make_supernet(space, width_percent=25, classes=3, image_size=32).train()
        x = torch.randn(4, 3, 32, 32)
        smallest, largest = space.extremes  # type: ignore[misc]
        assert not torch.equal(elastic(x, largest), elastic(x, largest))
        with without_dropout(elastic):
            assert torch.equal(elastic(x, smallest), elastic(x, smallest))
        assert not torch.equal(elastic(x, smallest), elastic(x, smallest))


RESIDUAL = 5
"""Of the eight layers of NAS-Bench-Macro three halve the image and so have no residual."""


def silent(supernet: Supernet) -> int:
    """How many normalisations scale by zero."""
    return sum(not m.weight.any() for m in supernet.modules() if isinstance(m, torch.nn.BatchNorm2d))


@pytest.mark.parametrize("parts", [1, 2])
def test_residual_blocks_begin_as_the_identity(parts: int) -> None:
    supernet = make_supernet(spaces.load("nasbench_macro"), classes=3, in_channels=1, image_size=8)
    whole = supernet if parts == 1 else mixture(supernet, parts)
    assert silent(whole) == 0
    Sandwich().begin(whole)
    assert silent(whole) == parts * RESIDUAL


def test_the_learning_rate_ends_at_a_constant() -> None:
    assert Sandwich(tail=0.1).schedule(Schedule(3, lr=0.2)) == Schedule(3, lr=0.2, tail=0.1)
    assert Sandwich().schedule(Schedule(3)).tail == 0.05
    with pytest.raises(InvalidOption, match="tail of at least 0 and below 1, got 1"):
        Sandwich(tail=1.0)
