"""A user's own operations, named in a TOML file by import path."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from archgen import config
from archgen.errors import InvalidSpace, UnknownName

_PREFIX = "archgen_custom_"
"""Of the names of modules that are files beside a TOML file."""
_CONTENT = "__archgen_content__"
"""Digest of such a file, in the module."""


def load_operation(reference: str, folder: Path, where: str) -> Callable[..., nn.Module]:
    """The factory that `module:attribute` names.

    Args:
        reference: The module is looked up as a file beside the TOML file first, then among the installed ones.
        folder: Where the TOML file lies.
        where: The place to name in errors.

    Raises:
        InvalidSpace: There is no such module or attribute, or importing the module fails.
    """
    name, colon, attribute = reference.partition(":")
    if not colon or not all(part.isidentifier() for part in (*name.split("."), attribute)):
        raise InvalidSpace(f"{where}: import = '{reference}' must read 'module:attribute', such as 'my_blocks:MyBlock'")
    file = operation_file(reference, folder)
    try:
        module = _from_file(file) if file.is_file() else importlib.import_module(name)
    except Exception as error:  # the user's module may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name in (name, name.split(".")[0]):
            raise InvalidSpace(
                f"{where}: import = '{reference}': there is neither a file {file} nor an installed module '{name}'"
            ) from None
        raise InvalidSpace(f"{where}: importing '{name}' failed: {_one_line(error)}") from error
    if not hasattr(module, attribute):
        names = [key for key, value in vars(module).items() if callable(value)]
        raise InvalidSpace(f"{where}: {UnknownName(f'name in {name}', attribute, names)}")
    factory: Callable[..., nn.Module] = getattr(module, attribute)
    if not callable(factory):
        raise InvalidSpace(f"{where}: '{reference}' is {factory!r}, expected a class or function that makes a module")
    return factory


def operation_file(reference: str, folder: Path) -> Path:
    """Where the module of `module:attribute` lies if it is a file beside a TOML file in `folder`."""
    return folder.joinpath(*reference.partition(":")[0].split(".")).with_suffix(".py")


class Imports:
    """The files whose code makes operations in this process; where it is unpickled, they are imported again.

    Put before networks and spaces in what is sent to another process, which could not unpickle them without. The code
    is as trusted there as it was here.
    """

    def __reduce__(self) -> tuple[Callable[[list[str]], Imports], tuple[list[str]]]:
        files = [str(module.__file__) for name, module in [*sys.modules.items()] if name.startswith(_PREFIX)]
        return _imported, (files,)


def _imported(files: list[str]) -> Imports:
    for file in files:
        _from_file(Path(file))
    return Imports()


def _from_file(file: Path) -> ModuleType:
    """Import a file once, under a name of its own, so that files of the same name in two folders stay apart."""
    path = file.resolve()
    name = f"{_PREFIX}{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a file that ends in .py has a loader"
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__dict__[_CONTENT] = hashlib.sha256(path.read_bytes()).hexdigest()
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))  # it may import files beside it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


def custom_operations(
    entries: list[tuple[str, Mapping[str, Any]]], folder: Path, built_in: Mapping[str, object]
) -> dict[str, Callable[..., nn.Module]]:
    """Factories of the entries that have `import`, by name.

    Raises:
        InvalidSpace: The code is not trusted (`config.trusts_code`), or a module or attribute is not there or fails.
    """
    own = {}
    for where, entry in entries:
        if "import" not in entry:
            continue
        if not isinstance(entry["import"], str):
            raise InvalidSpace(f"{where}: import = {entry['import']!r} is of the wrong type, expected text")
        if not config.trusts_code():
            raise InvalidSpace(
                f"{where}: import = '{entry['import']}' runs code of the file's author: read it, then say --trust-code "
                f"(in Python load_space(..., trust_code=True), or {config.TRUST}=1)"
            )
        own[entry["name"]] = load_operation(entry["import"], folder, where)
        if entry["name"] in built_in and not _same(built_in[entry["name"]], own[entry["name"]]):
            raise InvalidSpace(f"{where}: there is an operation of that name already, choose another name")
    return own


def _same(one: object, other: object) -> bool:
    """Whether two factories are one, or of the same place in two files of the same content: a file and its copy."""
    names = [getattr(each, "__qualname__", None) for each in (one, other)]
    modules = [sys.modules.get(getattr(each, "__module__", None) or "") for each in (one, other)]
    contents = [getattr(module, _CONTENT, None) for module in modules]
    return one is other or (None not in (*names, *contents) and (names[0], contents[0]) == (names[1], contents[1]))


def try_operation(
    make: Callable[..., nn.Module], arguments: tuple[int, ...], channels: int, expected: tuple[int, ...], where: str
) -> None:
    """Make a module and run it once on an image of 8 pixels; raises `InvalidSpace` unless the output has the shape.

    Args:
        make: Factory.
        arguments: Its arguments.
        channels: Of the image.
        expected: Shape of the output for a batch of one.
        where: The place to name in errors.
    """
    call = f"{getattr(make, '__name__', make)}({', '.join(map(str, arguments))})"
    try:
        module = make(*arguments)
        if not isinstance(module, nn.Module):
            raise TypeError(f"it made {type(module).__name__}, not an nn.Module")
        with torch.no_grad():
            output = module.eval()(torch.zeros(1, channels, 8, 8))
        shape = tuple(output.shape)
    except Exception as error:  # the user's block may raise anything
        image = f"1 x {channels} x 8 x 8"
        raise InvalidSpace(f"{where}: {call} fails on an image of {image}: {_one_line(error)}") from error
    if shape != expected:
        raise InvalidSpace(f"{where}: {call} makes {shape} of an image of 1 x {channels} x 8 x 8, expected {expected}")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
