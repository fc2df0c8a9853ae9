"""What the trials in a storage mean to a study: which are finished, begun, or proposed only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial, TrialState

from archgen.errors import RunConflict
from archgen.graph import Architecture
from archgen.study.trial import COMPLETE, FAILED, Trial


@dataclass
class Ledger:
    """Trials by their number in the storage, in that order.

    Args:
        trials: The finished ones: complete, or failed with an `error`.
        live: Architectures of these and of the running ones; what was given up is in neither.
        proposed: Every architecture of every batch, in the order proposed.
    """

    trials: dict[int, Trial] = field(default_factory=dict)
    live: dict[int, Architecture] = field(default_factory=dict)
    proposed: dict[Architecture, None] = field(default_factory=dict)

    @property
    def busy(self) -> list[Architecture]:
        """Architectures that are being evaluated."""
        return [arch for number, arch in self.live.items() if number not in self.trials]

    @property
    def pending(self) -> list[Architecture]:
        """Architectures that were proposed but are neither finished nor being evaluated."""
        live = set(self.live.values())
        return [arch for arch in self.proposed if arch not in live]


def read_ledger(found: Sequence[FrozenTrial], parse: Callable[[str], Architecture]) -> Ledger:
    """Sort what a storage holds.

    Raises:
        RunConflict: A trial that archgen did not write.
    """
    ledger = Ledger()
    for trial in found:
        attrs = trial.user_attrs
        if "arch" not in attrs:
            raise RunConflict(f"trial {trial.number} was not written by archgen; use another study")
        arch = parse(attrs["arch"])
        ledger.proposed.update(dict.fromkeys(map(parse, attrs.get("batch", [attrs["arch"]]))))
        complete = trial.state == TrialState.COMPLETE
        finished = complete or "error" in attrs  # where a process died before it could say so, too
        if finished:
            values, state = (attrs["values"], COMPLETE) if complete else ({}, FAILED)
            ledger.trials[trial.number] = Trial(
                len(ledger.trials), arch, values, attrs["cost_seconds"], state, attrs.get("error")
            )
        if finished or trial.state == TrialState.RUNNING:
            ledger.live[trial.number] = arch
    return ledger
