"""Single-Path NAS: what is decided is what runs, latency by hand, and what dominates decides."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from archgen.data import ImageData
from archgen.errors import InvalidOption, InvalidSpace, UnknownName
from archgen.graph import Architecture
from archgen.spaces import CellSpace, ChainSpace
from archgen.spaces.stages import Stage
from archgen.supernets import ElasticSupernet, make_supernet
from archgen.supernets.base import without_dropout
from archgen.supernets.training import Plan, Schedule, SinglePathThresholds, Updates, train_supernet

BLOCKS = ("k3_e3", "k3_e6", "k5_e3", "k5_e6")
SLOTS = {"resolution": ("r8", "r16"), **{f"stage1.block{i}": BLOCKS for i in (1, 2, 3)}}
SPACE = ChainSpace(
    "chain",
    SLOTS,
    [Stage("stage1.block", (1, 2, 3), tuple((f"stage1.block{i}",) for i in (1, 2, 3)))],
    skeleton="mobilenetv3",
    network={"width_percent": 25, "classes": 10, "in_channels": 1, "image_size": 8},
    order=(("r8", "k3_e3"), ("r16", "k5_e6")),
)
LARGEST = SPACE.extremes[1]  # type: ignore[index]


def supernet() -> ElasticSupernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ElasticSupernet(SPACE, {}).train()


def batch(n: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(n)


def prepared(net: ElasticSupernet, **options: Any) -> SinglePathThresholds:
    strategy = SinglePathThresholds(**options)
    strategy.prepare(net, Plan(16, 2, 4))
    return strategy


def decided(net: ElasticSupernet, strategy: SinglePathThresholds, x: Tensor) -> Tensor:
    state = net.inherited(LARGEST)
    decisions = strategy.decide(state)
    there, replaced = strategy.there(decisions), {}
    for block in strategy.blocks:
        replaced |= block.replaced(state, decisions[block.slot], there[block.slot])
    with without_dropout(net):
        return net(x, LARGEST, replaced)


def run(net: ElasticSupernet, arch: Architecture, x: Tensor) -> Tensor:
    with without_dropout(net):
        return net(x, arch)


def test_at_first_the_largest_is_trained() -> None:
    net = supernet()
    strategy = prepared(net)
    assert strategy.found(net) == LARGEST
    x = batch()[0]
    torch.testing.assert_close(decided(net, strategy, x), run(net, LARGEST, x))


@pytest.mark.parametrize(
    "labels",
    [("k3_e3", "k5_e6", "k5_e6"), ("k5_e3", "k3_e6", "skip"), ("k5_e6", "skip", "skip"), ("k3_e6", "k3_e3", "k3_e3")],
)
def test_what_is_decided_computes_what_the_architecture_that_is_found_computes(labels: tuple[str, ...]) -> None:
    """Also where a later block would be there but for one before it."""
    net = supernet()
    strategy = prepared(net)
    with torch.no_grad():
        for (slot, thresholds), label in zip(strategy.thresholds.by_edge().items(), labels, strict=True):
            small = [label.startswith("k3"), label.endswith("e3"), label == "skip" and slot == "stage1.block2"]
            small[2] |= label == "skip" and labels[1] != "skip"
            thresholds.copy_(100.0 * torch.tensor(small[: len(thresholds)]))
    found = strategy.found(net)
    assert list(SPACE.to_labels(found).values()) == ["r16", *labels]
    x = batch()[0]
    torch.testing.assert_close(decided(net, strategy, x), run(net, found, x), rtol=1e-3, atol=1e-4)


def test_the_latency_by_hand(tmp_path: Path) -> None:
    latencies = {"k3_e3": 1.0, "k3_e6": 3.0, "k5_e3": 2.0, "k5_e6": 7.0}
    path = tmp_path / "latencies.json"
    own = {slot: latencies | ({"skip": 0.5} if slot != "stage1.block1" else {}) for slot in list(SLOTS)[1:]}
    path.write_text(json.dumps(own))
    net = supernet()
    strategy = prepared(net, latency=str(path), rest=4.0)
    with torch.no_grad():
        strategy.thresholds.by_edge()["stage1.block1"][0] = 100.0
        strategy.thresholds.by_edge()["stage1.block3"][2] = 100.0
        strategy.thresholds.by_edge()["stage1.block2"][1:] = -100.0  # where the indicators are flat
    decisions = strategy.decide(net.inherited(LARGEST))
    latency = strategy.latency_of(decisions, strategy.there(decisions))
    assert float(latency.detach()) == 4 + 3 + 7 + 0.5
    latency.backward()  # type: ignore[no-untyped-call]
    state = net.inherited(LARGEST)
    kernel = state["segments.stage1-block2.layers.1.0.weight"].detach().clone()
    kernel[..., 1:4, 1:4] = 0
    smooth = torch.sigmoid(kernel.norm())
    by_threshold = strategy.thresholds.split(strategy._values.grad)["stage1.block2"]  # type: ignore[arg-type]
    assert float(by_threshold[0]) == pytest.approx(-4 * float(smooth * (1 - smooth)), rel=1e-4), "7 instead of 3"


def test_without_a_file_the_latency_is_the_flops_of_the_network() -> None:
    net = supernet()
    strategy = prepared(net)
    for small in (torch.zeros(3), torch.tensor([100.0, 0.0, 0.0]), torch.tensor([0.0, 100.0, 100.0])):
        with torch.no_grad():
            for thresholds in strategy.thresholds.by_edge().values():
                thresholds.copy_(small[: len(thresholds)])
        decisions = strategy.decide(net.inherited(LARGEST))
        latency = float(strategy.latency_of(decisions, strategy.there(decisions)).detach())
        assert latency == pytest.approx(SPACE.count(strategy.found(net))["flops"], rel=1e-6)


def test_a_step_descends_one_loss_by_weights_and_thresholds() -> None:
    net, other = supernet(), supernet()
    strategy = prepared(net, strength=0.5, warm_up=0.0)
    gradients = []
    strategy.thresholds.descend = lambda g: gradients.append(g.clone())  # type: ignore[method-assign, assignment]
    with without_dropout(net):
        losses = strategy.step(net, batch(), np.random.default_rng(0))
    twin = prepared(other)
    logits = decided(other, twin, batch()[0])
    decisions = twin.decide(other.inherited(LARGEST))
    latency = twin.latency_of(decisions, twin.there(decisions))
    loss = F.cross_entropy(logits, batch()[1])
    (loss + 0.5 * latency.log()).backward()
    assert losses == pytest.approx({"loss": loss.item(), "latency": latency.item()}, rel=1e-5)
    torch.testing.assert_close(gradients[0], twin._values.grad, rtol=1e-3, atol=1e-7)
    for (name, p), q in zip(net.named_parameters(), other.named_parameters(), strict=True):
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q[1].grad, rtol=1e-3, atol=1e-5, msg=name)


def test_in_the_warm_up_decisions_are_dropped_and_latency_is_free() -> None:
    net = supernet()
    strategy = prepared(net, warm_up=0.25, drop=0.5, strength=1e6)
    seen = [strategy.step(net, batch(), np.random.default_rng(seed))["latency"] for seed in range(2)]
    whole = SPACE.count(LARGEST)["flops"]
    assert all(value < whole for value in seen)
    assert strategy.searching
    assert strategy.step(net, batch(), np.random.default_rng(2))["latency"] == pytest.approx(whole, rel=1e-6)
    assert float(strategy._values.detach().abs().max()) < 0.1


def test_where_latency_dominates_the_smallest_is_found(data: ImageData) -> None:
    net = supernet()
    strategy = SinglePathThresholds(threshold_lr=0.3, warm_up=0.0, strength=100.0)
    train_supernet(net, strategy, data, Schedule(4), seed=0)
    assert list(SPACE.to_labels(strategy.found(net)).values()) == ["r16", "k3_e3", "skip", "skip"]
    assert math.isfinite(float(strategy._values.detach().sum()))


def test_bad_options_and_spaces_are_told_in_one_line(tmp_path: Path) -> None:
    net = supernet()
    with pytest.raises(InvalidOption, match="0 <= drop < 1"):
        SinglePathThresholds(drop=1.0)
    with pytest.raises(InvalidOption, match=r"latency=no.json is not a file"):
        prepared(net, latency="no.json")
    path = tmp_path / "a.json"
    path.write_text('{"stage1.block9": {}}')
    with pytest.raises(UnknownName, match=r"unknown edge in .* 'stage1.block9'"):
        prepared(net, latency=str(path))
    path.write_text(json.dumps({s: dict.fromkeys(SPACE.slots[s], 0) for s in list(SLOTS)[1:]}))
    with pytest.raises(InvalidOption, match="needs one above 0; give rest, or strength=0"):
        prepared(net, latency=str(path))
    network = {"cells": 1, "channels": 2, "classes": 3, "in_channels": 1, "image_size": 8}
    with torch.random.fork_rng():
        other = make_supernet(CellSpace("cells", 2, {"none": "zero", "skip_connect": "identity"}, network))
    with pytest.raises(InvalidSpace, match="so it has no superkernels; use 'uniform'"):
        SinglePathThresholds().prepare(other, Plan(1, 1, 1))


def test_thresholds_descend_the_gradient_that_is_not_scaled_for_half_precision() -> None:
    moments = []
    for precision in ("no", "fp16"):
        net = supernet()
        strategy = prepared(net, warm_up=0.0)
        strategy.gradients = Updates(net, Schedule(1).optimizer(net), precision=precision)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            strategy.step(net, batch(), np.random.default_rng(0))
        moments.append(strategy.thresholds.state()["exp_avg"])
    assert float(moments[0].abs().max()) > 0
    torch.testing.assert_close(moments[1], moments[0], rtol=1e-3, atol=1e-6)
