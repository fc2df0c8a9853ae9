"""Proxies that compare which ReLUs fire for the images of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from archgen.errors import ArchgenError
from archgen.proxies.base import PROXIES, Proxy, watching

RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU)
"""Activations with a kink at zero, which cuts the input space in two."""


def _each_pattern(network: nn.Module, images: Tensor, proxy: Proxy, read: Callable[[Tensor], None]) -> None:
    """Run the network and give `read` the pattern of each rectifier, `b m`: whether its inputs are above zero.

    Raises:
        ArchgenError: No rectifier runs.
    """
    seen = False

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal seen
        seen = True
        read(inputs[0].detach().flatten(1) > 0)

    with torch.no_grad(), watching([m for m in network.modules() if isinstance(m, RECTIFIERS)], hook):
        network(images)
    if not seen:
        raise ArchgenError(
            f"the proxy {proxy.name} counts which ReLUs fire, and this network runs none; leave it out for this space"
        )


@PROXIES.register("nwot")
class Nwot(Proxy):
    """NASWOT (arXiv 2006.04647, from its second version on): the log-determinant of the kernel of shared activations.

    `K_ij` is the number of ReLUs that agree (both fire, or neither) between images `i` and `j`. Images with the same
    pattern make it singular: NaN.
    """

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        b = len(images)
        kernel = np.zeros((b, b))

        def add(fires: Tensor) -> None:
            x = fires.float()
            firing = x.sum(1)
            agree = 2 * (x @ x.T) + x.shape[1] - firing[:, None] - firing  # both fire, or neither
            kernel[:] += agree.double().cpu().numpy()

        _each_pattern(network, images, self, add)
        sign, log_determinant = np.linalg.slogdet(kernel)
        return float(log_determinant) if sign > 0 else math.nan


@PROXIES.register("swap")
class Swap(Proxy):
    r"""SWAP-Score (arXiv 2403.04161): the number of different sample-wise activation patterns.

    The pattern of a ReLU is for which of the `b` images it fires; :math:`\Psi` counts the distinct ones over all
    ReLUs of the network, so it is at most :math:`2^b` and tells networks apart only if that is far above what they
    reach. Regularised: :math:`\Psi \exp(-(\Theta - \mu)^2 / \sigma)` for :math:`\Theta` parameters,
    with which a search keeps the size of its networks near :math:`\mu`.

    Against the published code: one draw of the weights, the network's own, instead of the mean over 32 Gaussian
    ones (batch normalisation makes their scale immaterial); average over seeds for that.

    Args:
        mu: Number of parameters that is preferred, or None not to regularise.
        sigma: Square of the number of parameters about it at which the score falls to 1/e; with `mu` only.
    """

    def __init__(self, mu: float | None = None, sigma: float | None = None) -> None:
        if (mu is None) != (sigma is None) or (sigma is not None and sigma <= 0):
            raise ArchgenError(f"a regularised SWAP-Score needs mu and a positive sigma, got mu={mu}, sigma={sigma}")
        self.mu, self.sigma = mu, sigma

    def measure(self, network: nn.Module, images: Tensor, targets: Tensor, generator: torch.Generator) -> float:
        distinct: NDArray[np.void] = np.zeros(0, f"V{(len(images) + 7) // 8}")

        def add(fires: Tensor) -> None:
            nonlocal distinct
            bits = np.packbits(fires.cpu().numpy(), axis=0).T  # a row a ReLU, a bit an image
            distinct = np.unique(np.concatenate([distinct, np.ascontiguousarray(bits).view(distinct.dtype)[:, 0]]))

        _each_pattern(network, images, self, add)
        score = float(len(distinct))
        if self.mu is None or self.sigma is None:
            return score
        parameters = sum(p.numel() for p in network.parameters())
        return score * math.exp(-((parameters - self.mu) ** 2) / self.sigma)
