"""Copies of spaces' TOML files, so that what was designed can be read when they are gone."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from archgen.artifacts import write_text
from archgen.errors import InvalidSpace
from archgen.spaces.custom import operation_file
from archgen.spaces.loading import is_path

_BASE = re.compile(r"""^(\s*base\s*=\s*)("[^"\n]*"|'[^'\n]*')""", re.MULTILINE)


def copy_space(path: Path, folder: Path) -> Path | None:
    """Copy a TOML file, and those of the spaces that it is a part of.

    Args:
        path: The file.
        folder: Where to; a base goes to its folder `base`.

    Returns:
        The path of the copy, the modules beside the file that its operations are imported from copied with it; none of
        this code is run. None, and nothing is copied, where such a module needs more than itself and what is installed.

    Raises:
        InvalidSpace: A file can not be read, or does not say plainly what its base is.
    """
    try:
        text = path.read_text(encoding="utf-8")
        description = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidSpace(f"{path} can not be read as TOML: {error}") from None
    modules = [
        operation_file(entry["import"], path.parent) for entry in description.get("operations", ()) if "import" in entry
    ]
    beside = dict.fromkeys(module for module in modules if module.is_file())
    if not all(map(_stands_alone, beside)):
        return None
    base = description.get("base")
    if description.get("family") == "restricted" and isinstance(base, str) and is_path(base):
        copy = copy_space(path.parent / base, folder / "base")
        if copy is None:
            return None
        text = _with_base(path, text, f"base/{copy.name}")
    for module in beside:
        write_text(folder / module.relative_to(path.parent), module.read_text(encoding="utf-8"))
    write_text(folder / path.name, text)
    return folder / path.name


def _stands_alone(module: Path) -> bool:
    """Whether a module imports nothing that lies beside it, and does not look where it is itself."""
    try:
        tree = ast.parse(module.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return False
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module if node.module is not None and not node.level else ".")
        elif isinstance(node, ast.Name):
            names += ["."] if node.id == "__file__" else []
    places = [module.parent / name.partition(".")[0] for name in names]
    return "." not in names and not any(place.is_dir() or place.with_suffix(".py").is_file() for place in places)


def _with_base(path: Path, text: str, base: str) -> str:
    """The text of a file with another base; any match may be a line of a longer text, so the result is read."""
    expected = {**tomllib.loads(text), "base": base}
    for match in _BASE.finditer(text):
        changed = f"{text[: match.start(2)]}'{base}'{text[match.end(2) :]}"
        if tomllib.loads(changed) == expected:
            return changed
    raise InvalidSpace(f"{path}: write base = '...' on a line of its own")
