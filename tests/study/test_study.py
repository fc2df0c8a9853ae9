"""Trials survive whatever happens to the process, and places that can not hold a study are refused in one line."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import optuna
import pytest
from sqlalchemy.pool import NullPool

from archgen.errors import InvalidObjective, RunConflict
from archgen.evaluators import Measurement
from archgen.objectives import Objective, at_most, maximize, minimize
from archgen.spaces import CellSpace, SearchSpace
from archgen.study import COMPLETE, FAILED, Study, Trial

Measured = Callable[..., Measurement]
OneLine = Callable[[pytest.ExceptionInfo[BaseException]], str]
Opened = Callable[[Path], optuna.Study]


# -- what is kept ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", [False, True])
def test_recorded_trials_are_numbered_in_order_with_their_values(
    space: SearchSpace,
    rng: np.random.Generator,
    tmp_path: Path,
    on_disk: bool,
    wishes: list[Objective],
    measured: Measured,
) -> None:
    archs = space.sample(3, rng)
    study = Study(space, wishes, storage=tmp_path / "study.db" if on_disk else None)
    first = study.record(archs[:2], [measured(acc=1.0, latency_ms=2.0), Measurement({}, 0.125, "it broke")])
    second = study.record(archs[2:], [measured(acc=3.0, latency_ms=4.0, extra=5.0)])
    assert first + second == study.trials
    assert study.trials == [
        Trial(0, archs[0], {"acc": 1.0, "latency_ms": 2.0}, 0.5, COMPLETE),
        Trial(1, archs[1], {}, 0.125, FAILED, "it broke"),
        Trial(2, archs[2], {"acc": 3.0, "latency_ms": 4.0, "extra": 5.0}, 0.5, COMPLETE),
    ]


def test_a_resumed_study_has_the_same_trials_to_the_bit(
    space: SearchSpace, rng: np.random.Generator, tmp_path: Path, wishes: list[Objective]
) -> None:
    values = [0.1 + 0.2, 1e-300, -1e300, 1 / 3, 5e-324]
    study = Study(space, wishes, storage=tmp_path / "study.db")
    study.record(space.sample(5, rng), [Measurement({"acc": v, "latency_ms": -v}, abs(v)) for v in values])
    again = Study(space, wishes, storage=tmp_path / "study.db", resume=True)
    assert again.trials == study.trials
    assert [t.values["acc"] for t in again.trials] == values
    assert [t.cost_seconds for t in again.trials] == list(map(abs, values))


def test_resume_of_nothing_is_a_new_study(space: SearchSpace, tmp_path: Path, wishes: list[Objective]) -> None:
    assert Study(space, wishes, storage=tmp_path / "study.db", resume=True).trials == []


def test_two_studies_of_one_database_do_not_mix(
    space: SearchSpace, rng: np.random.Generator, tmp_path: Path, wishes: list[Objective], measured: Measured
) -> None:
    a = Study(space, wishes, storage=tmp_path / "study.db", name="a")
    b = Study(space, [minimize("acc")], storage=tmp_path / "study.db", name="b")
    a.record(space.sample(1, rng), [measured(acc=1.0)])
    assert b.trials == []
    assert len(Study(space, wishes, storage=tmp_path / "study.db", name="a", resume=True).trials) == 1


def test_optuna_reads_the_study_and_agrees_on_the_best(
    space: SearchSpace,
    rng: np.random.Generator,
    tmp_path: Path,
    wishes: list[Objective],
    measured: Measured,
    opened: Opened,
) -> None:
    archs = space.sample(4, rng)
    study = Study(space, wishes, storage=tmp_path / "study.db")
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


def test_optuna_learns_the_directions(space: SearchSpace, tmp_path: Path, opened: Opened) -> None:
    Study(space, [minimize("loss"), at_most("latency_ms", 1.0), maximize("acc")], storage=tmp_path / "study.db")
    directions = optuna.study.StudyDirection
    assert opened(tmp_path / "study.db").directions == [directions.MINIMIZE, directions.MAXIMIZE]


def test_the_log_level_of_optuna_stays_the_callers(
    space: SearchSpace, capfd: pytest.CaptureFixture[str], wishes: list[Objective]
) -> None:
    before = optuna.logging.get_verbosity()
    Study(space, wishes)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr().err == ""


# -- what is refused ---------------------------------------------------------------------------------------------


def test_an_existing_study_is_not_touched_without_resume(
    space: SearchSpace,
    rng: np.random.Generator,
    tmp_path: Path,
    wishes: list[Objective],
    measured: Measured,
    one_line: OneLine,
) -> None:
    Study(space, wishes, storage=tmp_path / "study.db").record(space.sample(1, rng), [measured(acc=1.0)])
    before = (tmp_path / "study.db").read_bytes()
    with pytest.raises(RunConflict, match=r"study\.db holds a study 'archgen' already; resume it or use") as error:
        Study(space, wishes, storage=tmp_path / "study.db")
    one_line(error)
    assert (tmp_path / "study.db").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        lambda wishes: [maximize("acc")],
        lambda wishes: [minimize("acc"), wishes[1]],
        lambda wishes: [*wishes, maximize("b")],
    ],
    ids=["fewer", "another direction", "more"],
)
def test_a_study_of_other_wishes_is_refused(
    space: SearchSpace,
    tmp_path: Path,
    change: Callable[[list[Objective]], list[Objective]],
    wishes: list[Objective],
    one_line: OneLine,
) -> None:
    others = change(wishes)
    Study(space, wishes, storage=tmp_path / "study.db")
    with pytest.raises(RunConflict, match="resume it with the same space and objectives") as error:
        Study(space, others, storage=tmp_path / "study.db", resume=True)
    assert repr(others[0]) in one_line(error)
    assert Study(space, wishes, storage=tmp_path / "study.db", resume=True).trials == []


def test_a_study_of_another_space_is_refused(
    space: SearchSpace, tmp_path: Path, wishes: list[Objective], tiny: CellSpace, one_line: OneLine
) -> None:
    Study(space, wishes, storage=tmp_path / "study.db")
    with pytest.raises(RunConflict, match=r"for \{'space': 'nasbench201'.*asked for \{'space': 'tiny'") as error:
        Study(tiny, wishes, storage=tmp_path / "study.db", resume=True)
    one_line(error)


def test_a_study_that_another_evaluator_measured_is_refused(
    space: SearchSpace,
    rng: np.random.Generator,
    tmp_path: Path,
    wishes: list[Objective],
    measured: Measured,
    one_line: OneLine,
) -> None:
    """One that says nothing is let in, and takes nothing from what is known; the first to say something is kept."""

    def study(measured_by: str | None) -> Study:
        return Study(space, wishes, storage=tmp_path / "study.db", resume=True, measured_by=measured_by)

    study(None).record(space.sample(1, rng), [measured(acc=1.0)])
    assert len(study("table a").trials) == 1
    with pytest.raises(RunConflict, match=r"was measured by table a, asked for table b; go on with the same") as error:
        study("table b")
    one_line(error)
    assert len(study(None).trials) == len(study("table a").trials) == 1


def test_a_study_of_another_program_is_refused_and_left_alone(
    space: SearchSpace, tmp_path: Path, wishes: list[Objective], opened: Opened
) -> None:
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db", engine_kwargs={"poolclass": NullPool})
    other = optuna.create_study(storage=storage, study_name="archgen", direction="maximize")
    other.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(RunConflict, match="trial 0 was not written by archgen; use another study"):
        Study(space, wishes, storage=tmp_path / "study.db", resume=True)
    assert opened(tmp_path / "study.db").user_attrs == {}


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE trial_user_attributes SET value_json = '{' WHERE \"key\" = 'values'",
        "UPDATE trial_user_attributes SET value_json = '3' WHERE \"key\" = 'arch'",
        "UPDATE trial_params SET param_value = 99",
        "UPDATE trial_params SET distribution_json = '{}'",
        "UPDATE trials SET state = 'FOO'",
        "UPDATE trials SET state = 'RUNNING';UPDATE trial_user_attributes SET value_json = '3' WHERE \"key\" = 'owner'",
    ],
)
def test_a_study_with_damaged_rows_is_one_line_or_read(
    space: SearchSpace, tmp_path: Path, wishes: list[Objective], one_line: Callable[..., str], edit: str
) -> None:
    """Only an owner that nobody knows is no damage: the trial is given up once its pulse stops."""
    arch = space.sample(1, np.random.default_rng(0))[0]
    study = Study(space, wishes, storage=tmp_path / "study.db")
    study.record([arch], [Measurement({wish.metric: 1.0 for wish in wishes}, 0.1)])
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        database.executescript(edit)
    if "owner" in edit:
        assert Study(space, wishes, storage=tmp_path / "study.db", resume=True).trials == []
        return
    with pytest.raises(RunConflict) as refused:
        Study(space, wishes, storage=tmp_path / "study.db", resume=True)
    one_line(refused)


Begin = Callable[[Path], object]
"""Begins a study in a file."""


def _garbage(path: Path, begin: Begin) -> Path:
    path.write_bytes(b"this is no database" * 500)
    return path


def _truncated(path: Path, begin: Begin) -> Path:
    begin(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


PLACES: dict[str, tuple[Callable[[Path, Begin], Path | str], str]] = {
    "garbage": (_garbage, "file is not a database"),
    "truncated": (_truncated, "malformed"),
    "a folder": (lambda path, begin: path.parent, "unable to open"),
    "no folder": (lambda path, begin: path.parent / "absent" / "study.db", "unable to open"),
    "no URL": (lambda path, begin: "study of mine", "URL"),
    "an unknown kind of database": (lambda path, begin: "abacus://host/study", "abacus"),
}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("case", list(PLACES))
def test_what_can_not_be_a_database_is_refused_in_one_line(
    tmp_path: Path, case: str, resume: bool, wishes: list[Objective], tiny: CellSpace, one_line: OneLine
) -> None:
    make, message = PLACES[case]
    place = make(tmp_path / "study.db", lambda path: Study(tiny, wishes, storage=path))
    before = place.read_bytes() if isinstance(place, Path) and place.is_file() else None
    with pytest.raises(RunConflict, match=f"can not be used as a study database: .*{message}.*; check path") as error:
        Study(tiny, wishes, storage=place, resume=resume)
    assert str(place) in one_line(error)
    if before is not None:
        assert isinstance(place, Path)
        assert place.read_bytes() == before


def test_a_read_only_database_is_refused_in_one_line(
    space: SearchSpace,
    rng: np.random.Generator,
    tmp_path: Path,
    wishes: list[Objective],
    measured: Measured,
    one_line: OneLine,
) -> None:
    Study(space, wishes, storage=tmp_path / "study.db").record(space.sample(1, rng), [measured(acc=1.0)])
    url = f"sqlite:///file:{tmp_path}/study.db?mode=ro&uri=true"  # rights of files do not bind every user
    with pytest.raises(RunConflict, match="readonly database") as error:
        Study(space, wishes, storage=url, resume=True)
    one_line(error)
    assert len(Study(space, wishes, storage=tmp_path / "study.db", resume=True).trials) == 1


@pytest.mark.parametrize("bounds", [[], [at_most("latency_ms", 1.0)]])
def test_a_search_without_direction_is_refused(space: SearchSpace, tmp_path: Path, bounds: list[Objective]) -> None:
    with pytest.raises(InvalidObjective, match="something to maximize or minimize"):
        Study(space, bounds, storage=tmp_path / "study.db")
    assert not (tmp_path / "study.db").exists()
