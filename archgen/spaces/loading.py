"""Search spaces by name, or from TOML files."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from archgen import config
from archgen.errors import InvalidSpace, UnknownName
from archgen.spaces.base import FAMILIES, SearchSpace
from archgen.spaces.sized import MARK, resized, split_name


def available() -> list[str]:
    """Names of the spaces that have a TOML file."""
    return sorted(path.stem for path in config.spaces_dir().glob("*.toml"))


def is_path(name: str) -> bool:
    """Whether a text is the path of a TOML file, not a name: it ends in `.toml` or holds a path separator."""
    return name.endswith(".toml") or "/" in name or os.sep in name


def load(name: str | Path, *, trust_code: bool = False) -> SearchSpace:
    """Load a search space by name, or a space of your own by the path of its TOML file.

    Args:
        name: A text that ends in `.toml` or holds a path separator is a path. `mobilenetv3@32` is the space for images
            of 32 pixels a side (`archgen.spaces.sized`).
        trust_code: Whether operations that the file imports may run: code of whoever wrote it.

    Raises:
        UnknownName: There is no `spaces/<name>.toml`.
        InvalidSpace: The space is not made for images of such a size, or the file does not describe a space, or one
            under the name of a space that comes with archgen.

    Example:
        >>> load("nasbench201").size
        15625
    """
    if isinstance(name, str) and not is_path(name):
        return _named(name)
    path = Path(name)
    with config.trusting(trust_code):
        space = read(path)
    if space.name in available() and path.resolve().parent != config.spaces_dir().resolve():
        raise InvalidSpace(
            f"{path}: name = '{space.name}' belongs to a space that comes with archgen and has checkpoints of its own; "
            "choose another name"
        )
    return space


def for_images(name: str | Path, size: int) -> SearchSpace:
    """The space for images of a size: `mobilenetv3@32` for `mobilenetv3`, which is published for 224 pixels.

    Args:
        name: As `load` takes it. A space that is not made to be sized, and one whose images are less than twice as
            large, is taken as it is.
        size: Side of the images, pixels.
    """
    space = load(name)
    if space.name not in available() or 2 * size > space.network_defaults.get("image_size", 0):
        return space
    sizable = "sized" in _parsed(config.spaces_dir() / f"{space.name}.toml")
    return load(f"{space.name}{MARK}{size}") if sizable else space


def read_base(reference: str, folder: Path, name: str) -> SearchSpace:
    """The space that another one is a part of, made under the name of the part.

    Args:
        reference: A name or a path, as `load` takes it; a path is relative to `folder`.
        folder: Where the file of the part lies.
        name: Of the part.

    Raises:
        UnknownName: There is no space of that name.
        InvalidSpace: The file does not describe a space.
    """
    if not is_path(reference):
        return _named(reference, name)
    return read(folder / reference, name)


def _named(reference: str, name: str | None = None) -> SearchSpace:
    """A space that comes with archgen, under its own or another name."""
    origin, size = split_name(reference)
    if origin not in available():
        raise UnknownName("search space", origin, available())
    return read(config.spaces_dir() / f"{origin}.toml", name, size)


def read(path: Path, name: str | None = None, size: int | None = None) -> SearchSpace:
    """Read a space from its TOML file.

    Args:
        path: The file.
        name: Name to give it, or None for its own.
        size: Side of the images to make it for, pixels, or None for those of the file.

    Raises:
        InvalidSpace: Naming the place in the file.
    """
    description = _parsed(path)
    family = description.get("family")
    if not isinstance(family, str) or family not in FAMILIES:
        raise InvalidSpace(f"{path}: family = {family!r} is unknown; known are: {', '.join(FAMILIES)}")
    try:
        description["folder"] = str(path.parent)  # where a space finds modules that lie beside its file
        if size is not None:
            description = resized(description, size)
        if name is not None:
            description["name"] = name
        return FAMILIES[family].from_description(description)  # type: ignore[attr-defined,no-any-return]
    except (InvalidSpace, UnknownName) as error:
        raise InvalidSpace(f"{path}: {error}") from None


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidSpace(f"{path} can not be read as TOML: {error}") from None
