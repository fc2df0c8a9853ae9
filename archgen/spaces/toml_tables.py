"""Taking values out of a parsed TOML file, with errors that name the table and key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archgen.errors import InvalidSpace, UnknownName

_MISSING: Any = object()
_WORDS = {str: "text", int: "an integer", float: "a decimal number", list: "a list", dict: "a table"}


def take(table: Mapping[str, Any], key: str, kind: type, where: str, default: Any = _MISSING) -> Any:
    """The value of a key; raises `InvalidSpace` that names the place where it is missing or of another type."""
    value = table.get(key, default)
    if value is _MISSING:
        raise InvalidSpace(f"{where}: '{key}' is missing, expected {_WORDS[kind]}")
    if value is not default and type(value) is not kind:
        raise InvalidSpace(f"{where}: {key} = {value!r} is of the wrong type, expected {_WORDS[kind]}")
    return value


def take_tables(description: Mapping[str, Any], key: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Entries of an array of tables with names, each with the place to name in errors."""
    entries = description.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidSpace(f"[[{key}]]: expected an array of tables, got {str(entries)[:60]}")
    named = [(take(entry, "name", str, f"[[{key}]] number {i}"), entry) for i, entry in enumerate(entries, start=1)]
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise InvalidSpace(f"[[{key}]] '{name}': the name is given {names.count(name)} times")
    return [(f"[[{key}]] '{name}'", entry) for name, entry in named]


def take_texts(table: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """A list of one or more different texts."""
    values = take(table, key, list, where)
    if not all(isinstance(value, str) for value in values):
        raise InvalidSpace(f"{where}: {key} = {values!r} is of the wrong type, expected a list of texts")
    if not values:
        raise InvalidSpace(f"{where}: {key} is empty, so the space is empty: give at least one")
    if len(set(values)) != len(values):
        raise InvalidSpace(f"{where}: {key} names one twice: {', '.join(values)}")
    return tuple(values)


def take_size(table: Mapping[str, Any], key: str, where: str, default: int | None) -> int | None:
    """A number of channels or a stride, at least 1."""
    value: int | None = take(table, key, int, where, default)
    if value is not None and value < 1:
        raise InvalidSpace(f"{where}: {key} = {value} must be at least 1")
    return value


def known_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Raise `InvalidSpace` for a key that means nothing there."""
    for key in table:
        if key not in known:
            raise InvalidSpace(f"{where}: {UnknownName('key', key, known)}")
