"""Progressive shrinking: what is free in each phase, who teaches, and when channels are sorted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from archgen import spaces
from archgen.data import ImageData
from archgen.errors import InvalidOption, InvalidSpace, UnknownName
from archgen.graph import Architecture
from archgen.spaces import ChainSpace
from archgen.spaces.stages import Stage
from archgen.supernets import ElasticSupernet, make_supernet
from archgen.supernets.training import Plan, ProgressiveShrinking, Schedule, train_supernet
from archgen.supernets.training.divergences import soft_cross_entropy
from archgen.supernets.training.progressive_shrinking import dimensions, phases

BLOCKS = ("k3_e3", "k3_e6", "k5_e3", "k5_e6")
SLOTS = {"resolution": ("r8", "r16"), "stage1.block1": BLOCKS, "stage1.block2": BLOCKS}
NETWORK = {"width_percent": 25, "classes": 10, "in_channels": 1, "image_size": 8}
SPACE = ChainSpace(
    "chain",
    SLOTS,
    [Stage("stage1.block", (1, 2), (("stage1.block1",), ("stage1.block2",)))],
    skeleton="mobilenetv3",
    network=NETWORK,
    order=(("r8", "k3_e3"), ("r16", "k5_e6")),
)
BATCH = (torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8))


@pytest.fixture
def supernet() -> ElasticSupernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ElasticSupernet(SPACE, {}).train()


def drawn(strategy: ProgressiveShrinking, phase: int) -> list[dict[str, str]]:
    return [SPACE.to_labels(a) for a in strategy._space(SPACE, phase).sample(300, np.random.default_rng(0))]


def test_labels_are_read_by_letters_and_numbers() -> None:
    assert dimensions("k7_e6") == {"k": 7.0, "e": 6.0}
    assert dimensions("mlp3.5") == {"mlp": 3.5}
    assert dimensions("skip") == {}


def test_kernels_shrink_first_then_depths_then_widths(supernet: ElasticSupernet) -> None:
    strategy = ProgressiveShrinking()
    strategy.prepare(supernet, Plan(120, 8, 10))
    assert [name for name, _ in strategy._phases] == ["k", "depth", "e"]
    kernels, depths, widths = (drawn(strategy, phase) for phase in (1, 2, 3))
    assert {labels["stage1.block1"] for labels in kernels} == {"k3_e6", "k5_e6"}
    assert {labels["stage1.block2"] for labels in kernels} == {"k3_e6", "k5_e6"}
    assert {labels["resolution"] for labels in kernels} == {"r8", "r16"}, "free from the second phase on"
    assert {labels["stage1.block2"] for labels in depths} == {"k3_e6", "k5_e6", "skip"}
    assert {labels["stage1.block1"] for labels in widths} == set(BLOCKS)


def test_dimensions_shrink_step_by_step_and_in_the_order_that_is_asked_for() -> None:
    space = spaces.load("mobilenetv3")
    assert isinstance(space, ChainSpace)
    assert [name for name, _ in phases(space)] == ["k", "k", "depth", "depth", "e", "e"]
    assert [name for name, _ in phases(space, ["e", "depth"])] == ["e", "e", "depth", "depth", "k", "k"]
    first, second, *_, last = (allowed for _, allowed in phases(space))
    assert first["stage1.block1"] == ("k5_e6", "k7_e6")
    assert second["stage1.block1"] == ("k3_e6", "k5_e6", "k7_e6")
    assert "skip" not in first["stage3.block4"]
    assert last == {}
    with pytest.raises(UnknownName, match="unknown dimension of the space 'g'"):
        phases(space, ["g"])


def test_phases_share_what_the_first_leaves(supernet: ElasticSupernet) -> None:
    strategy = ProgressiveShrinking(first=0.4)
    strategy.prepare(supernet, Plan(120, 10, 1))
    assert [strategy.phase(step) for step in range(10)] == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]


def test_at_first_the_largest_learns_from_the_labels_alone(supernet: ElasticSupernet) -> None:
    strategy = ProgressiveShrinking(label_smoothing=0.1)
    strategy.prepare(supernet, Plan(8, 10, 1))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        losses = strategy.step(supernet, BATCH, np.random.default_rng(0))
        torch.manual_seed(1)
        expected = F.cross_entropy(supernet(BATCH[0], SPACE.extremes[1]), BATCH[1], label_smoothing=0.1)  # type: ignore[index]
    assert losses["loss"] == pytest.approx(expected.item(), rel=1e-4)
    assert not strategy.restarted


def test_later_random_ones_learn_from_labels_and_from_the_largest_as_it_was(
    supernet: ElasticSupernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = ProgressiveShrinking(random=1, distillation=2.0)
    strategy.prepare(supernet, Plan(8, 10, 1))
    strategy._steps += 3  # the first of the second phase
    smallest: Architecture = SPACE.extremes[0]  # type: ignore[index]
    monkeypatch.setattr(type(SPACE), "sample", lambda self, n, rng: [smallest] * n)
    monkeypatch.setattr("archgen.spaces.RestrictedSpace.sample", lambda self, n, rng: [smallest] * n)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.mul_(1.1)
    teacher = supernet.subnet(SPACE.extremes[1]).eval()(BATCH[0])  # type: ignore[index]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        losses = strategy.step(supernet, BATCH, np.random.default_rng(0))
        assert strategy.restarted
        torch.manual_seed(1)
        logits = supernet(BATCH[0], smallest)
    expected = F.cross_entropy(logits, BATCH[1]) + 2 * soft_cross_entropy(logits, teacher)
    assert losses["loss"] == pytest.approx(expected.item(), rel=1e-3)
    strategy.step(supernet, BATCH, np.random.default_rng(0))
    assert not strategy.restarted


def test_channels_are_sorted_before_widths_shrink_alone(
    supernet: ElasticSupernet, data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, at = ProgressiveShrinking(), []
    monkeypatch.setattr(supernet, "sort_channels", lambda kept: at.append(int(strategy._steps)))
    train_supernet(supernet, strategy, data, Schedule(4), seed=0)
    assert len(at) == 1
    assert strategy.phase(at[0]) == 3
    assert strategy.phase(at[0] - 1) == 2


def test_widths_that_are_trained_stay_when_the_next_shrinks() -> None:
    """The middle of three widths has its channels, and computes what it did."""
    labels = ("k3_e3", "k3_e4", "k3_e6")
    space = ChainSpace(
        "widths",
        {"resolution": ("r16",), "stage1.block1": labels},
        skeleton="mobilenetv3",
        network=NETWORK,
        order=(("r16", "k3_e3"), ("r16", "k3_e6")),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ElasticSupernet(space, {}).eval()
    strategy = ProgressiveShrinking()
    strategy.prepare(net, Plan(120, 8, 10))
    assert [allowed.get("stage1.block1") for _, allowed in strategy._phases] == [labels[1:], None]
    archs = [space.from_labels({"resolution": "r16", "stage1.block1": label}) for label in labels]
    for phase, kept in ((1, [False, False, True]), (2, [False, True, True])):
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(phase)
            for weights in net.parameters():  # as if they had been trained
                weights.mul_(0.5 + torch.rand_like(weights))
            before = [net(BATCH[0], arch) for arch in archs]
            strategy._begin(net, phase)
            after = [net(BATCH[0], arch) for arch in archs]
        same = [torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(before, after, strict=True)]
        assert same == kept


def test_spaces_that_can_not_shrink_are_refused() -> None:
    with torch.random.fork_rng():
        cell = make_supernet(spaces.load("nasbench201"), cells=1, channels=2)
        plain = make_supernet(ChainSpace("plain", SLOTS, skeleton="mobilenetv3", network=NETWORK))
    for supernet in (cell, plain):
        with pytest.raises(InvalidSpace, match="can not shrink; train it with 'uniform'"):
            ProgressiveShrinking().prepare(supernet, Plan(1, 1, 1))
    with pytest.raises(InvalidOption, match="0 < first < 1"):
        ProgressiveShrinking(first=1.0)
