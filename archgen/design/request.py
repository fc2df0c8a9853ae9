"""What is to be designed."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from archgen.errors import InvalidObjective, UnknownMetric
from archgen.objectives import Objective, at_most, maximize

BOUNDED = ("latency_ms", "params", "flops")
"""Metrics that a design can bound."""
_POSITIVE = ("budget", "batch", "epochs", "finetune_epochs", "cells", "channels", "threads")


@dataclass(frozen=True)
class DesignRequest:
    """What is to be designed; all of it is kept in the run folder, so that a run can be resumed.

    Args:
        data: What `archgen.data.load_data` reads.
        space: Name of the search space.
        at_most: Upper bounds by metric, of `BOUNDED`; latency in ms for one image on this machine.
        seed: Of everything random.
        budget: Architectures to evaluate.
        batch: Architectures asked for at a time.
        epochs: Of the supernet.
        finetune_epochs: Of the winner.
        cells, channels: Size of the network: cells a stage, channels of the first stage.
        measured: Architectures to fit the latency predictor on.
        threads: Of the runtime when latency is measured.
        resize: Side in pixels to resize the images to, or None.
        limit: Most images to use, or None.
        strategy: Name of the search strategy.
    """

    data: str
    space: str
    at_most: dict[str, float]
    seed: int = 0
    budget: int = 100
    batch: int = 5
    epochs: int = 200
    finetune_epochs: int = 100
    cells: int = 1
    channels: int = 16
    measured: int = 40
    threads: int = 1
    resize: int | None = None
    limit: int | None = None
    strategy: str = "generative"

    def __post_init__(self) -> None:
        for metric in self.at_most:
            if metric not in BOUNDED:
                raise UnknownMetric(metric, BOUNDED)
        small = {k: v for k, v in asdict(self).items() if k in _POSITIVE and v < 1}
        if small:
            raise InvalidObjective(f"expected whole numbers of at least 1, got {small}")
        if self.measured < 12:
            raise InvalidObjective(
                f"expected at least 12 measured architectures to fit a predictor, got {self.measured}"
            )

    @property
    def objectives(self) -> list[Objective]:
        """The wishes in the common language."""
        return [maximize("val_acc"), *(at_most(metric, bound) for metric, bound in self.at_most.items())]
