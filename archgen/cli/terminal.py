"""What the command line writes: results on standard output, all else on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from archgen.launch import first_to_fail, rank
from archgen.progress import Bar, Progress

INTERRUPTED = 130
"""Exit status after Ctrl-C."""


class Terminal(Progress):
    """tqdm bars on standard error when it is a terminal; one line a stage when it is not."""

    def note(self, line: str) -> None:
        say(line)

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Bar]:
        from tqdm import tqdm

        if not sys.stderr.isatty():
            say(f"{what} ({total}) ...")
        with tqdm(desc=what, total=total, disable=None, file=sys.stderr) as bar:
            yield _TqdmBar(bar)


class _TqdmBar(Bar):
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def update(self, steps: int = 1, **shown: float) -> None:
        if shown:
            self._bar.set_postfix({key: f"{value:.3f}" for key, value in shown.items()}, refresh=False)
        self._bar.update(steps)


def show(text: str) -> None:
    """A result; of several processes that do the same, the first one shows it."""
    if rank() == 0:
        print(text)


def say(text: str) -> None:
    """A remark or a warning, on one line with the command's name; of several processes the first one says it."""
    if rank() == 0:
        _say(text)


def fail(message: str) -> int:
    """Say what went wrong, on one line; the exit status. Of several processes the first to fail says it."""
    if first_to_fail():
        _say(" ".join(message.split()))
    return 2


def _say(text: str) -> None:
    print(f"archgen: {text}", file=sys.stderr)


def drop_output() -> None:
    """Forget what standard output does not take, or the interpreter tries it again at its end and complains."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
