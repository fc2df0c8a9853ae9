"""The trials of one search, in an Optuna storage that any number of processes may share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from archgen.errors import InvalidObjective, RunConflict
from archgen.evaluators.base import Measurement
from archgen.graph import Architecture
from archgen.objectives import Objective, check, directions
from archgen.spaces import SearchSpace
from archgen.study.ledger import Ledger
from archgen.study.liveness import Watch, at_work, beating, new_owner
from archgen.study.storage import open_storage, quiet, shown, using
from archgen.study.trial import Trial, trials_frame


@dataclass(frozen=True)
class Claim:
    """The right to evaluate an architecture: a running trial of Optuna's, by its `id` and `number` there."""

    id: int
    number: int
    arch: Architecture


class Study:
    """The trials of one search, in an Optuna storage.

    Trials carry the space's variables as categorical parameters, the values of the directions as objective values,
    and `arch`, all metrics and the cost as attributes, so Optuna's own tools read them.

    Several processes may work on one study. An architecture is claimed by a running trial, which the storage numbers
    in one transaction; whoever claims one that has a lower number already, or one more than the budget allows,
    withdraws. So none is evaluated twice, and no lock is held. A claim of a dead process is given up, and its
    architecture taken by the next one. What was given up stays in the storage as a failed trial without an `error`
    and is no trial here.

    A batch that a strategy proposed is written with its first claim and belongs to the study: whoever is idle takes
    from it. So a search that was cut off, even by `kill -9`, goes on with the batch that it was in.

    Args:
        space: The search space.
        objectives: The wishes; at least one direction.
        storage: Path of an SQLite file, a database URL, or None to keep the trials in memory.
        name: Name of the study in the storage.
        resume: Whether trials may be there already.
        measured_by: What measures, in words: trials of two evaluators that say different ones are not mixed.
        timeout: Seconds to wait for a lock of an SQLite file, several times over before giving up.

    Raises:
        InvalidObjective: No direction, or contradicting wishes.
        RunConflict: The storage has trials and `resume` is off, or they are of another space, other wishes or another
            evaluator, or the storage can not be opened.
        MissingExtra: The database's driver is not installed.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        storage: Path | str | None = None,
        name: str = "archgen",
        resume: bool = False,
        measured_by: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        check(objectives)
        self.space, self.objectives = space, list(objectives)
        self.directions = directions(objectives)
        if not self.directions:
            raise InvalidObjective("a search needs something to maximize or minimize; only bounds were given")
        self._place, self._owner = storage, new_owner()
        self._watch = Watch(self._owner)
        self._distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(options) for name, options in space.variables.items()
        }
        self._archs: dict[str, Architecture] = {}
        self._ledger = Ledger(self._parse, [wish.metric for wish in self.directions])
        self._open: dict[int, int] = {}  # claims of this object: number and id in the storage
        self._pulse = 0
        self._storage = open_storage(storage, timeout=timeout)
        with using(storage), quiet():
            self._id = self._enter(name, resume)
            known = self._storage.get_study_user_attrs(self._id)
        identity = {"space": space.name, "objectives": [repr(o) for o in objectives]}
        if known.get("identity", identity) != identity:
            raise RunConflict(
                f"study '{name}' in {shown(storage)} is for {known['identity']}, asked for {identity}; "
                "resume it with the same space and objectives, or use another place"
            )
        variables = {variable: list(options) for variable, options in space.variables.items()}
        if known.get("variables", variables) != variables:
            raise RunConflict(
                f"study '{name}' in {shown(storage)} was begun when {space.name} had other variables; "
                "go on with the space as it was, or use another place"
            )
        if measured_by is not None and known.get("measured_by", measured_by) != measured_by:
            raise RunConflict(
                f"study '{name}' in {shown(storage)} was measured by {known['measured_by']}, asked for {measured_by}; "
                "go on with the same, or use another place"
            )
        self.refresh()
        with using(storage):  # after the checks: a foreign study stays as it is
            self._storage.set_study_user_attr(self._id, "identity", identity)
            self._storage.set_study_user_attr(self._id, "variables", variables)
            if measured_by is not None:
                self._storage.set_study_user_attr(self._id, "measured_by", measured_by)

    def _enter(self, name: str, resume: bool) -> int:
        wanted = [StudyDirection.MAXIMIZE if o.sign > 0 else StudyDirection.MINIMIZE for o in self.directions]
        try:
            return self._storage.create_new_study(wanted, name)
        except optuna.exceptions.DuplicatedStudyError:
            if not resume:
                raise RunConflict(
                    f"{shown(self._place)} holds a study '{name}' already; resume it or use another place"
                ) from None
        return self._storage.get_study_id_from_name(name)

    # -- what is there ------------------------------------------------------------------------------------------

    @property
    def trials(self) -> list[Trial]:
        """All finished trials, in the order in which they were begun, as of the last `refresh`."""
        return self._ledger.trials

    @property
    def claimed(self) -> int:
        """Trials that are finished or being evaluated, by whatever process."""
        return self._ledger.claimed

    @property
    def busy(self) -> list[Architecture]:
        """Architectures that are being evaluated, by whatever process."""
        return self._ledger.busy

    def pending(self) -> list[Architecture]:
        """Architectures that were proposed but are neither finished nor being evaluated, in the order proposed."""
        return self._ledger.pending

    def finished_since(self, read: int) -> list[Trial]:
        """Trials in the order in which they were begun, without the first `read` that this object learned of.

        It costs as much as what it returns: with `read` the length of all that it returned before, each trial once.
        """
        return self._ledger.since(read)

    def refresh(self) -> None:
        """Read what other processes wrote, and give up the claims of those that died."""
        with using(self._place):
            try:
                found = self._storage.get_all_trials(self._id, deepcopy=False)
            except (ValueError, LookupError, TypeError) as error:  # what Optuna makes of rows that it did not write
                reason = f"{type(error).__name__}: {error}"[:120]
                raise RunConflict(
                    f"a trial of the study in {shown(self._place)} is damaged ({reason}); restore it, or begin another"
                ) from None
            dead = [n for n in self._ledger.unfinished(found) if self._dead(found[n])]
            for number in dead:
                self._give_up(self._storage.get_trial_id_from_study_id_trial_number(self._id, number))
            if dead:
                found = self._storage.get_all_trials(self._id, deepcopy=False)
        self._ledger.update(found)

    def _dead(self, trial: FrozenTrial) -> bool:
        if trial.state != TrialState.RUNNING:
            return False
        attrs, owner = trial.user_attrs, trial.user_attrs.get("owner")
        if owner == self._owner:  # not open: a claim that an error or Ctrl-C did not let finish
            return trial.number not in self._open
        if not isinstance(owner, dict) or not isinstance(owner.get("pid"), int):
            owner = {}
        return self._watch.dead(trial.number, owner, attrs.get("pulse", 0))

    def _parse(self, text: str) -> Architecture:
        if text not in self._archs:
            self._archs[text] = self.space.parse(text)
        return self._archs[text]

    # -- claims -------------------------------------------------------------------------------------------------

    def claim(
        self, arch: Architecture, *, budget: int | None = None, batch: Sequence[Architecture] = ()
    ) -> Claim | None:
        """Claim an architecture for this process; None when another one has it, or when the budget is claimed.

        Args:
            arch: The architecture.
            budget: Trials in all, those of other processes included.
            batch: What was proposed together with it, itself included; kept for whoever goes on.
        """
        arch = self._parse(self.space.format(arch))  # as `refresh` reads it
        attrs: dict[str, Any] = {"arch": self.space.format(arch), "owner": self._owner}
        if len(batch) > 1:
            attrs["batch"] = [self.space.format(a) for a in batch]
        with using(self._place):
            trial = self._storage.create_new_trial(self._id, self._template(TrialState.RUNNING, arch, attrs))
            made = self._storage.get_trial(trial)
        claim, last = Claim(trial, made.number, arch), self._ledger.known
        self._open[claim.number] = trial
        if claim.number == last:  # nobody else claimed anything since this process looked
            self._ledger.read(made)
        if claim.number > last or self._lost(claim, budget):
            self.refresh()
        if self._lost(claim, budget):
            self.withdraw(claim)
            return None
        return claim

    def _lost(self, claim: Claim, budget: int | None) -> bool:
        """Whether an earlier claim has the architecture, or earlier ones have the budget, as of the last look."""
        full = budget is not None and self._ledger.before(claim.number) >= budget
        return full or self._ledger.held_before(claim.arch, claim.number)

    def finish(self, claim: Claim, measured: Measurement) -> Trial | None:
        """Store what was measured; None when the claim was lost, because this process was taken for dead."""
        wanted = [measured.values.get(o.metric, math.nan) for o in self.directions]
        error = self._error(measured, wanted)
        with using(self._place):
            try:  # the state comes last: what dies before it is evaluated again
                self._storage.set_trial_user_attr(claim.id, "cost_seconds", measured.cost_seconds)
                if error is None:
                    self._storage.set_trial_user_attr(claim.id, "values", _floats(measured.values))
                    self._storage.set_trial_state_values(claim.id, TrialState.COMPLETE, wanted)
                else:
                    self._storage.set_trial_user_attr(claim.id, "error", error)
                    self._storage.set_trial_state_values(claim.id, TrialState.FAIL)
            except optuna.exceptions.UpdateFinishedTrialError:
                pass
            self._ledger.read(self._storage.get_trial(claim.id))
        self._open.pop(claim.number, None)
        return self._ledger.trial(claim.number)

    def withdraw(self, claim: Claim) -> None:
        """Give up a claim; its architecture is pending again, unless another process has it."""
        with using(self._place):
            self._give_up(claim.id)
            self._ledger.read(self._storage.get_trial(claim.id))
        self._open.pop(claim.number, None)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Keep the claims of this process alive while the body runs, and give up those that it leaves open."""
        with at_work(self._owner), beating(self._beat) if self._place is not None else nullcontext():
            try:
                yield
            finally:
                if self._open:
                    with using(self._place):
                        while self._open:
                            self._give_up(self._open.popitem()[1])
                    self.refresh()

    @property
    def open_claims(self) -> int:
        """Claims of this object that are neither finished nor withdrawn."""
        return len(self._open)

    def _beat(self) -> None:
        self._pulse += 1
        for trial in list(self._open.values()):
            self._storage.set_trial_user_attr(trial, "pulse", self._pulse)

    def _give_up(self, trial: int) -> None:
        # it may be finished after all, or given up by another process as well
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_state_values(trial, TrialState.FAIL)

    # -- writing and reading whole ------------------------------------------------------------------------------

    def record(self, archs: Sequence[Architecture], measurements: Sequence[Measurement]) -> list[Trial]:
        """Store evaluations that were made elsewhere; each is one atomic write. Returns them as trials."""
        numbers = []
        for arch, measured in zip(archs, measurements, strict=True):
            wanted = [measured.values.get(o.metric, math.nan) for o in self.directions]
            error = self._error(measured, wanted)
            attrs: dict[str, Any] = {"arch": self.space.format(arch), "cost_seconds": measured.cost_seconds}
            if error is None:
                attrs["values"] = _floats(measured.values)
                template = self._template(TrialState.COMPLETE, arch, attrs, wanted)
            else:
                template = self._template(TrialState.FAIL, arch, {**attrs, "error": error})
            with using(self._place):
                trial = self._storage.create_new_trial(self._id, template)
                numbers.append(self._storage.get_trial(trial).number)
        self.refresh()
        return [trial for trial in map(self._ledger.trial, numbers) if trial is not None]

    def _error(self, measured: Measurement, wanted: Sequence[float]) -> str | None:
        broken = [o.metric for o, value in zip(self.directions, wanted, strict=True) if not math.isfinite(value)]
        return measured.error or (f"{broken[0]} is not finite" if broken else None)

    def _template(
        self, state: TrialState, arch: Architecture, attrs: dict[str, Any], values: Sequence[float] | None = None
    ) -> FrozenTrial:
        choices = self.space.to_choices(arch)
        return optuna.trial.create_trial(
            state=state,
            values=values,
            params={name: self.space.variables[name][index] for name, index in choices.items()},
            distributions=self._distributions,
            user_attrs=attrs,
        )

    def to_frame(self, metrics: Sequence[str] = ()) -> pd.DataFrame:
        """`trial`, `arch`, a column a metric, `cost_seconds`, `state`, in the order begun.

        Args:
            metrics: Columns to show first, in this order, even when no trial has them.
        """
        return trials_frame(self.trials, self.space.format, metrics)


def _floats(values: dict[str, float]) -> dict[str, float]:
    return {metric: float(value) for metric, value in values.items()}
