"""Embedding of a property vector in which any entry may be left open."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ConditionEmbedding(nn.Module):
    """Real-valued properties to one vector, by Fourier features and a small network; nothing is binned.

    Args:
        conditions: Number `c` of properties.
        width: Width `d` of the embedding.
        frequencies: Fourier features a property; the highest has a period of two standard deviations.
    """

    periods: Float[Tensor, " f"]

    def __init__(self, conditions: int, width: int, frequencies: int = 4) -> None:
        super().__init__()
        self.register_buffer("periods", 2.0 ** torch.arange(frequencies) * torch.pi / 2 ** (frequencies - 1))
        self.mlp = nn.Sequential(
            nn.Linear(conditions * (2 * frequencies + 2), width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, condition: Float[Tensor, "b c"]) -> Float[Tensor, "b d"]:
        """Embed normal scores of properties; NaN says that one is left open."""
        given = ~condition.isnan()
        value = condition.nan_to_num().clamp(-6.0, 6.0)
        angles = value[..., None] * self.periods
        features = torch.cat([value[..., None], angles.sin(), angles.cos() - 1], -1) * given[..., None]
        out: Tensor = self.mlp(torch.cat([features, given[..., None].float()], -1).flatten(1))
        return out
