"""Which claims belong to processes that are no more: an owner by host and process number, and a pulse."""

from __future__ import annotations

import functools
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PULSE_SECONDS = 10.0
GRACE_SECONDS = 60.0
"""A claim of another host whose pulse stood still for so long is taken over."""


@functools.cache
def _host() -> str:
    """The host, and on Linux the namespace in which its process numbers mean something."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


_ACTIVE: set[tuple[int, Any]] = set()
"""Process number and token of the owners that are at work in this process, which only it can know of itself; a forked
process has another number."""


def new_owner() -> dict[str, Any]:
    """What a claim says of its owner, as JSON types: host, process number, and a token that nobody else has."""
    return {"host": _host(), "pid": os.getpid(), "token": secrets.token_hex(8)}


class Watch:
    """Tells claims of dead processes from those of living ones.

    On the same host an owner is dead when its process is gone, or is this one and the owner not at work in it: the
    same number was given again, or a search ended without a word. Elsewhere, and where a number was given to somebody
    else, it is dead when its pulse, a counter that it writes every `PULSE_SECONDS`, has not changed for `grace` seconds
    of this process's own clock: no two clocks are ever compared.

    Args:
        me: The owner that watches.
        grace: Seconds.
        clock: Seconds that never run backwards.
    """

    def __init__(
        self, me: Mapping[str, Any], grace: float = GRACE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.me, self.grace, self._clock = me, grace, clock
        self._seen: dict[int, tuple[Any, float]] = {}

    def dead(self, number: int, owner: Mapping[str, Any], pulse: Any) -> bool:
        """Whether the owner of the running trial `number` is dead, by what is known until now."""
        if (os.getpid(), owner.get("token")) in _ACTIVE:
            return False
        if owner.get("host") == self.me["host"] and (owner["pid"] == os.getpid() or not _exists(owner["pid"])):
            return True
        now = self._clock()
        last, since = self._seen.get(number, (None, now))
        if number not in self._seen or last != pulse:
            self._seen[number] = (pulse, now)
            return False
        return now - since > self.grace


def _exists(pid: int) -> bool:
    if os.name != "posix":  # there, signal 0 would not be harmless
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def at_work(owner: Mapping[str, Any]) -> Iterator[None]:
    """For the body, this process knows the owner as one of its own that is alive."""
    entry = (os.getpid(), owner["token"])
    _ACTIVE.add(entry)
    try:
        yield
    finally:
        _ACTIVE.discard(entry)


@contextmanager
def beating(beat: Callable[[], None], every: float = PULSE_SECONDS) -> Iterator[None]:
    """Call `beat` every so many seconds in a thread while the body runs.

    Args:
        beat: Its exceptions are dropped: a pulse that is missed once does no harm.
        every: Seconds.
    """
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(every):
            try:
                beat()
            except Exception:  # the search itself meets whatever is wrong, and says so
                continue

    thread = threading.Thread(target=run, name="archgen pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
