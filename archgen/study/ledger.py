"""What the trials in a storage mean to a study: which are finished, begun, or proposed only."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace

from optuna.trial import FrozenTrial, TrialState

from archgen.errors import RunConflict
from archgen.graph import Architecture
from archgen.study.trial import COMPLETE, FAILED, Trial


class Ledger:
    """Trials by their number in the storage; reading again costs as much as what has changed.

    Args:
        parse: Reads the string of an architecture.
        needed: Metrics that a complete trial has.
    """

    def __init__(self, parse: Callable[[str], Architecture], needed: Sequence[str] = ()) -> None:
        self._parse, self._needed = parse, tuple(needed)
        self._known = 0
        self._open: set[int] = set()
        self._running: dict[int, Architecture] = {}
        self._holders: dict[Architecture, set[int]] = {}
        self._proposed: dict[Architecture, int] = {}
        self._waiting: set[Architecture] = set()
        self._finished: dict[int, Trial] = {}
        self._log: list[int] = []
        self._order: list[int] = []
        self._placed: list[Trial] = []

    @property
    def known(self) -> int:
        """Trials of the storage that were read, whatever their state: the next one has this number."""
        return self._known

    @property
    def claimed(self) -> int:
        """Trials that are finished or being evaluated."""
        return len(self._finished) + len(self._running)

    @property
    def busy(self) -> list[Architecture]:
        """Architectures that are being evaluated, by number."""
        return [self._running[number] for number in sorted(self._running)]

    @property
    def pending(self) -> list[Architecture]:
        """Architectures that were proposed but are neither finished nor being evaluated, in the order proposed."""
        return sorted(self._waiting, key=self._proposed.__getitem__)

    @property
    def trials(self) -> list[Trial]:
        """The finished ones, complete or failed with an `error`, by number."""
        self._place(len(self._order))
        return list(self._placed)

    def trial(self, number: int) -> Trial | None:
        """The finished trial of this number in the storage, with its place as of now."""
        found = self._finished.get(number)
        return None if found is None else replace(found, number=bisect_left(self._order, number))

    def since(self, read: int) -> list[Trial]:
        """Trials by number, without the first `read` that this ledger learned of."""
        return [trial for number in sorted(self._log[read:]) if (trial := self.trial(number)) is not None]

    def before(self, number: int) -> int:
        """Trials of lower numbers that are finished or being evaluated."""
        return bisect_left(self._order, number) + sum(other < number for other in self._running)

    def held_before(self, arch: Architecture, number: int) -> bool:
        """Whether a trial of a lower number, finished or being evaluated, is of this architecture."""
        return any(other < number for other in self._holders.get(arch, ()))

    def update(self, found: Sequence[FrozenTrial]) -> None:
        """Read what has changed in a storage.

        Args:
            found: All its trials, by number and none left out.

        Raises:
            RunConflict: A trial that archgen did not write.
            ArchgenError: A text that is no architecture.
        """
        for number in self.unfinished(found):
            self.read(found[number])

    def unfinished(self, found: Sequence[FrozenTrial]) -> list[int]:
        """Numbers of those that were not finished when they were last read, or never were read."""
        return [*sorted(self._open), *range(self._known, len(found))]

    def read(self, trial: FrozenTrial) -> None:
        """Read one trial, again or for the first time; raises as `update` does."""
        attrs, number = trial.user_attrs, trial.number
        if not isinstance(attrs.get("arch"), str):
            raise RunConflict(f"trial {number} was not written by archgen; use another study")
        complete = trial.state == TrialState.COMPLETE
        batch, values = attrs.get("batch", [attrs["arch"]]), _numbers(attrs.get("values")) if complete else {}
        ended = complete or "error" in attrs  # where a process died before it could say so, too
        whole = isinstance(batch, list) and all(isinstance(text, str) for text in batch)
        whole &= not complete or set(self._needed) <= values.keys()
        if not whole or (ended and not _numbers({"": attrs.get("cost_seconds")})):
            raise RunConflict(f"trial {number} of the study is damaged; restore the database, or begin another study")
        arch = self._parse(attrs["arch"])
        if number >= self._known:
            for member in map(self._parse, batch):
                if self._proposed.setdefault(member, len(self._proposed)) == len(self._proposed) - 1:
                    self._waiting.add(member)
                if self._holders.get(member):
                    self._waiting.discard(member)
            self._known = number + 1
        if ended:
            state = COMPLETE if complete else FAILED
            self._finish(number, Trial(-1, arch, values, attrs["cost_seconds"], state, attrs.get("error")))
        elif trial.state == TrialState.RUNNING:
            self._running[number] = arch
        if number in self._running or number in self._finished:
            self._holders.setdefault(arch, set()).add(number)
            self._waiting.discard(arch)
        if trial.state.is_finished():
            self._open.discard(number)
            self._running.pop(number, None)
            if number not in self._finished:
                self._give_up(number, arch)
        else:
            self._open.add(number)

    def _finish(self, number: int, trial: Trial) -> None:
        self._running.pop(number, None)
        if number in self._finished:
            return
        self._finished[number] = trial
        self._log.append(number)
        at = bisect_left(self._order, number)
        self._order.insert(at, number)
        del self._placed[at:]  # those after it have another place now

    def _give_up(self, number: int, arch: Architecture) -> None:
        holders = self._holders.get(arch, set())
        holders.discard(number)
        if not holders:
            self._waiting.add(arch)

    def _place(self, n: int) -> None:
        """Give the first `n` finished trials their places."""
        for place in range(len(self._placed), n):
            self._placed.append(replace(self._finished[self._order[place]], number=place))


def _numbers(values: object) -> dict[str, float]:
    """The numbers among values by their names."""
    given = values.items() if isinstance(values, dict) else ()
    return {k: v for k, v in given if isinstance(v, int | float) and not isinstance(v, bool)}
