"""Supernets: one set of weights that every architecture of a space inherits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.graph import Architecture
from archgen.registry import Registry
from archgen.spaces import SearchSpace

SUPERNETS: Registry[type[Supernet]] = Registry("supernet for the family of spaces")
"""By the family of spaces that they serve."""


class Supernet(nn.Module, ABC):
    """A network that holds the weights of all architectures and runs one of them at a time.

    Args:
        space: The space whose architectures it holds.
        network: Arguments of `space.build`, all of them.
    """

    def __init__(self, space: SearchSpace, network: dict[str, int]) -> None:
        super().__init__()
        self.space, self.network = space, {**space.network_defaults, **network}

    @abstractmethod
    def forward(self, x: Float[Tensor, "b c h w"], arch: Architecture) -> Float[Tensor, "b classes"]:
        """Logits of one architecture with the shared weights."""

    @abstractmethod
    def subnet(self, arch: Architecture) -> nn.Module:
        """A stand-alone network of the simplified architecture with a copy of the inherited weights."""

    @torch.no_grad()
    def recalibrate(self, arch: Architecture, images: Iterable[Float[Tensor, "b c h w"]]) -> None:
        """Replace the batch-norm statistics by those of `images` under this architecture.

        Shared weights see other input statistics under each architecture, so the running averages of training
        belong to none of them (BigNAS, arXiv 2003.11142, section 3.5). The result does not depend on what the
        statistics were before. Leaves the supernet in evaluation mode.
        """
        norms = [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)]
        momenta = [m.momentum for m in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
        self.train()
        try:
            for x in images:
                self(x, arch)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            self.eval()


def make_supernet(space: SearchSpace, **network: int) -> Supernet:
    """The supernet of a space's family, freshly initialised from torch's global generator.

    Raises:
        UnknownName: No supernet serves that family.
    """
    supernet = SUPERNETS[space.whole.family](space.whole, network)
    supernet.space = space  # a part of a space has the weights of the whole, and trains its own paths
    return supernet
