"""Results go to standard output and all else to standard error, each remark on one line."""

from __future__ import annotations

import io

import pytest

from archgen.cli.terminal import Terminal, fail, say, show


class Screen(io.StringIO):
    """A standard error that says that someone is looking."""

    def isatty(self) -> bool:
        return True


def test_results_and_remarks_go_different_ways(capsys: pytest.CaptureFixture[str]) -> None:
    show("a result")
    say("a remark")
    Terminal().note("a note")
    captured = capsys.readouterr()
    assert captured.out == "a result\n"
    assert captured.err == "archgen: a remark\narchgen: a note\n"


def test_a_failure_is_one_line_however_many_its_message_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail("first\n  second\tthird ") == 2
    assert capsys.readouterr().err == "archgen: first second third\n"


def test_a_stage_is_one_line_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal().bar("training", 3) as bar:
        for _ in range(3):
            bar.update(loss=0.5)
    assert capsys.readouterr() == ("", "archgen: training (3) ...\n")


def test_a_stage_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    with Terminal().bar("training", 3) as bar:
        for _ in range(3):
            bar.update(loss=0.1234)
    drawn = screen.getvalue()
    assert "training: 100%" in drawn
    assert "3/3" in drawn
    assert "loss=0.123" in drawn
    assert "archgen:" not in drawn
    assert capsys.readouterr().out == ""
