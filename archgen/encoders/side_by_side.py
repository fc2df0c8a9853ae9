"""Layers of `m` networks that run side by side, each with weights of its own: an ensemble for the price of one call.

Small networks spend their time between operations, not in them; `m` of them in one tensor cost little more than one.
All tensors have the member as their first dimension.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class SideBySideLinear(nn.Module):
    """`nn.Linear` of `m` networks, initialised as it is there.

    Args:
        members: Number `m` of networks.
        inputs, outputs: Widths `i` and `o`.
    """

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = max(inputs, 1) ** -0.5
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Float[Tensor, "m b i"]) -> Float[Tensor, "m b o"]:
        """Each member's map of its own rows."""
        return torch.baddbmm(self.bias, x, self.weight)


class SideBySideNorm(nn.Module):
    """`nn.LayerNorm` of `m` networks.

    Args:
        members: Number `m` of networks.
        width: Width `d` of what is normalised.
    """

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.weight = nn.Parameter(torch.ones(members, 1, width))
        self.bias = nn.Parameter(torch.zeros(members, 1, width))

    def forward(self, x: Float[Tensor, "m b d"]) -> Float[Tensor, "m b d"]:
        """Rows of mean 0 and variance 1, scaled and shifted by each member."""
        return F.layer_norm(x, (self.width,)) * self.weight + self.bias
