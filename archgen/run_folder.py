"""The folder of one `archgen design`: what was asked, how far it came, what it cost."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from archgen import artifacts
from archgen.errors import InvalidCheckpoint, RunConflict

RUN = "run.json"
BOOKED = 5.0
"""Seconds of a stage that are lost at most when its process is killed, as far as `book` is called so often."""


class RunFolder:
    """A run's folder with its `run.json`: `request`, `seconds` by stage, facts that stages add, and how it was begun.

    Args:
        path: The folder.
        state: Contents of `run.json`.
    """

    def __init__(self, path: Path, state: dict[str, Any]) -> None:
        self.path, self.state = path, state
        self.own = False
        """Whether the folder was made for it, and not there before."""
        self._stage: tuple[str, float] | None = None

    @classmethod
    def create(cls, path: Path, request: dict[str, Any], **begun: Any) -> RunFolder:
        """Start a run in a new or empty folder.

        Args:
            path: The folder.
            request: What is asked for, as JSON types.
            begun: What else is to be known of how it was begun, as JSON types.

        Raises:
            RunConflict: The folder holds something already; nothing is touched.
        """
        if path.exists() and not path.is_dir():
            raise RunConflict(f"{path} is a file, expected a folder for the run; give another --out")
        run = cls(path, {"request": request, **begun, "seconds": {}, "facts": {}})
        run.own = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        with run.locked():  # of two that begin in it at the same moment one is refused
            if (path / RUN).exists():
                raise RunConflict(f"{path} holds another run; go on with it by --resume {path}, or give another --out")
            if any(path.iterdir()):
                raise RunConflict(f"{path} is not empty and holds no run; give another --out")
            run.save()
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of an earlier run.

        Raises:
            RunConflict: There is no run in it, or its `run.json` is damaged.
        """
        if not (path / RUN).exists():
            raise RunConflict(f"{path} holds no run to resume (no {RUN}); start one with --out {path}")
        try:
            state = artifacts.read_json(path / RUN)
        except InvalidCheckpoint as error:
            raise RunConflict(str(error)) from None
        if not isinstance(state, dict) or not {"request", "seconds", "facts"} <= state.keys():
            raise RunConflict(f"{path / RUN} was not written by archgen design; start a run in another folder")
        parts = [state[name] for name in ("request", "seconds", "facts")] + [state.get("digests") or {}]
        if not all(isinstance(part, dict) for part in parts) or not all(map(_is_time, state["seconds"].values())):
            raise RunConflict(f"{path / RUN} is damaged: expected objects, and numbers of seconds; start a new run")
        return cls(path, state)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds spent in each stage, earlier sessions included."""
        seconds: dict[str, float] = self.state["seconds"]
        return seconds

    def save(self) -> None:
        """Write `run.json`, atomically."""
        artifacts.write_json(self.path / RUN, self.state)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the body to a stage, also when it is interrupted."""
        self._stage = name, time.perf_counter()
        try:
            yield
        finally:
            self._add(*self._stage)
            self._stage = None

    def book(self) -> None:
        """Write down the time of the stage so far, every few seconds: who is killed can not at the end."""
        if self._stage is not None and time.perf_counter() - self._stage[1] >= BOOKED:
            self._add(*self._stage)

    def _add(self, name: str, start: float) -> None:
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - start
        self._stage = name, now
        self.save()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes off the run while the body runs; a process that ends, however it does, lets go.

        What one was writing when it was killed is removed.

        Raises:
            RunConflict: Another process works on it.
        """
        import fcntl  # POSIX has it

        folder = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunConflict(f"another process works on the run in {self.path}; wait for it, or stop it") from None
            artifacts.remove_unfinished(self.path)
            yield
        finally:
            os.close(folder)

    def file(self, name: str) -> Path:
        """Path of a file of the run."""
        return self.path / name


def _is_time(seconds: Any) -> bool:
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < math.inf
