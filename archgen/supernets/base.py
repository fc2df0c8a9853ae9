"""Supernets: one set of weights that every architecture of a space inherits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.graph import Architecture
from archgen.registry import Registry
from archgen.spaces import SearchSpace
from archgen.supernets.shared import SharedModule

SUPERNETS: Registry[type[Supernet]] = Registry("supernet for the family of spaces")
"""By the family of spaces that they serve."""

CALIBRATION_BATCH = 256
"""Most images whose statistics are measured at once."""

Norm = nn.modules.batchnorm._BatchNorm


class Supernet(nn.Module, ABC):
    """A network that holds the weights of all architectures and runs one of them at a time.

    Args:
        space: The space whose architectures it holds.
        network: Arguments of `space.build`.
    """

    def __init__(self, space: SearchSpace, network: Mapping[str, int]) -> None:
        super().__init__()
        self.space, self.network = space, {**space.network_defaults, **network}
        self.whole = space
        """The space whose architectures it can run; `space`, what is trained, may be a part of it."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "b ..."], arch: Architecture) -> Float[Tensor, "b classes"]:
        """Logits of one architecture with the shared weights."""

    @abstractmethod
    def inherited(self, arch: Architecture) -> dict[str, Tensor]:
        """State of the stand-alone network of a simplified architecture, cut out of the shared tensors."""

    @abstractmethod
    def owned(self, arch: Architecture) -> dict[str, list[nn.Parameter]]:
        """The weights that the value of each variable owns, where the network of an architecture reads them.

        Weights that all values of a variable share are those of the value that is there. Variables whose value has no
        weights are left out.
        """

    def silence_residuals(self) -> None:
        """Start residual blocks that can be the identity as the identity, where there are such blocks."""

    def subnet(self, arch: Architecture) -> nn.Module:
        """A stand-alone network of the simplified architecture with a copy of the inherited weights.

        It is in the mode, and on the device, of the supernet. Its batch-norm statistics belong to no architecture;
        `calibrated` gives it with some that are its own.
        """
        self.whole.validate(arch)
        simple = self.whole.simplify(arch)
        state = {name: value.detach().clone() for name, value in self.inherited(simple).items()}
        with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are replaced
            network = self.whole.build(simple, **self.network)
        network.to(next(self.parameters()).device).load_state_dict(state)
        return network.train(self.training)


@contextmanager
def without_dropout(supernet: Supernet) -> Iterator[None]:
    """Features are not dropped inside, whatever the mode; normalisation goes on as it was."""
    dropouts = {m: m.training for m in supernet.modules() if isinstance(m, nn.Dropout)}
    shared = [m for m in supernet.modules() if isinstance(m, SharedModule)]
    for module in dropouts:
        module.eval()
    for part in shared:
        part.dropout = False
    try:
        yield
    finally:
        for module, training in dropouts.items():
            module.train(training)
        for part in shared:
            part.dropout = True


@torch.no_grad()
def recalibrate(network: nn.Module, images: Iterable[Float[Tensor, "b ..."]]) -> nn.Module:
    """Replace the batch-norm statistics of a network by those of `images`; leaves it in evaluation mode.

    Shared weights see other input statistics under each architecture, so the running averages of a supernet's training
    belong to none of them (BigNAS, arXiv 2003.11142, section 3.1). The result does not depend on what the statistics
    were before.

    Args:
        network: Changed in place.
        images: Batches, each of which counts as much.
    """
    norms = [m for m in network.modules() if isinstance(m, Norm)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    network.eval()  # dropout stays off
    for norm in norms:
        norm.train()
    try:
        for x in images if norms else ():
            network(x)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.eval()
    return network


def calibrated(
    supernet: Supernet, arch: Architecture, images: Float[Tensor, "b ..."], size: int = CALIBRATION_BATCH
) -> nn.Module:
    """The stand-alone network of an architecture with the inherited weights and the statistics of `images`.

    All that score, export or fine-tune inherited weights begin with it, so that they speak of the same network.

    Args:
        supernet: Stays as it is.
        arch: As it is written: it may say more than what is left of it once it is simplified.
        images: At least two; batches of nearly equal size are made of them, since each counts as much.
        size: Most images a batch, at least 2.
    """
    batches = images.tensor_split(math.ceil(len(images) / size))
    return recalibrate(supernet.subnet(arch), batches)


def make_supernet(space: SearchSpace, **network: int) -> Supernet:
    """The supernet of a space's family, freshly initialised from torch's global generator.

    Raises:
        UnknownName: No supernet serves that family.
    """
    supernet = SUPERNETS[space.whole.family](space.whole, network)
    supernet.space = space  # a part of a space has the weights of the whole, and trains its own paths
    return supernet
