"""How long work tells of itself: one small interface, silent unless the command line gives another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Shows nothing. A subclass may draw bars and print lines."""

    def note(self, line: str) -> None:
        """Say one line."""

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Bar]:
        """A bar of `total` steps for the body of a `with` statement."""
        yield Bar()


class Bar:
    """A bar that is not drawn."""

    def update(self, steps: int = 1, **shown: float) -> None:
        """Move on by `steps` and show some figures beside the bar."""


def track(progress: Progress, what: str, total: int, items: Iterator[int]) -> Iterator[int]:
    """Yield `items` and move a bar on with each."""
    with progress.bar(what, total) as bar:
        for item in items:
            yield item
            bar.update()
