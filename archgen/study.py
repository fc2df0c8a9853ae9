"""Trials, kept in Optuna's storage, and the one loop that serves every search strategy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pandas as pd
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from archgen.errors import InvalidObjective, RunConflict
from archgen.evaluators.base import Evaluator, Measurement
from archgen.graph import Architecture
from archgen.objectives import Objective, check, directions
from archgen.spaces import SearchSpace

if TYPE_CHECKING:
    from archgen.strategies.base import SearchStrategy

COMPLETE, FAILED = "complete", "failed"


@dataclass(frozen=True)
class Trial:
    """One evaluated architecture.

    Args:
        number: Place in the order evaluated, from 0.
        arch: The architecture.
        values: Value of each metric; empty when it failed.
        cost_seconds: What the evaluation cost.
        state: `complete` or `failed`.
    """

    number: int
    arch: Architecture
    values: dict[str, float]
    cost_seconds: float
    state: str = COMPLETE


class Study:
    """The trials of one search, in an Optuna storage.

    Trials carry the space's variables as categorical parameters, the values of the directions as objective values,
    and `arch`, all metrics and the cost as attributes, so Optuna's own tools read them.

    Args:
        space: The search space.
        objectives: The wishes; at least one direction.
        storage: Path of an SQLite file, a database URL, or None to keep the trials in memory.
        name: Name of the study in the storage.
        resume: Whether trials may be there already.

    Raises:
        InvalidObjective: No direction, or contradicting wishes.
        RunConflict: The storage has trials and `resume` is off, or they are of another space or other wishes, or
            the storage can not be opened.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        storage: Path | str | None = None,
        name: str = "archgen",
        resume: bool = False,
    ) -> None:
        check(objectives)
        self.space, self.objectives = space, list(objectives)
        self.directions = directions(objectives)
        if not self.directions:
            raise InvalidObjective("a search needs something to maximize or minimize; only bounds were given")
        identity = {"space": space.name, "objectives": [repr(o) for o in objectives]}
        try:
            with _quiet_optuna():
                self._study = optuna.create_study(
                    storage=_sqlite(storage) if isinstance(storage, Path) else storage,
                    study_name=name,
                    directions=["maximize" if o.sign > 0 else "minimize" for o in self.directions],
                    sampler=optuna.samplers.RandomSampler(seed=0),  # never asked: strategies propose
                    load_if_exists=resume,
                )
            known = self._study.user_attrs
            if known.get("identity", identity) != identity:
                raise RunConflict(
                    f"study '{name}' in {storage} is for {known['identity']}, asked for {identity}; "
                    "resume it with the same space and objectives, or use another place"
                )
            self._trials = [self._from_optuna(t) for t in self._study.get_trials(deepcopy=False)]
            self._study.set_user_attr("identity", identity)  # after the checks: a foreign study stays as it is
        except optuna.exceptions.DuplicatedStudyError:
            raise RunConflict(f"{storage} holds a study '{name}' already; resume it or use another place") from None
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError, ValueError) as error:
            line = " ".join(str(error.__cause__ or error).split())[:160]
            raise RunConflict(f"{storage} can not be used as a study database: {line}; check path and rights") from None

    @property
    def trials(self) -> list[Trial]:
        """All trials, in the order evaluated."""
        return list(self._trials)

    def record(self, archs: Sequence[Architecture], measurements: Sequence[Measurement]) -> list[Trial]:
        """Store finished evaluations; each is one atomic write. Returns them as trials."""
        return [self._record(arch, measured) for arch, measured in zip(archs, measurements, strict=True)]

    def _record(self, arch: Architecture, measured: Measurement) -> Trial:
        wanted = [measured.values.get(o.metric, math.nan) for o in self.directions]
        failed = measured.error is not None or not all(map(math.isfinite, wanted))
        choices = self.space.to_choices(arch)
        values = {} if failed else {metric: float(v) for metric, v in measured.values.items()}
        attrs: dict[str, Any] = {
            "arch": self.space.format(arch),
            "cost_seconds": measured.cost_seconds,
            "values": values,
        }
        if failed:
            attrs["error"] = measured.error or f"{self.directions[0].metric} is not finite"
        state = optuna.trial.TrialState.FAIL if failed else optuna.trial.TrialState.COMPLETE
        frozen = optuna.trial.create_trial(
            state=state,
            values=None if failed else wanted,
            params={name: self.space.variables[name][index] for name, index in choices.items()},
            distributions={
                name: optuna.distributions.CategoricalDistribution(options)
                for name, options in self.space.variables.items()
            },
            user_attrs=attrs,
        )
        with self._writing():
            self._study.add_trial(frozen)
        trial = Trial(len(self._trials), arch, values, measured.cost_seconds, FAILED if failed else COMPLETE)
        self._trials.append(trial)
        return trial

    def _from_optuna(self, trial: optuna.trial.FrozenTrial) -> Trial:
        attrs = trial.user_attrs
        if "arch" not in attrs:
            raise RunConflict(f"trial {trial.number} was not written by archgen; use another study")
        state = COMPLETE if trial.state == optuna.trial.TrialState.COMPLETE else FAILED
        return Trial(trial.number, self.space.parse(attrs["arch"]), attrs["values"], attrs["cost_seconds"], state)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what databases raise (disk full, locked, read-only) into one line."""
        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            line = " ".join(str(error.__cause__ or error).split())[:160]
            raise RunConflict(
                f"the study can not be written: {line}; free the disk or check rights, then resume"
            ) from None

    # A batch that was asked for but not finished is kept, so that a resumed search evaluates the same architectures.

    def set_pending(self, archs: Sequence[Architecture]) -> None:
        """Remember a batch that is about to be evaluated."""
        batch = {"at": len(self._trials), "archs": [self.space.format(a) for a in archs]}
        with self._writing():
            self._study.set_user_attr("pending", batch)

    def pending(self) -> list[Architecture]:
        """Architectures of the last batch that have no trial yet."""
        batch = self._study.user_attrs.get("pending", {"at": 0, "archs": []})
        return [self.space.parse(text) for text in batch["archs"][len(self._trials) - batch["at"] :]]

    def to_frame(self, metrics: Sequence[str] = ()) -> pd.DataFrame:
        """`trial`, `arch`, a column a metric, `cost_seconds`, `state`, in the order evaluated.

        Args:
            metrics: Columns to show first, in this order, even when no trial has them.
        """
        seen = dict.fromkeys([*metrics, *(m for t in self._trials for m in t.values)])
        columns: dict[str, Any] = {
            "trial": [t.number for t in self._trials],
            "arch": [self.space.format(t.arch) for t in self._trials],
            **{m: [t.values.get(m, math.nan) for t in self._trials] for m in seen},
            "cost_seconds": [t.cost_seconds for t in self._trials],
            "state": [t.state for t in self._trials],
        }
        return pd.DataFrame(columns)


def _sqlite(path: Path) -> optuna.storages.RDBStorage:
    """A storage that closes its connection after each use; a pool would leave open files to the garbage collector."""
    return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"poolclass": NullPool})


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """No line for every study on standard error; the level is the caller's again afterwards."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def search(
    study: Study,
    strategy: SearchStrategy,
    evaluator: Evaluator,
    *,
    budget: int,
    batch: int = 1,
    seed: int = 0,
    on_trial: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Ask, evaluate, tell, until `budget` trials are in the study or the strategy has nothing left to propose.

    A study with trials is continued: the strategy is told those it does not know yet, and a batch that was cut off is
    finished.

    Args:
        study: Where trials are kept.
        strategy: Proposes.
        evaluator: Measures; an exception of one evaluation (not Ctrl-C) becomes a failed trial.
        budget: Trials in all, those already in the study included.
        batch: Architectures asked for at a time.
        seed: Passed to the evaluator.
        on_trial: Called after each trial.

    Returns:
        All trials of the study.
    """
    pending = study.pending()
    strategy.tell(study.trials[len(strategy.trials) :])
    while len(study.trials) < budget:
        if not pending:
            pending = strategy.ask(min(batch, budget - len(study.trials)))
            if not pending:
                break
            study.set_pending(pending)
        finished = []
        for arch in pending[: budget - len(study.trials)]:
            finished += study.record([arch], [_evaluate(evaluator, arch, seed)])
            if on_trial is not None:
                on_trial(finished[-1])
        strategy.tell(finished)
        pending = []
    return study.trials


def _evaluate(evaluator: Evaluator, arch: Architecture, seed: int) -> Measurement:
    try:
        return evaluator.evaluate([arch], seed=seed)[0]
    except (MemoryError, OSError):  # of the machine, not of the architecture
        raise
    except Exception as error:  # the loop goes on whatever one architecture does
        return Measurement({}, 0.0, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
