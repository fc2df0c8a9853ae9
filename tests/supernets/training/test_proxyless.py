"""ProxylessNAS: gradients of the gates, parameters that are not drawn, latency in the loss, and one path a step."""

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

from archgen import spaces
from archgen.data import ImageData
from archgen.errors import InvalidOption
from archgen.networks.operations import ReLUConvBN
from archgen.spaces import CellSpace
from archgen.supernets import CellSupernet, make_supernet
from archgen.supernets.training import Plan, Proxyless, Schedule, train_supernet
from archgen.supernets.training.proxyless import gate_gradient

ROLES = {"none": "zero", "skip_connect": "identity", "nor_conv_1x1": "weighted", "nor_conv_3x3": "weighted"}
NETWORK = {"cells": 1, "channels": 4, "classes": 10, "in_channels": 1, "image_size": 8}
SPACE = CellSpace("small", 3, ROLES, NETWORK)
TWO = CellSpace("two", 2, {"none": "zero", "nor_conv_3x3": "weighted"}, NETWORK)


def supernet(space: CellSpace = SPACE) -> CellSupernet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CellSupernet(space, {}).train()


def batch(n: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 10


def prepared(net: CellSupernet, **options: Any) -> Proxyless:
    strategy = Proxyless(**options)
    strategy.prepare(net, Plan(8, 1, 4))
    return strategy


def test_the_gates_gradient_is_the_papers() -> None:
    p, of_gates = torch.tensor([0.2, 0.3, 0.5]), torch.tensor([1.0, -2.0, 4.0])
    found = gate_gradient(p, of_gates)
    for i in range(3):
        expected = sum(float(of_gates[j] * p[j]) * (float(i == j) - float(p[i])) for j in range(3))
        assert float(found[i]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_an_update_of_one_edge_by_hand(seed: int) -> None:
    """Of a cell with one edge: gate 1 on the active operation, 0 on the other, both computed."""
    net = supernet(TWO).eval()
    strategy = prepared(net, strength=0.0)
    with torch.no_grad():
        strategy.alphas.values.copy_(torch.tensor([0.3, -0.1]))
    p = strategy.alphas.values.detach().softmax(-1)
    gradients = []
    strategy.alphas.descend = lambda g: gradients.append(g.clone())  # type: ignore[method-assign, assignment]
    x, y = batch()
    loss = strategy.update(net, (x, y), np.random.default_rng(seed))
    for gate in (0.0, 1.0):  # of the convolution; `none` has the other one, and no gradient
        g = torch.tensor(gate, requires_grad=True)
        cross_entropy = F.cross_entropy(net.mixed(x, {"0->1": {"nor_conv_3x3": g}}), y)
        if cross_entropy.item() == pytest.approx(loss, rel=1e-5):
            cross_entropy.backward()
            assert g.grad is not None
            expected = torch.stack([-p[0] * p[1] * g.grad, p[1] * (1 - p[1]) * g.grad])
            torch.testing.assert_close(gradients[0], expected, rtol=1e-4, atol=1e-8)
            return
    pytest.fail("the loss is that of neither gate")


def test_two_operations_an_edge_move_and_the_probabilities_of_the_others_stay() -> None:
    net = supernet()
    strategy = prepared(net, alpha_lr=0.05)
    for seed in range(6):
        before = strategy.alphas.by_edge()
        p = {edge: alpha.detach().softmax(-1) for edge, alpha in before.items()}
        strategy.update(net, batch(), np.random.default_rng(seed))
        for edge, q in strategy.alphas.probabilities().items():
            moved = (q.detach() - p[edge]).abs() > 1e-6
            assert int(moved.sum()) in (0, 2)
    assert all(p.grad is None for p in net.parameters()), "an update of the architecture is none of the weights"
    assert float(strategy.alphas.values.detach().abs().max()) > 0.05


def test_weights_are_trained_on_one_operation_an_edge() -> None:
    net, ran = supernet(), []
    for name, module in net.named_modules():
        if ".edges." in name and isinstance(module, (ReLUConvBN, torch.nn.Identity)):
            module.register_forward_hook(lambda m, i, o, name=name: ran.append(name))
    strategy = prepared(net)
    assert not strategy.searching, "a quarter of the epochs is warm-up"
    for seed in range(5):
        ran.clear()
        drawn = strategy.path(np.random.default_rng(seed))
        assert all(list(own.values()) == [1.0] for own in drawn.values())
        net.mixed(batch()[0], drawn)
        edges = [name.split(".")[4] for name in ran if name.startswith("skeleton.layers.0.")]
        assert len(edges) == len(set(edges)) <= 3
        ran.clear()
        strategy.update(net, batch(), np.random.default_rng(seed))
        assert len([name for name in ran if name.startswith("skeleton.layers.0.")]) <= 6


def test_paths_follow_the_probabilities() -> None:
    strategy, rng = prepared(supernet()), np.random.default_rng(0)
    with torch.no_grad():
        strategy.alphas.values[:4] = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    drawn = [next(iter(strategy.path(rng)["0->1"])) for _ in range(1000)]
    shares = [drawn.count(op) / 1000 for op in ROLES]
    assert shares == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.08)  # five standard errors: failure below 1e-6


def test_the_warm_up_is_whole_epochs_of_weights_alone_but_never_all() -> None:
    net, none = supernet(), batch()[0]
    for warm_up, epochs, alone in ((0.25, 4, 1), (0.0, 4, 0), (0.9, 4, 3), (0.9, 1, 0), (0.25, 1, 0)):
        strategy = Proxyless(warm_up=warm_up)
        strategy.prepare(net, Plan(16, 2, epochs))
        searching = []
        for _ in range(2 * epochs):
            searching.append(strategy.searching)
            losses = strategy.step(net, (none, torch.arange(8)), np.random.default_rng(0))
            assert ("architecture" in losses) == searching[-1]
        assert searching == [False] * (2 * alone) + [True] * (2 * (epochs - alone))


def latencies(tmp_path: Path, values: dict[str, float], edges: dict[str, tuple[str, ...]]) -> str:
    path = tmp_path / "latencies.json"
    path.write_text(json.dumps(dict.fromkeys(edges, values)))
    return str(path)


def test_both_losses_by_hand(tmp_path: Path) -> None:
    net = supernet(TWO)
    file = latencies(tmp_path, {"none": 10.0, "nor_conv_3x3": 40.0}, TWO.variables)
    cross_entropy, pairs = torch.tensor(2.0), {"0->1": [1, 0]}
    p = {"0->1": torch.tensor([0.25, 0.75])}
    expected = 5 + 0.25 * 40 + 0.75 * 10
    added = prepared(net, latency=file, rest=5.0, strength=0.2, target=20.0)
    assert float(added._loss(cross_entropy, p, pairs)) == pytest.approx(2 + 0.2 * (expected - 20) / 20)
    times = prepared(net, latency=file, rest=5.0, strength=0.3, combine="multiply")
    assert times.aim == 5 + (10 + 40) / 2
    assert float(times._loss(cross_entropy, p, pairs)) == pytest.approx(2 * (math.log(expected) / math.log(30)) ** 0.3)
    assert prepared(net, strength=0.0)._loss(cross_entropy, p, pairs) is cross_entropy


def test_without_a_file_latencies_are_flops() -> None:
    net = supernet()
    strategy = prepared(net)
    flops, rest = net.flops()
    assert strategy.latencies["0->1"].tolist() == flops["0->1"]
    assert strategy.aim == pytest.approx(rest + sum(sum(own) / 4 for own in flops.values()))


@pytest.mark.parametrize("combine", ["add", "multiply"])
def test_where_latency_dominates_the_fastest_is_found(data: ImageData, tmp_path: Path, combine: str) -> None:
    net = supernet()
    slow = {"none": 200.0, "skip_connect": 2.0, "nor_conv_1x1": 200.0, "nor_conv_3x3": 400.0}
    file = latencies(tmp_path, slow, SPACE.variables)
    strategy = Proxyless(alpha_lr=0.05, warm_up=0.0, latency=file, strength=50.0, combine=combine, target=50.0)  # type: ignore[arg-type]
    train_supernet(net, strategy, data, Schedule(6), seed=0)
    assert strategy.found(net) == SPACE.from_operations(["skip_connect"] * 3)


def test_it_searches_chains(data: ImageData) -> None:
    """Of a free choice among bottlenecks and the identity the strength of FLOPs leaves the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make_supernet(spaces.load("nasbench_macro"), channels=2, head=4, classes=10, in_channels=1, image_size=8)
    strategy = Proxyless(alpha_lr=0.1, warm_up=0.0, strength=1000.0)
    train_supernet(net, strategy, data, Schedule(3), seed=0)
    labels = strategy.found(net).ops[1:-1]
    assert labels.count("identity") >= 7


def test_bad_options_are_told_in_one_line(tmp_path: Path) -> None:
    net = supernet(TWO)
    for options, told in (
        ({"warm_up": 1.0}, "0 <= warm_up < 1"),
        ({"strength": -1.0}, "strength from 0, got .* and -1"),
        ({"latency": "nothing.json"}, "latency=nothing.json is not a file"),
        ({"target": 0.0}, "expected a target above 0, got 0; give target"),
        ({"latency": latencies(tmp_path, {"none": 0, "nor_conv_3x3": 4}, TWO.variables), "combine": "multiply"}, "log"),
    ):
        with pytest.raises(InvalidOption, match=told):
            prepared(net, **options)  # type: ignore[arg-type]
