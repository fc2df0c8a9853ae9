"""Size as a proxy: parameters and FLOPs, the baselines that other proxies have to beat (arXiv 2210.03230)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from archgen.networks import count_network
from archgen.proxies.base import PROXIES, Proxy


class Count(Proxy):
    """A count of `archgen.networks.count` for one image; `compute_proxies` asks the space for it instead.

    Attributes:
        metric: Its key among the counts.
    """

    metric: ClassVar[str]

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        return count_network(network, images[:1])[self.metric]


@PROXIES.register("params")
class Params(Count):
    """Number of parameters."""

    metric = "params"


@PROXIES.register("flops")
class Flops(Count):
    """Floating-point operations for one image."""

    metric = "flops"
