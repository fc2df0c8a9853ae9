"""Databases are opened with patience, and refused in one line that gives no password away."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from archgen.errors import MissingExtra, RunConflict
from archgen.evaluators import Measurement
from archgen.objectives import maximize
from archgen.spaces import CellSpace, SearchSpace
from archgen.study import Study, storage

WISHES = [maximize("acc")]


def test_a_locked_database_is_refused_in_one_line_and_goes_on_afterwards(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    path = tmp_path / "study.db"
    study = Study(space, WISHES, storage=path, timeout=0.01)
    (arch,) = space.sample(1, np.random.default_rng(0))
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(
            RunConflict, match=r"study\.db: .*database is locked.*; another program holds it; end that"
        ) as error:
            study.claim(arch)
        assert "\n" not in str(error.value)
        with pytest.raises(RunConflict, match=r"can not be .*database is locked"):
            Study(space, WISHES, storage=path, resume=True, timeout=0.01)
        other.rollback()
    claim = study.claim(arch)
    assert claim is not None
    assert study.finish(claim, Measurement({"acc": 1.0}, 0.0)) is not None


def test_a_space_whose_variables_changed_is_refused(tmp_path: Path) -> None:
    roles = {"none": "zero", "skip_connect": "identity", "nor_conv_3x3": "weighted"}
    Study(CellSpace("own", 2, roles, {}), WISHES, storage=tmp_path / "study.db")
    changed = CellSpace("own", 2, {**roles, "avg_pool_3x3": "weighted"}, {})
    with pytest.raises(RunConflict, match=r"study\.db was begun when own had other variables; go on with the space"):
        Study(changed, WISHES, storage=tmp_path / "study.db", resume=True)
    Study(CellSpace("own", 2, roles, {}), WISHES, storage=tmp_path / "study.db", resume=True)


def test_a_password_is_not_shown() -> None:
    url = "postgresql://me:hush@localhost:1/study"
    assert storage.shown(url) == "postgresql://me:***@localhost:1/study"
    with pytest.raises((RunConflict, MissingExtra)) as error:  # no driver, or nobody at that port
        storage.open_storage(url, timeout=1.0)
    assert "hush" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_driver_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: object, **__: object) -> None:
        raise ImportError("Failed to import DB access module") from ModuleNotFoundError("No module named 'psycopg'")

    monkeypatch.setattr(storage, "RDBStorage", without)
    with pytest.raises(MissingExtra, match=r"needs a database driver \(No module named 'psycopg'\).*\[distributed\]"):
        storage.open_storage("postgresql://host/study", timeout=1.0)


def test_tables_that_another_process_makes_at_the_same_moment_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = storage.RDBStorage, 2

    def racing(*arguments: object, **options: object) -> object:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise OperationalError("CREATE TABLE studies", {}, sqlite3.OperationalError("table studies already exists"))
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(storage, "RDBStorage", racing)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    storage.open_storage(tmp_path / "study.db", timeout=1.0)
    assert failures == -1


def test_a_path_with_braces_is_a_path(space: SearchSpace, tmp_path: Path) -> None:
    path = tmp_path / "{a} study.db"
    Study(space, WISHES, storage=path)
    assert path.exists()
