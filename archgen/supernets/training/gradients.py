"""How the losses of a step become gradients, as far as a training strategy has to know."""

from __future__ import annotations

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn


class Gradients:
    """Those of one process that works on the whole batch in full precision.

    `Updates` has the same interface where losses are scaled, or where each of several processes has a share of the
    batch; a strategy that keeps to it trains there too.
    """

    def backward(self, loss: Float[Tensor, ""]) -> None:
        """Add the gradients of a loss, the mean over the images of this process, to those that are there."""
        loss.backward()  # type: ignore[no-untyped-call]

    def of(self, parameters: Iterable[nn.Parameter]) -> list[Tensor]:
        """The gradients over the whole batch of those parameters that have one, to be read only."""
        return [p.grad for p in parameters if p.grad is not None]

    def fewest(self, images: int) -> int:
        """Images of the process that has the fewest of this batch, of which this one has `images`."""
        return images

    def gather(self, values: Float[Tensor, "b ..."]) -> Float[Tensor, "n ..."]:
        """Values of the `n` images of the whole batch, in its order, from those of the `b` images of each process."""
        return values
