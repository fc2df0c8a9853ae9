"""Superkernels: indicators and their gradients, nested shells and channels, and spaces that have them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from archgen import spaces
from archgen.errors import InvalidSpace
from archgen.spaces import ChainSpace
from archgen.spaces.stages import Stage
from archgen.supernets import make_supernet
from archgen.supernets.training.superkernels import Superkernel, indicator, superkernels

LABELS = {(k, w): f"k{k}_w{w}" for k in (3, 5, 7) for w in (2, 3)}
BLOCK = Superkernel("block", (3, 5, 7), (2, 3), LABELS, optional=True, layers=3)
NETWORK = {"width_percent": 25, "classes": 10, "in_channels": 1, "image_size": 8}
BLOCKS = ("k3_e3", "k3_e6", "k5_e3", "k5_e6")
ALL = torch.ones(4)


def kernel(seed: int = 0) -> Tensor:
    return torch.randn(3, 1, 7, 7, generator=torch.Generator().manual_seed(seed))


def norms(of: Tensor) -> list[float]:
    """Of the two shells, the third channel and the first two, of a whole kernel."""
    five, seven = of.clone(), of.clone()
    five[..., 2:5, 2:5] = 0
    five = five[..., 1:6, 1:6]
    seven[..., 1:6, 1:6] = 0
    return [float(part.norm()) for part in (five, seven, of[2:], of[:2])]


def test_an_indicator_is_a_step_with_the_slope_of_a_sigmoid() -> None:
    x = torch.tensor([-2.0, -0.1, 0.0, 0.1, 3.0], requires_grad=True)
    y = indicator(x)
    assert y.tolist() == [0, 0, 0, 1, 1]
    y.sum().backward()
    smooth = x.detach().sigmoid()
    torch.testing.assert_close(x.grad, smooth * (1 - smooth))


def test_thresholds_of_zero_choose_all() -> None:
    decision = BLOCK.decide(kernel(), torch.zeros(4), ALL)
    torch.testing.assert_close(decision.kernel, kernel())
    assert decision.kernels.tolist() == [0, 0, 1]
    assert decision.widths.tolist() == [0, 1]
    assert decision.gate.tolist() == [1, 1, 1]
    assert float(decision.there) == 1
    assert BLOCK.label(decision) == "k7_w3"


def test_each_threshold_is_compared_with_the_norm_of_its_part() -> None:
    at = torch.tensor(norms(kernel()))
    for i, wanted in enumerate(("k3_w3", "k5_w3", "k7_w2", "k7_w3")):
        above, below = torch.zeros(4), torch.zeros(4)
        above[i], below[i] = at[i] + 0.01, at[i] - 0.01
        decision = BLOCK.decide(kernel(), above, ALL)
        assert (BLOCK.label(decision), float(decision.there)) == (wanted, float(i < 3))
        assert BLOCK.label(BLOCK.decide(kernel(), below, ALL)) == "k7_w3"


def test_what_is_not_chosen_is_zero_and_nothing_larger_is_chosen_without_the_smaller() -> None:
    decision = BLOCK.decide(kernel(), torch.tensor([100.0, 0.0, 100.0, 0.0]), ALL)
    expected = torch.zeros(3, 1, 7, 7)
    expected[..., 2:5, 2:5] = kernel()[..., 2:5, 2:5]
    torch.testing.assert_close(decision.kernel, expected)
    assert decision.gate.tolist() == [1, 1, 0]
    assert BLOCK.label(decision) == "k3_w2"
    dropped = BLOCK.decide(kernel(), torch.zeros(4), torch.tensor([0.0, 1.0, 0.0, 0.0]))
    assert torch.equal(dropped.kernel, decision.kernel)
    assert float(dropped.there) == 0


def test_the_gradient_of_a_threshold_by_hand() -> None:
    """Of the outermost shell, which all other indicators here let be: - sigmoid'(norm - t) <dL / dw, shell>."""
    block = replace(BLOCK, widths=(3,), labels={(k, 3): f"k{k}" for k in (3, 5, 7)}, optional=False)
    thresholds = torch.tensor([0.0, 1.5], requires_grad=True)
    by_kernel = kernel(1)
    (block.decide(kernel(), thresholds, torch.ones(2)).kernel * by_kernel).sum().backward()
    shell = kernel()
    shell[..., 1:6, 1:6] = 0
    smooth = torch.sigmoid(shell.norm() - 1.5)
    assert thresholds.grad is not None
    expected = -smooth * (1 - smooth) * (shell * by_kernel).sum()
    assert float(thresholds.grad[1]) == pytest.approx(expected.item(), rel=1e-4)


