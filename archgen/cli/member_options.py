"""`--option NAME=VALUE`: arguments of a registered member's constructor, read by their annotations."""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Collection, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from archgen.errors import InvalidOption, UnknownName

LARGEST = 1_000_000
"""Greatest whole number of an option: they count what is drawn, trained or kept."""


def member_options(kind: type, texts: Sequence[str], *, what: str, given: Collection[str]) -> dict[str, Any]:
    """Constructor arguments from `NAME=VALUE` texts.

    Options are the arguments that are numbers, truth values, strings, one of several literals, or any of these and
    None; `none` is None, `true` and `false` are truth values.

    Args:
        kind: The class.
        texts: What the user gave; the last of several values of one name counts.
        what: What it is, for messages ("strategy 'evolution'").
        given: Arguments that are no options, because the command gives them itself.

    Raises:
        UnknownName: No option of that name.
        InvalidOption: A text without `=`, or a value of another type.
    """
    hints = get_type_hints(kind.__init__)  # type: ignore[misc]
    types_of = {
        name: hints[name]
        for name in list(inspect.signature(kind).parameters)
        if name in hints and name not in given and _readable(hints[name])
    }
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidOption(f"expected NAME=VALUE for --option, got '{text}'")
        if name not in types_of:
            raise UnknownName(f"option of {what}", name, types_of)
        options[name] = _read(types_of[name], name, value)
    return options


def _readable(kind: Any) -> bool:
    if get_origin(kind) in (Union, types.UnionType):
        return all(_readable(part) for part in get_args(kind) if part is not type(None))
    return kind in (bool, int, float, str) or get_origin(kind) is Literal


def _read(kind: Any, name: str, text: str) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        parts = get_args(kind)
        if type(None) in parts and text.lower() == "none":
            return None
        return _read(next(part for part in parts if part is not type(None)), name, text)
    if get_origin(kind) is Literal:
        by_text = {str(value): value for value in get_args(kind)}
        if text not in by_text:
            raise UnknownName(f"value of option '{name}'", text, by_text)
        return by_text[text]
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise InvalidOption(f"option '{name}' must be true or false, got '{text}'")
        return text.lower() == "true"
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if isinstance(value, float) and not math.isfinite(value):
        expected = "a whole number" if kind is int else "a number"
        raise InvalidOption(f"option '{name}' must be {expected}, got '{text}'")
    if kind is int and abs(value) > LARGEST:
        raise InvalidOption(f"option '{name}' must be at most {LARGEST:,}, got {text[:40]}")
    return value
