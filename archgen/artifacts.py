"""Checkpoints: safetensors and JSON in one folder; no pickle is ever read.

A checkpoint is `<folder>/model.safetensors` (tensors), `<folder>/config.json` (kind, name and constructor
arguments) and a `README.md` card. Everything is written beside its place and renamed, so a kill or a full disk
never leaves half a file under the final name.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from archgen.errors import InvalidCheckpoint, RunConflict

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_UNFINISHED = re.compile(r"\..{1,40}-[a-z0-9_]{8}\.(json|safetensors|parquet|onnx|html|toml|py|md)")
"""Names beside which files are written: a dot, the name, eight characters of `tempfile`, the ending."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds."""

    kind: str
    """Family of the object: `generator`, `predictor`, `surrogate`, `supernet`, `network`."""
    name: str
    """Registered name of the member within its family."""
    config: dict[str, Any]
    """Constructor arguments and whatever else is needed to rebuild the object; JSON types only."""
    tensors: dict[str, Tensor]


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a temporary path in the same folder, then rename it to `path`.

    Raises:
        OSError: The folder can not be written or the disk is full; `path` is as it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:40]}-", suffix=path.suffix)
    os.close(handle)
    beside = Path(name)
    try:
        write(beside)
        beside.chmod(0o644)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what `write_atomic` was writing in a folder when its process was killed; nobody may be writing there."""
    for path in folder.iterdir():
        if _UNFINISHED.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused (they are not JSON)."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically; what is no text in it, as names of files may have, is escaped."""

    def write(beside: Path) -> None:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")

    write_atomic(path, write)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InvalidCheckpoint: The file is missing or is not JSON, or has a number that is not finite: `write_json` writes
            none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_float=_finite, parse_constant=_finite)
    except FileNotFoundError:
        raise InvalidCheckpoint(f"{path} does not exist: expected a file that archgen wrote; check the path") from None
    except (ValueError, OSError, RecursionError) as error:
        raise InvalidCheckpoint(f"{path} can not be read as JSON ({_one_line(error)}); write it again") from None


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"expected finite numbers, got {text}")
    return number


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors, atomically; an `OSError` means the disk and leaves nothing behind."""
    contiguous = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}

    def save(beside: Path) -> None:
        try:
            save_file(contiguous, str(beside))
        except SafetensorError as error:  # what safetensors makes of a full disk
            raise OSError(_one_line(error)) from None

    write_atomic(path, save)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        InvalidCheckpoint: The file is missing, truncated or not safetensors.
    """
    try:
        return dict(load_file(str(path)))
    except FileNotFoundError:
        raise InvalidCheckpoint(f"{path} does not exist: expected safetensors weights; check the path") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidCheckpoint(
            f"{path} is not a whole safetensors file ({_one_line(error)}); copy or train it again"
        ) from None


def save_checkpoint(folder: Path, checkpoint: Checkpoint, card: str | None = None) -> None:
    """Write a checkpoint; the config last, so that a folder with one is complete.

    Args:
        folder: Where to; made when absent, its files replaced one by one.
        checkpoint: What to write.
        card: Text of `README.md`: data, cost and figures; None leaves the card as it is.
    """
    write_tensors(folder / WEIGHTS, checkpoint.tensors)
    if card is not None:
        write_text(folder / "README.md", card)
    write_json(folder / CONFIG, {"kind": checkpoint.kind, "name": checkpoint.name, "config": checkpoint.config})


def load_checkpoint(folder: Path, kind: str) -> Checkpoint:
    """Read a checkpoint of the given kind.

    Raises:
        InvalidCheckpoint: No checkpoint, a truncated one, or one of another kind.
    """
    header = read_json(folder / CONFIG)
    if not isinstance(header, dict) or not {"kind", "name", "config"} <= header.keys():
        raise InvalidCheckpoint(f"{folder / CONFIG} is not an archgen checkpoint: it needs kind, name and config")
    if not isinstance(header["name"], str) or not isinstance(header["config"], dict):
        raise InvalidCheckpoint(f"{folder / CONFIG}: name must be a string and config an object; copy it again")
    if header["kind"] != kind:
        raise InvalidCheckpoint(f"{folder} holds a {header['kind']}, expected a {kind}; give another folder")
    return Checkpoint(kind, header["name"], header["config"], read_tensors(folder / WEIGHTS))


def free_folder(folder: Path, kind: str) -> None:
    """Raise `RunConflict` unless the folder can be written and is new, empty or a checkpoint of the kind."""
    if folder.exists() and not folder.is_dir():
        raise RunConflict(f"{folder} is a file, expected a folder for the checkpoint; give another --out")
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise RunConflict(f"{folder} can not be written: {there} is not a folder with write permission")
    if folder.exists() and any(folder.iterdir()):
        header = read_json(folder / CONFIG) if (folder / CONFIG).exists() else None
        if not isinstance(header, dict) or header.get("kind") != kind:
            raise RunConflict(f"{folder} holds something that is not a {kind}'s checkpoint; give another --out")


def load_weights(module: torch.nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Load tensors into a module, strictly.

    Raises:
        InvalidCheckpoint: Names or shapes differ: the checkpoint belongs to another configuration.
    """
    expected = module.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    foreign = sorted(tensors.keys() - expected.keys())
    shapes = [k for k in expected.keys() & tensors.keys() if expected[k].shape != tensors[k].shape]
    if missing or foreign or shapes:
        raise InvalidCheckpoint(
            f"{origin} does not fit the network it should fill: {len(missing)} tensors missing, {len(foreign)} "
            f"foreign, {len(shapes)} of another shape (first: {(missing + foreign + sorted(shapes))[0]}); "
            "take the checkpoint that belongs to this configuration"
        )
    module.load_state_dict(dict(tensors))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
