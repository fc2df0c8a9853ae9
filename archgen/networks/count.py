"""Parameters and floating-point operations of a network, in the convention of the published tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_SAME_SHAPE = {nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.ReLU, nn.Hardswish, nn.Hardsigmoid, nn.GELU, nn.SiLU}


def count_network(network: nn.Module, example: Tensor | tuple[int, ...]) -> dict[str, float]:
    """Count a network's parameters and its operations for one input.

    `macs` are the multiply-adds of convolutions and linear layers alone. The convention of `flops` is that of
    NAS-Bench-Suite-Zero (arXiv 2210.03230), so that counts equal its published table to the digit: a convolution
    or linear layer counts its multiply-adds, batch normalisation 2 an element, ReLU 1 an element, pooling `k * k`
    an output, and global pooling of `h x w` counts `(h + 1) (w + 1)` a channel.

    A module with a method `extra_macs(x, output) -> int` adds what its layers do not show, such as the products of
    attention; it counts as `macs` and as `flops`.

    Args:
        network: Put it on the `meta` device: nothing is computed.
        example: What the network reads, a batch of one; or the shape `(channels, height, width)` of an image.

    Returns:
        `params`, `flops` and `macs`, plain numbers (not millions).
    """
    return trace_network(network, example if isinstance(example, Tensor) else torch.zeros(1, *example))[0]


def trace_network(network: nn.Module, example: Tensor) -> tuple[dict[str, float], Tensor]:
    """`count_network`, and a tensor of the shape of the network's output on `example` (see `run_shapes`)."""
    flops = macs = 0

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal flops, macs
        multiply_adds, others = _operations(module, inputs[0], output)
        macs += multiply_adds
        flops += multiply_adds + others

    device = next((p.device for p in network.parameters()), example.device)
    output = run_shapes(network, example.to(device), hook)
    params = float(sum(p.numel() for p in network.parameters()))
    return {"params": params, "flops": float(flops), "macs": float(macs)}, output


def run_shapes(network: nn.Module, example: Tensor, hook: Callable[[nn.Module, tuple[Any, ...], Any], None]) -> Tensor:
    """Run a network in evaluation mode for its shapes alone, with a forward hook on what is counted.

    Counted are modules without children, and those that have `extra_macs`.

    Layers that keep their input's shape do not compute: on the meta device most of the time went into them.

    Args:
        network: Left as it was.
        example: What it reads, on its device.
        hook: A forward hook.

    Returns:
        A tensor of the shape, type and device of the network's output; its values mean nothing.
    """
    was_training = [(module, module.training) for module in network.modules()]
    run = ShapeRun(network, hook)
    try:
        return run(example)
    finally:
        run.close()
        for module, mode in was_training:
            module.training = mode


class ShapeRun:
    """A network made ready to run for its shapes, as often as wanted; see `run_shapes`.

    Args:
        network: Set to evaluation mode for good; the rest of it is as before after `close`.
        hook: A forward hook.
    """

    def __init__(self, network: nn.Module, hook: Callable[[nn.Module, tuple[Any, ...], Any], None]) -> None:
        self.network = network.eval()
        self._handles = [module.register_forward_hook(hook) for module in network.modules() if _counted(module)]
        self._replaced = [module for module in network.modules() if type(module) in _SHAPES]
        for module in self._replaced:
            module.forward = partial(_SHAPES[type(module)], module)

    @torch.no_grad()
    def __call__(self, example: Tensor) -> Tensor:
        with _Broadcast():
            output: Tensor = self.network(example)
        return output

    def close(self) -> None:
        for module in self._replaced:
            del module.forward
        for handle in self._handles:
            handle.remove()


class _Broadcast(TorchFunctionMode):
    """Sums and products of meta tensors by their shapes alone, which is several times as fast."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.add, Tensor.mul) and len(args) == 2 and not kwargs:
            a, b = args
            if isinstance(a, Tensor) and isinstance(b, Tensor) and a.is_meta and b.is_meta and a.dtype == b.dtype:
                return a.new_empty(torch.broadcast_shapes(a.shape, b.shape))  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


def _same(module: nn.Module, x: Tensor) -> Tensor:
    return x


def _convolved(module: nn.Conv2d, x: Tensor) -> Tensor:
    if x.dim() != 4 or x.shape[1] != module.in_channels or isinstance(module.padding, str):
        return nn.Conv2d.forward(module, x)  # which knows what to do, and what is wrong
    sizes = zip(x.shape[2:], module.kernel_size, module.stride, module.padding, module.dilation, strict=True)
    h, w = ((size + 2 * pad - gap * (kernel - 1) - 1) // stride + 1 for size, kernel, stride, pad, gap in sizes)
    if h < 1 or w < 1:
        return nn.Conv2d.forward(module, x)
    return x.new_empty(x.shape[0], module.out_channels, h, w)


def _pooled(module: nn.AdaptiveAvgPool2d, x: Tensor) -> Tensor:
    if x.dim() != 4 or module.output_size != 1:
        return nn.AdaptiveAvgPool2d.forward(module, x)
    return x.new_empty(*x.shape[:2], 1, 1)


_SHAPES: dict[type[nn.Module], Callable[..., Tensor]] = {
    **dict.fromkeys(_SAME_SHAPE, _same),
    nn.Conv2d: _convolved,
    nn.AdaptiveAvgPool2d: _pooled,
}
"""What takes the place of a layer's forward pass: only its output's shape."""


def _counted(module: nn.Module) -> bool:
    return hasattr(module, "extra_macs") or not list(module.children())


def multiply_adds(module: nn.Module, x: Tensor, out: Tensor) -> int:
    """Multiply-adds of a module that read `x` and gave `out`; 0 where it does none."""
    if hasattr(module, "extra_macs"):
        extra: int = module.extra_macs(x, out)  # type: ignore[operator]
        return extra
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return out.numel() * module.in_channels // module.groups * math.prod(module.kernel_size)
    return out.numel() * module.in_features if isinstance(module, nn.Linear) else 0


def _operations(module: nn.Module, x: Tensor, out: Tensor) -> tuple[int, int]:
    """Multiply-adds, and the other operations that the convention of `flops` counts."""
    if isinstance(module, nn.BatchNorm2d):
        return 0, 2 * out.numel()
    if isinstance(module, nn.ReLU):
        return 0, out.numel()
    if isinstance(module, nn.AvgPool2d):
        kernel = module.kernel_size
        return 0, out.numel() * (math.prod(kernel) if isinstance(kernel, tuple) else kernel**2)
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return 0, out.numel() * (x.shape[-2] + 1) * (x.shape[-1] + 1)
    return multiply_adds(module, x, out), 0
