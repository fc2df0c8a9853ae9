"""Parameters and floating-point operations of a network, in the convention of the published tables."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


def count_network(network: nn.Module, shape: tuple[int, int, int]) -> dict[str, float]:
    """Count a network's parameters and its FLOPs for one image.

    The convention is that of NAS-Bench-Suite-Zero (arXiv 2210.03230), so that counts equal its published table to
    the digit: a convolution or linear layer counts its multiply-adds, batch normalisation 2 an element, ReLU 1 an
    element, pooling `k * k` an output, and global pooling of `h x w` counts `(h + 1) (w + 1)` a channel.

    Args:
        network: Put it on the `meta` device: nothing is computed.
        shape: `(channels, height, width)` of the image.

    Returns:
        `params` and `flops`, plain numbers (not millions).
    """
    total = 0.0

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += _flops(module, inputs[0], output)

    leaves = [module for module in network.modules() if not list(module.children())]
    handles: list[Any] = [module.register_forward_hook(hook) for module in leaves]
    device = next(network.parameters()).device
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *shape, device=device))
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return {"params": float(sum(p.numel() for p in network.parameters())), "flops": total}


def _flops(module: nn.Module, x: Tensor, out: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        return out.numel() * module.in_channels // module.groups * math.prod(module.kernel_size)
    if isinstance(module, nn.Linear):
        return out.numel() * module.in_features
    if isinstance(module, nn.BatchNorm2d):
        return 2 * out.numel()
    if isinstance(module, nn.ReLU):
        return out.numel()
    if isinstance(module, nn.AvgPool2d):
        kernel = module.kernel_size
        return out.numel() * (math.prod(kernel) if isinstance(kernel, tuple) else kernel**2)
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return out.numel() * (x.shape[-2] + 1) * (x.shape[-1] + 1)
    return 0
