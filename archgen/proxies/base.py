"""Zero-cost proxies: one number that a network has before it is trained."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from archgen.errors import ArchgenError
from archgen.registry import Registry

PROXIES: Registry[type[Proxy]] = Registry("zero-cost proxy")

Weighted = nn.Conv1d | nn.Conv2d | nn.Linear
"""Layers whose weights the published proxies look at; biases, normalisation and embeddings are left out."""

Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]


class Proxy(ABC):
    """One number of an untrained network, to rank architectures by; constructor arguments are its settings.

    A proxy works on a copy: weights, gradients, modes, hooks and running statistics of the network that it is given
    stay as they are. The copy is in training mode (batch normalisation by the statistics of the batch, as in
    NAS-Bench-Suite-Zero, arXiv 2210.03230), but dropout is off, so no proxy draws from PyTorch's global generator.

    The value is finite or NaN, never infinite. NaN says that the network has no such number: its output does not
    depend on the image (a cell of `none` alone), so that a logarithm or a correlation does not exist. Proxies that
    are sums (`snip`, `plain`, `grasp`, `grad_norm`, `fisher`, `l2_norm`) and counts stay finite there.
    """

    reads_images: ClassVar[bool] = False
    """Whether it needs real-valued images: it takes gradients for them, or puts others in their place."""

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, *, generator: torch.Generator) -> float:
        """The proxy's value.

        Args:
            network: As built; maps `images` to logits `b classes`.
            images: A batch of at least two, `b c h w`; or tokens `b n`, which only some proxies can use.
            targets: Class of each, `b` integers.
            generator: Of all that the proxy draws; the same state gives the same value.

        Raises:
            ArchgenError: The batch is of another form, or the proxy is not defined for such a network.
        """
        if len(images) < 2 or targets.shape != (len(images),):
            raise ArchgenError(
                f"a proxy needs a batch of two or more images and a target for each, got images of shape "
                f"{tuple(images.shape)} and targets of shape {tuple(targets.shape)}"
            )
        if self.reads_images and not images.is_floating_point():
            raise ArchgenError(
                f"the proxy {self.name} needs images: it takes gradients for them or replaces them by others, which "
                "can not be done with tokens; choose other proxies for this space"
            )
        network = copy.deepcopy(network).train().requires_grad_(True)
        for module in network.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivatives
            value = float(self.measure(network, images.detach(), targets, generator))
        return value if math.isfinite(value) else math.nan

    @property
    def name(self) -> str:
        """The name that it is registered under, or that of its class."""
        return next((name for name, kind in PROXIES.items() if kind is type(self)), type(self).__name__)

    @abstractmethod
    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        """The value; the network is the proxy's own, so it may do with it what it likes."""


def weighted_layers(network: nn.Module, proxy: Proxy) -> list[Weighted]:
    """The convolutions and linear layers, those that never run included.

    Raises:
        ArchgenError: There are none.
    """
    layers = [module for module in network.modules() if isinstance(module, Weighted)]
    if not layers:
        raise ArchgenError(f"the proxy {proxy.name} needs convolutions or linear layers, this network has none")
    return layers


@contextmanager
def watching(modules: Iterable[nn.Module], hook: Hook) -> Iterator[None]:
    """Call `hook(module, inputs, output)` whenever one of the modules runs in the body of a `with` statement."""
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def normal_like(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers in the shape of a tensor, drawn on the generator's device."""
    return torch.randn(like.shape, generator=generator, device=generator.device).to(like)
