"""Spaces of published networks for images of other sizes: `mobilenetv3@32`.

A `[sized]` table of a chain's TOML file says what changes with the side `s` of the images, in pixels:

    [sized]
    resolution = 2.0                  # labels of the global `resolution` in proportion: the largest is 2 s, at least 64
    patches = 8                       # arguments `patch` = s / 8, and `reach` = 8: so many patches along a side
    network = { width_percent = 50 }  # other arguments of the network

Labels keep their number and order, so what was learnt of the published space's graphs (its generators) holds for the
graphs of the sized one; what was learnt of its networks (predictors, free labels) does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from archgen.errors import InvalidSpace
from archgen.networks.labels import read_label
from archgen.spaces.toml_tables import known_keys, take, take_size

MARK = "@"
SMALLEST = 64
"""Least largest resolution, pixels: five strides of 2 leave 2 pixels of it."""


def split_name(name: str) -> tuple[str, int | None]:
    """A name and the side of the images in it, None where it has none.

    Raises:
        InvalidSpace: What stands behind the `@` is no whole number of pixels.
    """
    origin, mark, size = name.partition(MARK)
    if not mark:
        return origin, None
    if not (size.isdecimal() and 1 <= int(size) <= 4096):
        raise InvalidSpace(f"expected a side in pixels from 1 to 4096 behind '{origin}{MARK}', got '{size}'")
    return origin, int(size)


def resized(description: Mapping[str, Any], size: int) -> dict[str, Any]:
    """The description of a space for images of `size` pixels a side.

    Args:
        description: A parsed TOML file with a `[sized]` table.
        size: Side of the images, pixels.

    Raises:
        InvalidSpace: There is no such table, a wrong one, or images that can not be cut into the patches.
    """
    name = take(description, "name", str, "the file")
    if "sized" not in description:
        raise InvalidSpace(f"{name} is not made for other images by a size in its name ([sized] in its file)")
    table, changed = take(description, "sized", dict, "the file"), deepcopy(dict(description))
    known_keys(table, ("resolution", "patches", "network"), "[sized]")
    network = {**take(changed, "network", dict, "the file"), **take(table, "network", dict, "[sized]", {})}
    network["image_size"] = size
    if "patches" in table:
        patches = take_size(table, "patches", "[sized]", 1) or 1
        if size % patches:
            raise InvalidSpace(f"{name}{MARK}{size}: {size} pixels are not {patches} patches of equal size; resize it")
        network |= {"patch": size // patches, "reach": patches}
    if "resolution" in table:
        _scale(changed, max(SMALLEST, round(take(table, "resolution", float, "[sized]") * size)))
    return {**changed, "name": f"{name}{MARK}{size}", "network": network}


def _scale(description: dict[str, Any], largest: int) -> None:
    """Change the labels of the global `resolution` so that the largest is `largest`."""
    labels = next((e["labels"] for e in description.get("globals", ()) if e.get("name") == "resolution"), None)
    if labels is None:
        raise InvalidSpace("[sized] resolution: there is no global of that name")
    sides = [int(read_label(label, "r<n>")[0]) for label in labels]
    new = {label: f"r{round(side * largest / max(sides))}" for label, side in zip(labels, sides, strict=True)}
    if len(set(new.values())) < len(new):
        raise InvalidSpace(f"[sized] resolution: up to {largest} pixels there are not {len(new)} resolutions")
    for entry in description["globals"]:
        if entry["name"] == "resolution":
            entry["labels"] = [new[label] for label in labels]
    for end, names in description.get("order", {}).items():
        description["order"][end] = [new.get(label, label) for label in names]
