"""Modules that read something else than the networks that they are timed beside."""

from __future__ import annotations

from torch import Tensor, nn


class Part(nn.Module):
    """A part of a network, with an input of its own: a meter times it on inputs of that shape.

    Args:
        module: The part.
        example: What it reads, one input `1 ...`.
    """

    example: Tensor

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("example", example[:1], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """What the part gives."""
        out: Tensor = self.module(x)
        return out


def example_of(network: nn.Module, example: Tensor) -> Tensor:
    """What a network reads: its own input where it is a `Part`, else the example."""
    return network.example if isinstance(network, Part) else example