def test_weights_of_zero_have_finite_gradients() -> None:
    weights = torch.zeros(3, 1, 7, 7, requires_grad=True)
    decision = BLOCK.decide(weights, torch.zeros(4), ALL)
    assert BLOCK.label(decision) == "k3_w2"
    (decision.kernel.sum() + decision.gate.sum() + decision.there).backward()
    assert weights.grad is not None
    assert bool(weights.grad.isfinite().all())


def test_the_blocks_of_once_for_all() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = superkernels(make_supernet(spaces.load("mobilenetv3"), width_percent=25, classes=3, image_size=32))
    assert [block.slot for block in found[:5]] == [f"stage1.block{i}" for i in range(1, 5)] + ["stage2.block1"]
    assert len(found) == 20
    assert all(block.kernels == (3, 5, 7) and len(block.widths) == 3 for block in found)
    assert [block.optional for block in found] == [False, False, True, True] * 5
    assert {block.layers for block in found} == {3, 4}
    assert found[2].thresholds[:2] == ("kernel 5", "kernel 7")
    assert found[2].thresholds[-1] == "there"
    assert found[0].labels[7, found[0].widths[1]] == "k7_e4"


def chain(slots: dict[str, tuple[str, ...]], stage: Stage | None = None, **options: object) -> ChainSpace:
    slots = {"resolution": ("r8", "r16"), **slots}
    options = {"order": (("r8", *(v[0] for v in slots.values())), ("r16", *(v[-1] for v in slots.values()))), **options}
    return ChainSpace("chain", slots, [stage] if stage else [], skeleton="mobilenetv3", network=NETWORK, **options)  # type: ignore[arg-type]


GAP = Stage("stage1.block", (1, 3), tuple((f"stage1.block{i}",) for i in (1, 2, 3)))
WHOLE = Stage("stage1.block", (0, 1, 2), tuple((f"stage1.block{i}",) for i in (1, 2)))


@pytest.mark.parametrize(
    ("space", "told"),
    [
        (spaces.load("nasbench201"), "nasbench201 is no chain with an"),
        (chain({"stage1.block1": BLOCKS}, order=None), "chain is no chain with an"),
        (chain({"stage1.block1": ("k3_e3", "k5_e6")}), "'stage1.block1': its labels must be all pairs"),
        (chain({"stage1.block1": ("k5_e6", "k3_e3")}, order=(("r8", "k3_e3"), ("r16", "k5_e6"))), "all pairs"),
        (chain({"stage1.block1": BLOCKS[::-1]}), "the largest of .* must have the largest kernel and width"),
        (chain({"stage1.block1": ("k3_e3",)}), "has no block with weights of its own to choose"),
        (chain({f"stage1.block{i}": BLOCKS for i in (1, 2, 3)}, GAP), "thresholds leave out one block"),
        (chain({f"stage1.block{i}": BLOCKS for i in (1, 2)}, WHOLE), "'stage1.block1' can not be left out"),
        (spaces.load("nasbench_macro"), "'layer1': 'identity' is no bottleneck"),
    ],
    ids=["cells", "no order", "no grid", "no grid reversed", "order", "nothing", "gap", "whole", "labels"],
)
def test_spaces_without_superkernels_are_refused(space: ChainSpace, told: str) -> None:
    arguments = {"nasbench201": {"cells": 1, "channels": 2}, "nasbench_macro": {"channels": 2, "head": 4}}
    with torch.random.fork_rng():
        supernet = make_supernet(space, **arguments.get(space.name, {}))
    with pytest.raises(InvalidSpace, match=told):
        superkernels(supernet)
