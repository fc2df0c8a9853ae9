"""Pruning criteria against closed forms and against recomputations that share no code with them."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archgen.proxies import Fisher, GradNorm, Grasp, L2Norm, Plain, Proxy, Snip, Synflow

Batch = tuple[Tensor, Tensor]


def value(proxy: Proxy, network: nn.Module, batch: Batch) -> float:
    return proxy(network, *batch, generator=torch.Generator())


def weighted(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def gradients(network: nn.Module, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    network = copy.deepcopy(network).train()
    F.cross_entropy(network(batch[0]), batch[1]).backward()
    return [(layer.weight.detach(), layer.weight.grad) for layer in weighted(network)]


def test_snip_is_the_gradient_for_masks_over_the_weights(convolutional: nn.Sequential, batch: Batch) -> None:
    network = copy.deepcopy(convolutional).train()
    weights = {f"{i}.weight": network[i].weight.detach() for i in (0, 3, 7)}
    masks = {name: torch.ones_like(weight).requires_grad_() for name, weight in weights.items()}
    masked = {name: mask * weights[name] for name, mask in masks.items()}
    loss = F.cross_entropy(torch.func.functional_call(network, masked, (batch[0],)), batch[1])
    expected = sum(float(g.abs().sum()) for g in torch.autograd.grad(loss, list(masks.values())))
    assert value(Snip(), convolutional, batch) == pytest.approx(expected, rel=1e-5)


def test_plain_gradient_norm_and_weight_norm(convolutional: nn.Sequential, batch: Batch) -> None:
    pairs = gradients(convolutional, batch)
    assert value(Plain(), convolutional, batch) == pytest.approx(sum(float((w * g).sum()) for w, g in pairs), rel=1e-5)
    assert value(GradNorm(), convolutional, batch) == pytest.approx(sum(float(g.norm()) for _, g in pairs), rel=1e-5)
    assert value(L2Norm(), convolutional, batch) == pytest.approx(sum(float(w.norm()) for w, _ in pairs), rel=1e-5)


def test_a_layer_that_never_runs_adds_its_weights_only(convolutional: nn.Sequential, batch: Batch) -> None:
    class Wider(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.unused = convolutional, nn.Linear(2, 2, bias=False)
            nn.init.constant_(self.unused.weight, 3.0)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.body(x)
            return out

    for proxy in (Snip(), Plain(), GradNorm(), Grasp(), Fisher(), Synflow()):
        assert value(proxy, Wider(), batch) == value(proxy, convolutional, batch)
    assert value(L2Norm(), Wider(), batch) == pytest.approx(value(L2Norm(), convolutional, batch) + 6.0)


def test_grasp_is_the_weights_times_hessian_times_gradient() -> None:
    """Against the whole Hessian of a small network."""
    network = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False)).double()
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(5, 3, generator=generator, dtype=torch.double), torch.tensor([0, 1, 1, 0, 1])
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.double))
    flat = torch.cat([p.detach().flatten() for p in network.parameters()])

    def loss(w: Tensor) -> Tensor:
        return F.cross_entropy(torch.tanh(x @ w[:12].view(4, 3).T) @ w[12:].view(2, 4).T, y)

    gradient = torch.autograd.functional.jacobian(loss, flat)
    hessian = torch.autograd.functional.hessian(loss, flat)
    expected = -float(flat @ hessian @ gradient)
    assert value(Grasp(), network, (x, y)) == pytest.approx(expected, rel=1e-9)


def test_grasp_differentiates_hard_sigmoids_twice(batch: Batch) -> None:
    """Within its linear part a hard sigmoid is x / 6 + 1 / 2."""

    class Line(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 6 + 0.5

    def network(gate: nn.Module) -> nn.Sequential:
        layers = (
            nn.Conv2d(3, 4, 1, bias=False),
            gate,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3, bias=False),
        )
        for layer, seed in ((layers[0], 1), (layers[-1], 2)):
            weight = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(seed))
            layer.weight.data = weight.clamp(-1, 1) / 8
        return nn.Sequential(*layers)

    assert value(Grasp(), network(nn.Hardsigmoid()), batch) == pytest.approx(value(Grasp(), network(Line()), batch))


def test_fisher_weighs_each_channel_by_its_weights(convolutional: nn.Sequential, batch: Batch) -> None:
    """From outputs with retained gradients, channel by channel."""
    network = copy.deepcopy(convolutional).train()
    outputs = []
    x = batch[0]
    for layer in network:
        x = layer(x)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            x.retain_grad()
            outputs.append((layer, x))
    F.cross_entropy(x, batch[1]).backward()
    expected = 0.0
    for layer, out in outputs:
        for c in range(out.shape[1]):
            product = (out[:, c] * out.grad[:, c]).detach()
            per_image = product.flatten(1).sum(1) if out.dim() > 2 else product
            expected += float((per_image**2).mean() / 2) * layer.weight[c].numel()
    assert value(Fisher(), convolutional, batch) == pytest.approx(expected, rel=1e-5)


def test_fisher_of_tokens_sums_over_the_tokens() -> None:
    """A linear layer on tokens is a 1x1 convolution on a line of pixels."""

    class Line(nn.Module):
        def __init__(self, tokens: bool) -> None:
            super().__init__()
            self.tokens = tokens
            weight = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
            self.layer: nn.Module = nn.Linear(3, 4) if tokens else nn.Conv2d(3, 4, 1)
            with torch.no_grad():
                self.layer.weight.copy_(weight.view(self.layer.weight.shape))
                self.layer.bias.zero_()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layer(x)
            return out.relu().mean(1) if self.tokens else out.relu().mean((2, 3))

    tokens = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(4))
    targets = torch.arange(6) % 4
    images = tokens.transpose(1, 2)[:, :, None]
    got = value(Fisher(), Line(True), (tokens, targets))
    assert got > 0
    assert got == pytest.approx(value(Fisher(), Line(False), (images, targets)), rel=1e-5)


def test_synflow_of_a_linear_chain_is_the_flow_of_each_layer() -> None:
    """R = 1' |W3| |W2| |W1| 1, and the weights of each of the three layers sum to R; normalisation does not count."""
    generator = torch.Generator().manual_seed(5)
    sizes = [3, 4, 5, 2]
    layers = [nn.Linear(a, b, bias=False) for a, b in pairwise(sizes)]
    flow = torch.ones(3, dtype=torch.double)
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
            flow = layer.weight.double().abs() @ flow
    network = nn.Sequential(
        nn.Flatten(), layers[0], nn.ReLU(), nn.BatchNorm1d(4), layers[1], nn.LayerNorm(5), layers[2]
    )
    batch = (torch.randn(4, 3, 1, 1, generator=generator), torch.zeros(4).long())
    expected = math.log(3 * float(flow.sum()))
    assert value(Synflow(), network, batch) == pytest.approx(expected, rel=1e-12)


def test_synflow_does_not_read_the_images(convolutional: nn.Sequential, batch: Batch) -> None:
    other = (batch[0].flip(0) * 3, batch[1])
    assert value(Synflow(), convolutional, other) == value(Synflow(), convolutional, batch)
