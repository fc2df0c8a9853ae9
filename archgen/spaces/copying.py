"""Copies of spaces' TOML files, so that what was designed can be read when they are gone."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from archgen.artifacts import write_text
from archgen.errors import InvalidSpace
from archgen.spaces.loading import is_path

_BASE = re.compile(r"""^(\s*base\s*=\s*)("[^"\n]*"|'[^'\n]*')""", re.MULTILINE)


def copy_space(path: Path, folder: Path) -> Path | None:
    """Copy a TOML file, and those of the spaces that it is a part of.

    Args:
        path: The file.
        folder: Where to; a base goes to its folder `base`.

    Returns:
        The path of the copy; None, and nothing is copied, where a file imports operations: their code is not ours to
        spread, and lies beside it.

    Raises:
        InvalidSpace: A file can not be read, or does not say plainly what its base is.
    """
    try:
        text = path.read_text(encoding="utf-8")
        description = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidSpace(f"{path} can not be read as TOML: {error}") from None
    if any("import" in entry for entry in description.get("operations", ())):
        return None
    base = description.get("base")
    if description.get("family") == "restricted" and isinstance(base, str) and is_path(base):
        copy = copy_space(path.parent / base, folder / "base")
        if copy is None:
            return None
        text = _with_base(path, text, f"base/{copy.name}")
    write_text(folder / path.name, text)
    return folder / path.name


def _with_base(path: Path, text: str, base: str) -> str:
    """The text of a file with another base; any match may be a line of a longer text, so the result is read."""
    expected = {**tomllib.loads(text), "base": base}
    for match in _BASE.finditer(text):
        changed = f"{text[: match.start(2)]}'{base}'{text[match.end(2) :]}"
        if tomllib.loads(changed) == expected:
            return changed
    raise InvalidSpace(f"{path}: write base = '...' on a line of its own")
