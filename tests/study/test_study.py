"""Trials survive whatever happens to the process, and a search that was cut off goes on as if it had not been."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from sqlalchemy.pool import NullPool

from archgen.errors import InvalidObjective, RunConflict
from archgen.evaluators import Evaluator, Measurement
from archgen.generators import DiscreteFlow
from archgen.graph import Architecture
from archgen.objectives import Objective, at_most, maximize, minimize
from archgen.spaces import CellSpace, SearchSpace
from archgen.strategies import STRATEGIES, Random, SearchStrategy
from archgen.study import COMPLETE, FAILED, Study, Trial, search

WISHES = [maximize("acc"), at_most("latency_ms", 5.0)]
TINY = CellSpace("tiny", 2, {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}, {})


class Synthetic(Evaluator):
    """`acc` and `latency_ms` are sums over the choices; evaluations number `cut` and up are cut off by Ctrl-C."""

    def __init__(self, space: SearchSpace, cut: int | None = None) -> None:
        rng = np.random.default_rng(5)
        self.space, self.cut, self.paid = space, cut, 0
        self.weights = {name: rng.uniform(0, 2, (len(v), 2)) for name, v in space.variables.items()}

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("acc", "latency_ms")

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        if self.paid == self.cut:
            raise KeyboardInterrupt
        self.paid += len(archs)
        return [self.measure(arch, seed) for arch in archs]

    def measure(self, arch: Architecture, seed: int) -> Measurement:
        choices = self.space.to_choices(arch)
        if sum(choices.values()) % 3 == 0:
            return Measurement({}, 0.125, "this one does not train")
        acc, latency = np.sum([self.weights[name][i] for name, i in choices.items()], axis=0).tolist()
        return Measurement({"acc": acc + seed, "latency_ms": latency}, 0.25)


class Scripted(Evaluator):
    """Gives, or raises, one thing after the other."""

    def __init__(self, *things: Measurement | BaseException | list[Measurement]) -> None:
        self.things = iter(things)

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("acc",)

    def evaluate(self, archs: Sequence[Architecture], *, seed: int) -> list[Measurement]:
        thing = next(self.things)
        if isinstance(thing, BaseException):
            raise thing
        return thing if isinstance(thing, list) else [thing]


def strategy(name: str, space: SearchSpace, seed: int = 0) -> SearchStrategy:
    """One that begins to learn within a few trials."""
    extra: dict[str, Any] = {"evolution": {"population": 4, "sample": 2}}.get(name, {})
    if name == "generative":
        with torch.random.fork_rng():
            torch.manual_seed(0)
            flow = DiscreteFlow(space.node_domain, space.edge_domain, width=8, layers=1, heads=2).eval()
        extra = {"generator": flow, "initial": 3, "pool": 8, "steps": 2}
    return STRATEGIES[name](space, WISHES, seed=seed, **extra)


def measured(**values: float) -> Measurement:
    return Measurement(values, 0.5)


def opened(path: Path) -> optuna.Study:
    """What Optuna itself reads there."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"poolclass": NullPool})
    return optuna.load_study(study_name="archgen", storage=storage)


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert text
    assert "\n" not in text
    assert len(text) < 600
    return text


# -- what is kept ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", [False, True])
def test_recorded_trials_are_numbered_in_order_with_their_values(
    space: SearchSpace, rng: np.random.Generator, tmp_path: Path, on_disk: bool
) -> None:
    archs = space.sample(3, rng)
    study = Study(space, WISHES, storage=tmp_path / "study.db" if on_disk else None)
    first = study.record(archs[:2], [measured(acc=1.0, latency_ms=2.0), Measurement({}, 0.125, "it broke")])
    second = study.record(archs[2:], [measured(acc=3.0, latency_ms=4.0, extra=5.0)])
    assert first + second == study.trials
    assert study.trials == [
        Trial(0, archs[0], {"acc": 1.0, "latency_ms": 2.0}, 0.5, COMPLETE),
        Trial(1, archs[1], {}, 0.125, FAILED, "it broke"),
        Trial(2, archs[2], {"acc": 3.0, "latency_ms": 4.0, "extra": 5.0}, 0.5, COMPLETE),
    ]


