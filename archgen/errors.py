"""Exceptions, named by what went wrong.

Every message says what was expected, what came, and what to do. On the command line an `ArchgenError` becomes
one line on standard error and exit status 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ArchgenError(Exception):
    """Base of every error that a user can cause and mend."""


class UnknownName(ArchgenError):
    """A name that is not registered: a space, an operation, a strategy, a column."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        """
        Args:
            what: What the name should have been, in words ("search space").
            name: The name that came.
            known: The names that exist; the closest one is suggested.
        """
        choices = sorted(known)
        close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
        hint = f"did you mean '{close[0]}'? " if close else ""
        shown = ", ".join(choices[:20]) + (", ..." if len(choices) > 20 else "")
        super().__init__(f"unknown {what} '{name}': {hint}known are: {shown or 'none'}")
        self.name = name
        self.known = choices


class UnknownMetric(UnknownName):
    """A metric that neither the predictors, the evaluator nor the table has."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__("metric", name, known)


class InvalidArchitecture(ArchgenError):
    """An architecture, or its text, that is not a point of the space."""


class InvalidSpace(ArchgenError):
    """A space's TOML file that does not describe a space; the message names the place in the file."""


class InvalidObjective(ArchgenError):
    """A wish that can not be read or that contradicts another."""


class InvalidOption(ArchgenError):
    """An option of a member, or of a command, with a value that it does not take."""


class InvalidData(ArchgenError):
    """Images or labels that can not be trained on."""


class InvalidTable(ArchgenError):
    """A benchmark table with missing, duplicate, NaN or infinite rows."""


class InvalidCheckpoint(ArchgenError):
    """A checkpoint that is truncated, foreign, or of another kind than asked for."""


class Infeasible(ArchgenError):
    """No architecture can meet the bounds; the message says what can be met."""


class RunConflict(ArchgenError):
    """A run folder, study or file that holds something else already."""


class MissingExtra(ArchgenError):
    """An optional dependency is not installed; the message names the extra."""


class ArchgenWarning(UserWarning):
    """Something the user should know that stops nothing."""
