"""Reading the labels of a chain's slots in skeletons: numbers inside labels, slots that describe one layer together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from archgen.errors import InvalidSpace

SKIP = "skip"
"""Label of all slots of a layer that is left out."""

_PLACES = {"<n>": r"([1-9][0-9]{0,8})", "<r>": r"([0-9]{1,4}(?:\.[0-9]{1,4})?)"}


@lru_cache
def _pattern(form: str) -> re.Pattern[str]:
    parts = re.split(r"(<[nr]>)", form)
    return re.compile("".join(_PLACES.get(part, re.escape(part)) for part in parts))


def read_label(label: str, form: str) -> list[str]:
    """What stands in the places of a label.

    Args:
        label: A label such as `heads4`.
        form: What it should look like: `heads<n>`, with `<n>` for a positive integer and `<r>` for a decimal number.

    Raises:
        InvalidSpace: The label looks otherwise.

    Example:
        >>> read_label("heads4x32", "heads<n>x<n>")
        ['4', '32']
    """
    return list(_read(label, form))


@lru_cache(4096)
def _read(label: str, form: str) -> tuple[str, ...]:
    match = _pattern(form).fullmatch(label)
    if match is None:
        raise InvalidSpace(f"'{label}' is no label that this skeleton can read, expected '{form}'")
    return match.groups()


def layers(slots: Mapping[str, str], each: int, alone: str = "") -> Iterator[tuple[str, list[str]]]:
    """Layers that are there, in order: a name and the labels of the slots that describe it.

    Args:
        slots: Label of each slot, in order.
        each: Number of slots that describe a layer.
        alone: Slots whose label begins with this text stand alone; empty for none.

    Yields:
        The name of the first slot up to its last dot, and one or `each` labels.

    Raises:
        InvalidSpace: Slots are missing at the end of a layer, or only some of them say that it is left out.
    """
    names, texts, start = list(slots), list(slots.values()), 0
    while start < len(names):
        size = 1 if alone and texts[start].startswith(alone) else each
        name, labels = names[start], texts[start : start + size]
        if len(labels) < size:
            raise InvalidSpace(f"the layer of '{name}' is described by {each} slots, got {len(labels)}: {labels}")
        if 0 < labels.count(SKIP) < size:
            raise InvalidSpace(f"all slots of the layer of '{name}' say '{SKIP}' or none does, got {labels}")
        if SKIP not in labels:
            yield name.rpartition(".")[0] or name, labels
        start += size