def test_a_resumed_study_has_the_same_trials_to_the_bit(
    space: SearchSpace, rng: np.random.Generator, tmp_path: Path
) -> None:
    values = [0.1 + 0.2, 1e-300, -1e300, 1 / 3, 5e-324]
    study = Study(space, WISHES, storage=tmp_path / "study.db")
    study.record(space.sample(5, rng), [Measurement({"acc": v, "latency_ms": -v}, abs(v)) for v in values])
    again = Study(space, WISHES, storage=tmp_path / "study.db", resume=True)
    assert again.trials == study.trials
    assert [t.values["acc"] for t in again.trials] == values
    assert [t.cost_seconds for t in again.trials] == list(map(abs, values))


def test_resume_of_nothing_is_a_new_study(space: SearchSpace, tmp_path: Path) -> None:
    assert Study(space, WISHES, storage=tmp_path / "study.db", resume=True).trials == []


def test_two_studies_of_one_database_do_not_mix(space: SearchSpace, rng: np.random.Generator, tmp_path: Path) -> None:
    a = Study(space, WISHES, storage=tmp_path / "study.db", name="a")
    b = Study(space, [minimize("acc")], storage=tmp_path / "study.db", name="b")
    a.record(space.sample(1, rng), [measured(acc=1.0)])
    assert b.trials == []
    assert len(Study(space, WISHES, storage=tmp_path / "study.db", name="a", resume=True).trials) == 1


def test_optuna_reads_the_study_and_agrees_on_the_best(
    space: SearchSpace, rng: np.random.Generator, tmp_path: Path
) -> None:
    archs = space.sample(4, rng)
    study = Study(space, WISHES, storage=tmp_path / "study.db")
    study.record(archs, [measured(acc=1.0), measured(acc=7.5), Measurement({}, 0.0, "it broke"), measured(acc=3.0)])
    theirs = opened(tmp_path / "study.db")
    assert theirs.best_value == 7.5
    assert theirs.best_trial.number == 1
    assert theirs.best_trial.user_attrs["arch"] == space.format(archs[1])
    chosen = space.to_choices(archs[1])
    assert theirs.best_params == {name: space.variables[name][i] for name, i in chosen.items()}
    states = optuna.trial.TrialState
    assert [t.state for t in theirs.trials] == [states.COMPLETE, states.COMPLETE, states.FAIL, states.COMPLETE]
    assert theirs.trials[2].user_attrs["error"] == "it broke"


def test_optuna_learns_the_directions(space: SearchSpace, tmp_path: Path) -> None:
    Study(space, [minimize("loss"), at_most("latency_ms", 1.0), maximize("acc")], storage=tmp_path / "study.db")
    directions = optuna.study.StudyDirection
    assert opened(tmp_path / "study.db").directions == [directions.MINIMIZE, directions.MAXIMIZE]


