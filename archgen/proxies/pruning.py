"""Proxies that sum a pruning criterion over all weights (Zero-Cost Proxies for Lightweight NAS, arXiv 2101.08134).

All look at the weights of convolutions and linear layers alone. `L` is the cross-entropy of the batch, `w` a weight.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from archgen.proxies.base import PROXIES, Proxy, watching, weighted_layers

NORMALISATION = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)


def _weights(network: nn.Module, proxy: Proxy) -> list[Tensor]:
    return [layer.weight for layer in weighted_layers(network, proxy)]


class LossGradient(Proxy):
    """A sum over layers of a function of their weights and of the gradient of `L`; layers that never run add 0."""

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        weights = _weights(network, self)
        loss = F.cross_entropy(network(images), targets)
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        pairs = zip(weights, gradients, strict=True)
        return sum(float(self.of_layer(w.detach(), g)) for w, g in pairs if g is not None)

    @abstractmethod
    def of_layer(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """What one layer adds."""


@PROXIES.register("snip")
class Snip(LossGradient):
    r"""SNIP (arXiv 1810.02340; as a proxy 2101.08134): :math:`\sum_w |w \, \partial L / \partial w|`.

    That is the gradient for a mask of ones over the weights, the connection sensitivity, without its division by the
    total, which would make all networks equal.
    """

    def of_layer(self, weight: Tensor, gradient: Tensor) -> Tensor:
        return (weight * gradient).abs().sum()


@PROXIES.register("plain")
class Plain(LossGradient):
    r"""First-order pruning (Mozer and Smolensky, 1988): :math:`\sum_w w \, \partial L / \partial w`, with its sign.

    Terms of both signs cancel, so what is left depends on the draw of the weights: two draws agree less than for
    `snip`, and so do we with published values.
    """

    def of_layer(self, weight: Tensor, gradient: Tensor) -> Tensor:
        return (weight * gradient).sum()


@PROXIES.register("grad_norm")
class GradNorm(LossGradient):
    """Sum over layers of the Euclidean norm of the gradient of `L` (arXiv 2101.08134)."""

    def of_layer(self, weight: Tensor, gradient: Tensor) -> Tensor:
        norm: Tensor = gradient.norm()
        return norm


@PROXIES.register("l2_norm")
class L2Norm(Proxy):
    """Sum over layers of the Euclidean norm of their weights, layers that never run included (arXiv 2210.03230)."""

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        return sum(float(weight.detach().norm()) for weight in _weights(network, self))


@PROXIES.register("grasp")
class Grasp(Proxy):
    r"""GraSP (arXiv 2002.07376; as a proxy 2101.08134): :math:`-\sum_w w \, (H g)_w`, larger is better.

    `g` is the gradient of `L` and `H` its Hessian, both for these weights alone. A sum of second-order terms of both
    signs whose size spans orders of magnitude: the noisiest of the family, and values from two draws of weights and
    images agree in tendency only.
    """

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        _replace(network, nn.Hardsigmoid, HardsigmoidTwice)
        weights = _weights(network, self)
        loss = F.cross_entropy(network(images), targets)
        gradients = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
        product = sum((g.detach() * g).sum() for g in gradients if g is not None)
        if not isinstance(product, Tensor) or not product.requires_grad:
            return 0.0
        curved = torch.autograd.grad(product, weights, allow_unused=True)
        return 0.0 - sum(float((w.detach() * h).sum()) for w, h in zip(weights, curved, strict=True) if h is not None)


@PROXIES.register("fisher")
class Fisher(Proxy):
    r"""Fisher pruning (arXiv 1801.05787; as a proxy 2101.08134): what `L` is expected to rise by without a channel.

    :math:`\Delta_c = \frac{1}{2 b} \sum_i (\sum_p a_{icp} \, \partial L / \partial a_{icp})^2` for channel `c` of a
    layer's output `a`, image `i` and position `p`; each weight of the layer counts for its output channel, as in
    the published table, so wide layers weigh more. Positions of a linear layer on tokens are the tokens.
    """

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        parts: list[float] = []

        def collect(module: nn.Module, activations: Tensor, gradient: Tensor) -> None:
            product = activations * gradient
            if not isinstance(module, nn.Linear):
                product = product.transpose(1, -1)  # channels last
            per_image = product.flatten(1, -2).sum(1) if product.dim() > 2 else product
            per_channel = per_image.pow(2).mean(0) / 2
            parts.append(float(per_channel.sum()) * module.weight[0].numel())  # type: ignore[index]

        def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            output.register_hook(partial(collect, module, output.detach()))  # type: ignore[no-untyped-call]

        with watching(weighted_layers(network, self), watch):
            F.cross_entropy(network(images), targets).backward()  # type: ignore[no-untyped-call]
        return sum(parts)


@PROXIES.register("synflow")
class Synflow(Proxy):
    r"""SynFlow (arXiv 2006.05467; as a proxy 2101.08134): :math:`\log \sum_w |w \, \partial R / \partial w|`.

    `R` is the sum of the logits for an image of ones, all parameters replaced by their magnitude, in double
    precision; no data is read. As in arXiv 2101.08134, batch normalisation is passed through; so is layer
    normalisation here, since it would hand on a vector of mean zero and cut the flow. The logarithm is that of
    NAS-Bench-Suite-Zero, which puts 0 where nothing flows; here such a network has NaN.
    """

    reads_images = True

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        _replace(network, NORMALISATION, nn.Identity)
        network = network.double()
        with torch.no_grad():
            for tensor in (*network.parameters(), *network.buffers()):
                tensor.abs_()
        weights = _weights(network, self)
        flow = network(torch.ones_like(images[:1], dtype=torch.double)).sum()
        gradients = torch.autograd.grad(flow, weights, allow_unused=True)
        pairs = zip(weights, gradients, strict=True)
        total = sum(float((w.detach() * g).abs().sum()) for w, g in pairs if g is not None)
        return math.log(total) if total > 0 else math.nan


class HardsigmoidTwice(nn.Module):
    """`nn.Hardsigmoid` of parts that have second derivatives, which PyTorch's own lacks."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3) / 6


def _replace(network: nn.Module, kinds: type | tuple[type, ...], make: Callable[[], nn.Module]) -> None:
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, kinds):
                setattr(module, name, make())
