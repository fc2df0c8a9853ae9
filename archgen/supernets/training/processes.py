"""The processes that train together; here, one that trains alone."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from archgen.errors import InvalidOption

Batch = tuple[Float[Tensor, "b ..."], Int[Tensor, " b"]]
LEAST = 2
"""Fewest images of a batch that a process must get, for the statistics of normalisation."""


class Processes:
    """One process. `Accelerated` are several.

    Each draws the whole of every batch, in the same order and with the same augmentation, and works on its part, so
    that a training does not depend on how many there are but for what is computed over a part: batch normalisation
    sees the images of one process alone.
    """

    rank = 0
    """Of this process."""
    count = 1
    """Of all that train together."""
    device = torch.device("cpu")
    """Where this process computes."""
    weight = 1.0
    """Share of the last batch that is this process's, in (0, 1]."""
    whole, part = 0, slice(0, 0)
    """Images of the last batch, and those of them that are this process's."""

    def check(self, size: int, precision: str = "no") -> None:
        """Refuse what these processes can not train.

        Args:
            size: Images a batch; the last one of an epoch may be half as large.
            precision: Of the forward passes.

        Raises:
            InvalidOption: A process would get fewer than `LEAST` images, or ZeRO does not have the precision.
        """
        needed = 2 * LEAST * self.count
        if self.count > 1 and size < needed:
            raise InvalidOption(
                f"a batch of {size} images is too small for {self.count} processes, expected at least {needed}; "
                "give a larger --batch or fewer processes"
            )

    def share(self, batch: Batch) -> Batch:
        """The part of a batch that is this process's; parts differ by one image at most."""
        x, y = batch
        bounds = [len(y) * r // self.count for r in (self.rank, self.rank + 1)]
        self.whole, self.part = len(y), slice(*bounds)
        self.weight = (bounds[1] - bounds[0]) / len(y)
        return (x[self.part], y[self.part]) if self.count > 1 else batch

    def sum(self, values: Tensor) -> Tensor:
        """Of what all processes have, equal to the bit in each; all must call it."""
        return values

    def agree(self, value: float) -> bool:
        """Whether it is the same in all processes; all must call it."""
        total = self.sum(torch.tensor([value, value**2], dtype=torch.float64, device=self.device))
        return bool(self.count * total[1] == total[0] ** 2)

    def wait(self) -> None:
        """Until all processes are here."""

    def close(self) -> None:
        """The work is done."""