def test_the_log_level_of_optuna_stays_the_callers(space: SearchSpace, capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    Study(space, WISHES)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr().err == ""


def test_the_table_has_its_columns_in_the_promised_order(space: SearchSpace, rng: np.random.Generator) -> None:
    archs = space.sample(3, rng)
    study = Study(space, WISHES)
    study.record(
        archs, [measured(acc=1.0, latency_ms=2.0), Measurement({}, 0.1, "it broke"), measured(acc=2.0, extra=9.0)]
    )
    frame = study.to_frame(["latency_ms", "absent", "acc"])
    assert list(frame) == ["trial", "arch", "latency_ms", "absent", "acc", "extra", "cost_seconds", "state", "error"]
    assert frame["error"].tolist() == ["", "it broke", ""]
    assert frame["trial"].tolist() == [0, 1, 2]
    assert frame["arch"].tolist() == [space.format(arch) for arch in archs]
    assert frame["state"].tolist() == ["complete", "failed", "complete"]
    assert frame["cost_seconds"].tolist() == [0.5, 0.1, 0.5]
    nan = math.nan
    expected = {"latency_ms": [2.0, nan, nan], "absent": [nan] * 3, "acc": [1.0, nan, 2.0], "extra": [nan, nan, 9.0]}
    pd.testing.assert_frame_equal(frame[list(expected)], pd.DataFrame(expected))


def test_the_table_of_no_trials_still_has_its_columns(space: SearchSpace) -> None:
    frame = Study(space, WISHES).to_frame(["acc"])
    assert list(frame) == ["trial", "arch", "acc", "cost_seconds", "state"]
    assert len(frame) == 0


# -- what is refused ---------------------------------------------------------------------------------------------


def test_an_existing_study_is_not_touched_without_resume(
    space: SearchSpace, rng: np.random.Generator, tmp_path: Path
) -> None:
    Study(space, WISHES, storage=tmp_path / "study.db").record(space.sample(1, rng), [measured(acc=1.0)])
    before = (tmp_path / "study.db").read_bytes()
    with pytest.raises(RunConflict, match=r"study\.db holds a study 'archgen' already; resume it or use") as error:
        Study(space, WISHES, storage=tmp_path / "study.db")
    one_line(error)
    assert (tmp_path / "study.db").read_bytes() == before


@pytest.mark.parametrize("wishes", [[maximize("acc")], [minimize("acc"), WISHES[1]], [*WISHES, maximize("b")]])
def test_a_study_of_other_wishes_is_refused(space: SearchSpace, tmp_path: Path, wishes: list[Objective]) -> None:
    Study(space, WISHES, storage=tmp_path / "study.db")
    with pytest.raises(RunConflict, match="resume it with the same space and objectives") as error:
        Study(space, wishes, storage=tmp_path / "study.db", resume=True)
    assert repr(wishes[0]) in one_line(error)
    assert Study(space, WISHES, storage=tmp_path / "study.db", resume=True).trials == []


def test_a_study_of_another_space_is_refused(space: SearchSpace, tmp_path: Path) -> None:
    Study(space, WISHES, storage=tmp_path / "study.db")
    with pytest.raises(RunConflict, match=r"for \{'space': 'nasbench201'.*asked for \{'space': 'tiny'") as error:
        Study(TINY, WISHES, storage=tmp_path / "study.db", resume=True)
    one_line(error)


def test_a_study_of_another_program_is_refused_and_left_alone(space: SearchSpace, tmp_path: Path) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db", engine_kwargs={"poolclass": NullPool})
    other = optuna.create_study(storage=storage, study_name="archgen", direction="maximize")
    other.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(RunConflict, match="trial 0 was not written by archgen; use another study"):
        Study(space, WISHES, storage=tmp_path / "study.db", resume=True)
    assert opened(tmp_path / "study.db").user_attrs == {}


def _garbage(path: Path) -> Path:
    path.write_bytes(b"this is no database" * 500)
    return path


def _truncated(path: Path) -> Path:
    Study(TINY, WISHES, storage=path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


PLACES: dict[str, tuple[Callable[[Path], Path | str], str]] = {
    "garbage": (_garbage, "file is not a database"),
    "truncated": (_truncated, "malformed"),
    "a folder": (lambda path: path.parent, "unable to open"),
    "no folder": (lambda path: path.parent / "absent" / "study.db", "unable to open"),
    "no URL": (lambda path: "study of mine", "URL"),
    "an unknown kind of database": (lambda path: "abacus://host/study", "abacus"),
}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("case", list(PLACES))
def test_what_can_not_be_a_database_is_refused_in_one_line(tmp_path: Path, case: str, resume: bool) -> None:
    make, message = PLACES[case]
    place = make(tmp_path / "study.db")
    before = place.read_bytes() if isinstance(place, Path) and place.is_file() else None
    with pytest.raises(RunConflict, match=f"can not be used as a study database: .*{message}.*; check path") as error:
        Study(TINY, WISHES, storage=place, resume=resume)
    assert str(place) in one_line(error)
    if before is not None:
        assert isinstance(place, Path)
        assert place.read_bytes() == before


def test_a_read_only_database_is_refused_in_one_line(
    space: SearchSpace, rng: np.random.Generator, tmp_path: Path
) -> None:
    Study(space, WISHES, storage=tmp_path / "study.db").record(space.sample(1, rng), [measured(acc=1.0)])
    url = f"sqlite:///file:{tmp_path}/study.db?mode=ro&uri=true"  # rights of files do not bind every user
    with pytest.raises(RunConflict, match="readonly database") as error:
        Study(space, WISHES, storage=url, resume=True)
    one_line(error)
    assert len(Study(space, WISHES, storage=tmp_path / "study.db", resume=True).trials) == 1


@pytest.mark.parametrize("wishes", [[], [at_most("latency_ms", 1.0)]])
def test_a_search_without_direction_is_refused(space: SearchSpace, tmp_path: Path, wishes: list[Objective]) -> None:
    with pytest.raises(InvalidObjective, match="something to maximize or minimize"):
        Study(space, wishes, storage=tmp_path / "study.db")
    assert not (tmp_path / "study.db").exists()


def test_a_database_that_fills_up_ends_the_search_in_one_line_and_keeps_the_trials(
    space: SearchSpace, tmp_path: Path
) -> None:
    study = Study(space, WISHES, storage=tmp_path / "study.db")
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON trials WHEN (SELECT COUNT(*) FROM trials) >= 3 "
            "BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
        )
        database.commit()
    with pytest.raises(RunConflict, match=r"study can not be written: .*disk is full.*then resume") as error:
        search(study, strategy("random", space), Synthetic(space), budget=8, batch=2)
    one_line(error)
    assert len(study.trials) == 3
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        database.execute("DROP TRIGGER full")
        database.commit()
    again = Study(space, WISHES, storage=tmp_path / "study.db", resume=True)
    assert again.trials == study.trials
    resumed = search(again, strategy("random", space), Synthetic(space), budget=8, batch=2)
    assert resumed == search(Study(space, WISHES), strategy("random", space), Synthetic(space), budget=8, batch=2)


# -- the loop ----------------------------------------------------------------------------------------------------


BAD: dict[str, Measurement | Exception | list[Measurement]] = {
    "NaN": measured(acc=math.nan),
    "infinite": measured(acc=math.inf),
    "minus infinite": measured(acc=-math.inf),
    "metric missing": measured(other=1.0),
    "said so": Measurement({}, 0.0, "it diverged"),
    "said so with a value": Measurement({"acc": 1.0}, 0.0, "it diverged"),
    "exception": RuntimeError("it\nbroke"),
    "no answer": [],
}


@pytest.mark.parametrize("case", list(BAD))
def test_a_failed_evaluation_becomes_a_failed_trial_and_the_loop_goes_on(
    space: SearchSpace, tmp_path: Path, case: str
) -> None:
    study = Study(space, [maximize("acc")], storage=tmp_path / "study.db")
    evaluator = Scripted(measured(acc=1.0), BAD[case], measured(acc=2.0))
    trials = search(study, Random(space, [maximize("acc")]), evaluator, budget=3)
    assert [t.state for t in trials] == ["complete", "failed", "complete"]
    assert trials[1].values == {}
    assert trials == Study(space, [maximize("acc")], storage=tmp_path / "study.db", resume=True).trials
    theirs = opened(tmp_path / "study.db")
    assert theirs.best_value == 2.0
    assert theirs.trials[1].user_attrs["error"].count("\n") == 0


@pytest.mark.parametrize("error", [MemoryError(), OSError("no space left on device"), KeyboardInterrupt()])
def test_what_the_machine_does_is_not_blamed_on_the_architecture(space: SearchSpace, error: BaseException) -> None:
    study = Study(space, [maximize("acc")])
    with pytest.raises(type(error)):
        search(study, Random(space, [maximize("acc")]), Scripted(measured(acc=1.0), error), budget=3)
    assert [t.state for t in study.trials] == ["complete"]


def test_the_budget_counts_the_trials_that_are_there_already(space: SearchSpace, tmp_path: Path) -> None:
    for budget in (3, 7, 5):
        study = Study(space, WISHES, storage=tmp_path / "study.db", resume=True)
        trials = search(study, strategy("random", space), Synthetic(space), budget=budget, batch=2)
        assert len(trials) == (3 if budget == 3 else 7)


def test_every_trial_is_reported_once_and_the_seed_reaches_the_evaluator(space: SearchSpace) -> None:
    seen: list[Trial] = []
    study = Study(space, WISHES)
    trials = search(study, strategy("random", space), Synthetic(space), budget=7, batch=3, seed=2, on_trial=seen.append)
    assert seen == trials == study.trials
    plain = search(Study(space, WISHES), strategy("random", space), Synthetic(space), budget=7, batch=3)
    shifts = [a.values["acc"] - b.values["acc"] for a, b in zip(trials, plain, strict=True) if a.state == COMPLETE]
    assert shifts == pytest.approx([2.0] * len(shifts))


def test_the_loop_ends_when_the_space_does() -> None:
    trials = search(
        Study(TINY, [maximize("acc")]),
        Random(TINY, [maximize("acc")]),
        Scripted(*[measured(acc=float(i)) for i in range(9)]),
        budget=9,
        batch=2,
    )
    assert len(trials) == 3
    assert {t.arch for t in trials} == set(TINY.enumerate())


# -- cut off and resumed -----------------------------------------------------------------------------------------

BUDGET, BATCH = 11, 4
WHOLE: dict[str, list[Trial]] = {}
"""The uninterrupted search of each strategy, run once."""


def whole(name: str, space: SearchSpace) -> list[Trial]:
    if name not in WHOLE:
        WHOLE[name] = search(Study(space, WISHES), strategy(name, space), Synthetic(space), budget=BUDGET, batch=BATCH)
        assert len(WHOLE[name]) == BUDGET
        assert {t.state for t in WHOLE[name]} == {COMPLETE, FAILED}
    return WHOLE[name]


@pytest.mark.parametrize("cuts", [(0,), (4,), (6,), (10,), (2, 3, 1)])
@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_search_that_was_cut_off_goes_on_as_if_it_had_not_been(
    name: str, cuts: tuple[int, ...], space: SearchSpace, tmp_path: Path
) -> None:
    """Cut off between batches, in the middle of one, before the first, in the last, and several times."""
    done = 0
    for cut in cuts:
        study = Study(space, WISHES, storage=tmp_path / "study.db", resume=True)
        with pytest.raises(KeyboardInterrupt):
            search(study, strategy(name, space), Synthetic(space, cut), budget=BUDGET, batch=BATCH)
        done = len(study.trials)
        assert study.trials == whole(name, space)[:done]
    assert 0 <= done < BUDGET
    study = Study(space, WISHES, storage=tmp_path / "study.db", resume=True)
    assert len(study.trials) == done
    assert search(study, strategy(name, space), Synthetic(space), budget=BUDGET, batch=BATCH) == whole(name, space)


def test_nothing_is_paid_for_twice_after_a_cut(space: SearchSpace, tmp_path: Path) -> None:
    study = Study(space, WISHES, storage=tmp_path / "study.db")
    with pytest.raises(KeyboardInterrupt):
        search(study, strategy("random", space), Synthetic(space, 6), budget=BUDGET, batch=BATCH)
    rest = Synthetic(space)
    again = Study(space, WISHES, storage=tmp_path / "study.db", resume=True)
    search(again, strategy("random", space), rest, budget=BUDGET, batch=BATCH)
    assert rest.paid == BUDGET - 6


def test_a_cut_while_a_trial_is_shown_keeps_that_trial(space: SearchSpace) -> None:
    study = Study(space, WISHES)

    def stop(trial: Trial) -> None:
        if trial.number == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(study, strategy("random", space), Synthetic(space), budget=BUDGET, batch=BATCH, on_trial=stop)
    assert len(study.trials) == 6
    trials = search(study, strategy("random", space), Synthetic(space), budget=BUDGET, batch=BATCH)
    assert trials == whole("random", space)


def test_a_strategy_that_goes_on_is_told_each_trial_once(space: SearchSpace) -> None:
    study, proposer = Study(space, WISHES), strategy("evolution", space)
    search(study, proposer, Synthetic(space), budget=4, batch=BATCH)
    with pytest.raises(KeyboardInterrupt):
        search(study, proposer, Synthetic(space, 2), budget=BUDGET, batch=BATCH)
    trials = search(study, proposer, Synthetic(space), budget=BUDGET, batch=BATCH)
    assert trials == whole("evolution", space) == proposer.trials


def test_a_smaller_budget_leaves_the_rest_of_a_batch_for_later(space: SearchSpace, tmp_path: Path) -> None:
    study = Study(space, WISHES, storage=tmp_path / "study.db")
    with pytest.raises(KeyboardInterrupt):
        search(study, strategy("random", space), Synthetic(space, 5), budget=BUDGET, batch=BATCH)
    left = study.pending()
    assert len(left) == 3
    for budget in (6, BUDGET):
        study = Study(space, WISHES, storage=tmp_path / "study.db", resume=True)
        assert study.pending() == left[len(study.trials) - 5 :]
        trials = search(study, strategy("random", space), Synthetic(space), budget=budget, batch=BATCH)
    assert trials == whole("random", space)
    assert study.pending() == []
