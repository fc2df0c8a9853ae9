"""Generators: what learns a space and draws from it. They know no space, no predictor and no objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from archgen import artifacts
from archgen.artifacts import Checkpoint
from archgen.errors import InvalidCheckpoint
from archgen.graph import GraphBatch
from archgen.registry import Registry

GENERATORS: Registry[type[Generator]] = Registry("generator")


@runtime_checkable
class Guidance(Protocol):
    """Tilts what a generator draws; a list of them multiplies their tilts."""

    def log_tilt(self, clean: GraphBatch) -> Float[Tensor, " b"]:
        """Logarithm of the weight that each clean graph should be drawn with, up to a constant; `-inf` forbids."""
        ...


class Generator(nn.Module, ABC):
    """A distribution over graphs that was learnt from samples.

    Args:
        node_domain: Labels that each node may carry, `n x k`.
        edge_domain: States (absent, present) that each edge may take, `n x n x 2`.
        config: The remaining constructor arguments, so that a checkpoint can rebuild the generator.
    """

    node_domain: Bool[Tensor, "n k"]
    edge_domain: Bool[Tensor, "n n 2"]

    def __init__(
        self, node_domain: Bool[Tensor, "n k"], edge_domain: Bool[Tensor, "n n 2"], config: dict[str, Any]
    ) -> None:
        super().__init__()
        self.register_buffer("node_domain", node_domain)
        self.register_buffer("edge_domain", edge_domain)
        self.config = config

    @abstractmethod
    def loss(
        self, clean: GraphBatch, condition: Float[Tensor, "b c"] | None = None, *, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Training loss of a batch of clean graphs, a scalar."""

    @abstractmethod
    def sample(
        self,
        n: int,
        *,
        condition: Float[Tensor, "b c"] | None = None,
        guidance: Sequence[Guidance] = (),
        steps: int,
        generator: torch.Generator,
    ) -> GraphBatch:
        """Draw `n` graphs in `steps` solver steps, tilted by all of `guidance`."""

    def save(self, name: str, folder: Any, extra: dict[str, Any], card: str) -> None:
        """Write a checkpoint of this generator, registered as `name`, with `extra` facts in its config."""
        tensors = self.state_dict()
        artifacts.save_checkpoint(
            folder, Checkpoint("generator", name, {"arguments": self.config, **extra}, tensors), card
        )


def load_generator(folder: Any) -> Generator:
    """Rebuild a generator from its checkpoint.

    Raises:
        InvalidCheckpoint: The folder holds no generator, or a truncated one.
        UnknownName: A generator that this version does not have.
    """
    checkpoint = artifacts.load_checkpoint(folder, "generator")
    kind = GENERATORS[checkpoint.name]
    try:
        domains = checkpoint.tensors["node_domain"].bool(), checkpoint.tensors["edge_domain"].bool()
        generator = kind(*domains, **checkpoint.config["arguments"])
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise InvalidCheckpoint(
            f"{folder} is not a whole {checkpoint.name} checkpoint ({error!r}); copy or train it again"
        ) from None
    artifacts.load_weights(generator, checkpoint.tensors, str(folder))
    return generator.eval()
