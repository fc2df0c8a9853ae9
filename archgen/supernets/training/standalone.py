"""Training of a stand-alone network on images, and its accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from archgen.data import ImageData, batches, steps
from archgen.errors import InvalidOption
from archgen.supernets.training.divergences import soft_cross_entropy
from archgen.supernets.training.loop import Batches, Schedule, train


def batch_size(data: ImageData, wanted: int | None = None) -> int:
    """Images a training step: as many as are wanted, or else 128, fewer where an epoch would have under eight steps.

    Raises:
        InvalidOption: More are wanted than there are, or none.
    """
    if wanted is None:
        return int(min(128, max(16, len(data.train) // 8)))
    if not 1 <= wanted <= len(data.train):
        raise InvalidOption(f"expected a batch of 1 to {len(data.train)} images, all that there are, got {wanted}")
    return wanted


def training_batches(
    data: ImageData,
    order: Callable[[torch.Generator], Int[Tensor, " n"] | None] | None = None,
    size: int | None = None,
) -> Batches:
    """The augmented training part in batches.

    Args:
        data: The images.
        order: Gives the positions of an epoch's images, as many as there are, from its generator; None, or one that
            gives None, for a random permutation.
        size: Images a batch; see `batch_size`.

    Raises:
        InvalidOption: A larger size than there are images.
    """
    size = batch_size(data, size)

    def draw(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        wanted = None if order is None else order(generator)
        return batches(data.train, size, generator=generator, augmented=True, flip=data.flip, order=wanted)

    return Batches(steps(len(data.train), size), draw)


def train_network(
    network: nn.Module,
    data: ImageData,
    schedule: Schedule,
    *,
    seed: int,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
    teacher: nn.Module | None = None,
) -> None:
    """Train on the augmented training part with cross-entropy, labels smoothed by 0.1; other arguments as in `train`.

    Args:
        teacher: A trained network for the same images; the loss is then the mean of that on the labels and the
            cross-entropy to its probabilities for the same, augmented images (Hinton et al., arXiv 1503.02531, at
            temperature 1, as Once-for-All fine-tunes). It runs in evaluation mode and stays as it is.

    Raises:
        ArchgenError: The loss became NaN or infinite.
    """
    if teacher is not None:
        teacher.eval()

    def step(batch: tuple[Tensor, Tensor], rng: np.random.Generator) -> dict[str, float]:
        logits = network(batch[0])
        loss = F.cross_entropy(logits, batch[1], label_smoothing=0.1)
        if teacher is not None:
            with torch.no_grad():
                target = teacher(batch[0])
            loss = (loss + soft_cross_entropy(logits, target)) / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": float(loss.detach())}

    train(
        network,
        step,
        training_batches(data),
        schedule,
        seed=seed,
        checkpoint=checkpoint,
        on_epoch=on_epoch,
    )
    # As it is when it is read again: what is exported then is the same file.
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


@torch.no_grad()
def accuracy(
    network: nn.Module, images: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"], size: int = 256
) -> tuple[float, float]:
    """Top-1 accuracy in percent and mean cross-entropy in nats, in evaluation mode."""
    network.eval()
    logits = torch.cat([network(x) for x in torch.split(images, size)])
    correct = (logits.argmax(-1) == labels).double().mean()
    return 100.0 * float(correct), float(F.cross_entropy(logits, labels))
