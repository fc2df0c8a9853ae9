"""Progress is silent by itself, passes everything through, and closes its bar whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from archgen.progress import Bar, Progress, track


class Noting(Progress):
    """Notes what a bar went through."""

    def __init__(self) -> None:
        self.events: list[object] = []

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Bar]:
        self.events.append((what, total))
        events = self.events

        class Noted(Bar):
            def update(self, steps: int = 1, **shown: float) -> None:
                events.append(steps)

        try:
            yield Noted()
        finally:
            self.events.append("closed")


def test_the_default_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.note("a line")
    with progress.bar("working", 3) as bar:
        bar.update()
        bar.update(2, loss=0.5)
    assert list(track(progress, "working", 3, iter(range(3)))) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


def test_track_yields_every_item_and_moves_on_after_each() -> None:
    progress = Noting()
    seen = []
    for item in track(progress, "training", 4, iter([7, 8, 9])):
        seen.append((item, progress.events.count(1)))
    assert seen == [(7, 0), (8, 1), (9, 2)]
    assert progress.events == [("training", 4), 1, 1, 1, "closed"]


def test_nothing_is_shown_or_drawn_from_before_the_first_item() -> None:
    progress = Noting()
    items = iter(range(2))
    tracked = track(progress, "training", 2, items)
    assert progress.events == []
    assert next(items) == 0
    assert list(tracked) == [1]


def test_the_bar_is_closed_when_the_loop_stops_early() -> None:
    progress = Noting()
    tracked = track(progress, "training", 5, iter(range(5)))
    assert [next(tracked), next(tracked)] == [0, 1]
    tracked.close()  # type: ignore[attr-defined]
    assert progress.events == [("training", 5), 1, "closed"]


def test_the_bar_is_closed_and_the_error_comes_through() -> None:
    progress = Noting()

    def items() -> Iterator[int]:
        yield 0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(track(progress, "training", 5, items()))
    assert progress.events == [("training", 5), 1, "closed"]
