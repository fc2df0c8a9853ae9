"""Optuna's storages as studies use them: opened quietly, patient with locks, errors in one line."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from archgen.errors import MissingExtra, RunConflict

LONGEST = 480
"""Bytes of the path of an SQLite file: SQLite itself takes 512, those of the journal beside it included."""
CREATION_RACES = ("already exists", "UNIQUE constraint", "duplicate key")
"""What a database says to a process that makes its tables while another one does."""


def open_storage(place: Path | str | None, *, timeout: float) -> BaseStorage:
    """The storage at a place; its tables are made where they are not there yet.

    Args:
        place: Path of an SQLite file, a database URL, or None for the memory of this process.
        timeout: Seconds to wait for a lock of an SQLite file.

    Raises:
        RunConflict: It can not be opened.
        MissingExtra: The database's driver is not installed.
    """
    if place is None:
        return InMemoryStorage()
    if isinstance(place, Path):
        check_length(place)
    with _refusing(place):
        url = URL.create("sqlite", database=str(place)) if isinstance(place, Path) else make_url(place)
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        # Connections that are closed after each use leave none to the garbage collector or to a child process, and none
        # that a server drops while an evaluation takes its time.
        options: dict[str, object] = {"poolclass": NullPool}
        if url.get_backend_name() == "sqlite":
            options["connect_args"] = {"timeout": timeout}
        text = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")  # Optuna formats it
        with quiet():
            return optuna.storages.get_storage(_patient(text, options))


def check_whole(storage: BaseStorage, place: Path | str) -> None:
    """Raise `RunConflict` unless all trials can be read: an SQLite file that was cut off may open all the same."""
    with _refusing(place):
        for study in storage.get_all_studies():
            storage.get_all_trials(study._study_id)


def check_length(path: Path) -> None:
    """Raise `RunConflict` where SQLite would say no more than that it is unable to open the file."""
    length = len(os.fsencode(path.absolute()))
    if length > LONGEST:
        raise RunConflict(f"the path of {path.name} has {length} bytes, SQLite takes {LONGEST}; use a shorter folder")


def _patient(url: str, options: dict[str, object]) -> RDBStorage:
    """Open the storage; try again when another process makes its tables at the same moment."""
    for attempt in range(8):
        try:
            return RDBStorage(url, engine_kwargs=dict(options))
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if attempt == 7 or not any(words in str(error.__cause__ or error) for words in CREATION_RACES):
                raise
            time.sleep(0.05 * 2**attempt * random.random())  # apart from each other
    raise AssertionError("unreachable")


def shown(place: Path | str | None) -> str:
    """A place as messages show it: the password of a URL stays out."""
    try:
        return make_url(place).render_as_string() if isinstance(place, str) else str(place or "memory")
    except ArgumentError:
        return str(place)


@contextmanager
def _refusing(place: Path | str) -> Iterator[None]:
    """Turn what opening raises into one line."""
    try:
        yield
    except ImportError as error:
        raise MissingExtra(
            f"{shown(place)} needs a database driver ({_one_line(error)}): install it by pip install "
            "'archgen[distributed]', or name an SQLite file"
        ) from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ValueError, RuntimeError) as error:
        raise RunConflict(
            f"{shown(place)} can not be used as a study database: {_one_line(error)}; check path and rights"
        ) from None


@contextmanager
def using(place: Path | str | None) -> Iterator[None]:
    """Turn what a database raises while it is read or written (disk full, locked, read-only) into one line."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        line = _one_line(error)
        advice = "free the disk or check rights, then resume"
        if "locked" in line:
            advice = "another program holds it; end that one or wait, then resume"
        raise RunConflict(f"the study can not be written: {shown(place)}: {line}; {advice}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """No line for every study on standard error; the level is the caller's again afterwards."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error.__cause__ or error).split())[:160]
