"""Search spaces by name, or from TOML files."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from archgen import config
from archgen.errors import InvalidSpace, UnknownName
from archgen.spaces.base import FAMILIES, SearchSpace


def available() -> list[str]:
    """Names of the spaces that have a TOML file."""
    return sorted(path.stem for path in config.spaces_dir().glob("*.toml"))


def load(name: str | Path) -> SearchSpace:
    """Load a search space by name, or a space of your own by the path of its TOML file.

    Args:
        name: A text that ends in `.toml` or holds a path separator is a path.

    Raises:
        UnknownName: There is no `spaces/<name>.toml`.
        InvalidSpace: The file does not describe a space, or one under the name of a space that comes with archgen.

    Example:
        >>> load("nasbench201").size
        15625
    """
    if isinstance(name, str) and not (name.endswith(".toml") or "/" in name or os.sep in name):
        if name not in available():
            raise UnknownName("search space", name, available())
        return read(config.spaces_dir() / f"{name}.toml")
    path = Path(name)
    space = read(path)
    if space.name in available() and path.resolve().parent != config.spaces_dir().resolve():
        raise InvalidSpace(
            f"{path}: name = '{space.name}' belongs to a space that comes with archgen and has checkpoints of its own; "
            "choose another name"
        )
    return space


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
    if not (reference.endswith(".toml") or "/" in reference or os.sep in reference):
        if reference not in available():
            raise UnknownName("search space", reference, available())
        return read(config.spaces_dir() / f"{reference}.toml", name)
    return read(folder / reference, name)


def read(path: Path, name: str | None = None) -> SearchSpace:
    """Read a space from its TOML file, under its own or another name; `InvalidSpace` names the place in the file."""
    try:
        description = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidSpace(f"{path} can not be read as TOML: {error}") from None
    family = description.get("family")
    if not isinstance(family, str) or family not in FAMILIES:
        raise InvalidSpace(f"{path}: family = {family!r} is unknown; known are: {', '.join(FAMILIES)}")
    try:
        description["folder"] = str(path.parent)  # where a space finds modules that lie beside its file
        if name is not None:
            description["name"] = name
        return FAMILIES[family].from_description(description)  # type: ignore[attr-defined,no-any-return]
    except (InvalidSpace, UnknownName) as error:
        raise InvalidSpace(f"{path}: {error}") from None
