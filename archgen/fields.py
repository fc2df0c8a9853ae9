"""Types of a dataclass's fields, checked: what is read of a JSON file may be anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def check_fields(value: Any) -> None:
    """Raise `TypeError` in one line unless each field of a dataclass is of the type that it is annotated with.

    Numbers are finite; a whole number is a `float` too, a boolean is no number.

    Args:
        value: Its fields are of str, int, float, None, and tuples, dicts or unions of them.
    """
    hints = get_type_hints(type(value))
    for field in fields(value):
        found = getattr(value, field.name)
        if not fits(found, hints[field.name]):
            raise TypeError(f"expected {field.type} for '{field.name}', got {str(found)[:60]!r}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type, as in `check_fields`."""
    if hint is Any:
        return True
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is dict:
        items = value.items() if isinstance(value, Mapping) else [(None, None)]
        return all(fits(k, arguments[0]) and fits(v, arguments[1]) for k, v in items)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(each, arguments[0]) for each in value)
    if hint in (int, float):
        kinds = (int, float) if hint is float else int
        return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, hint)
