"""Zen-score (Zen-NAS: A Zero-Shot NAS for High-Performance Deep Image Recognition, arXiv 2102.01063)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from archgen.errors import ArchgenError
from archgen.proxies.base import PROXIES, Proxy, Weighted, normal_like, watching
from archgen.proxies.features import before_pooling


@PROXIES.register("zen")
class Zen(Proxy):
    r"""Zen-score: the expected change of the features under noise, with batch normalisation undone.

    :math:`\log E \|f(x) - f(x + \alpha \epsilon)\| + \sum_l \log \bar\sigma_l`, where `f` is the map before global
    pooling, weights, `x` and :math:`\epsilon` are standard normal, and :math:`\bar\sigma_l` is the root of the mean
    over channels of the variance that batch normalisation `l` divides by. The images give the shape only.

    As in the published code the norm is the sum of magnitudes. Against the paper: residual connections stay, as in
    NAS-Bench-Suite-Zero. Against the published code: it takes the variance from running averages, which after one or
    two batches still hold a share of their start, 1; here it is that of the batch, as in the paper.

    Args:
        alpha: Size of the noise.
        repeats: Draws to average over, at least 1.
    """

    reads_images = True

    def __init__(self, alpha: float = 0.01, repeats: int = 1) -> None:
        if alpha <= 0 or repeats < 1:
            raise ArchgenError(f"zen needs alpha above 0 and at least 1 repeat, got alpha={alpha}, repeats={repeats}")
        self.alpha, self.repeats = alpha, repeats

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        with torch.no_grad():
            return sum(self._once(network, images, generator) for _ in range(self.repeats)) / self.repeats

    def _once(self, network: nn.Module, images: Tensor, generator: torch.Generator) -> float:
        for module in network.modules():
            if isinstance(module, Weighted):
                module.weight.copy_(normal_like(module.weight, generator))
                if module.bias is not None:
                    module.bias.zero_()
        x, noise = normal_like(images, generator), normal_like(images, generator)
        log_scale = 0.0

        def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal log_scale
            log_scale += float(inputs[0].var((0, 2, 3), correction=0).mean().log()) / 2

        with watching([m for m in network.modules() if isinstance(m, nn.BatchNorm2d)], add):
            clean = before_pooling(network, x, self)
        moved = before_pooling(network, x + self.alpha * noise, self)
        return float((clean - moved).abs().sum((1, 2, 3)).mean().log()) + log_scale
