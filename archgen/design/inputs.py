"""What a run was made from: digests of what it reads, versions, and whether all that is still the same."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from archgen import spaces
from archgen.data import ImageData
from archgen.design.request import DesignRequest
from archgen.errors import InvalidTable, RunConflict
from archgen.run_folder import RunFolder

SPACE = "space"
"""Folder of a run with the copy of its space's TOML file."""
_VERSIONS = ("archgen", "torch", "numpy", "onnx", "onnxruntime", "botorch", "optuna", "scikit-learn")
_CHANGED = {
    "data": "the images, or their labels or parts, are not those",
    "latency": "the table of --latency is not the one",
}


def absolute(request: DesignRequest) -> DesignRequest:
    """The request with absolute paths: a resume may begin elsewhere."""

    def path(text: str) -> str:
        return str(Path(text).absolute())

    generator = request.generator
    return replace(
        request,
        data=request.data if request.data == "digits" else path(request.data),
        space=path(request.space) if spaces.is_path(request.space) else request.space,
        latency=None if request.latency is None else path(request.latency),
        generator=path(generator) if generator is not None and Path(generator).is_dir() else generator,
    )


def keep_space(run: RunFolder) -> None:
    """Copy the TOML file of a space of one's own into a new run, which then reads that, wherever the folder goes."""
    name = run.state["request"]["space"]
    if not spaces.is_path(name):
        return
    copy = spaces.copy_space(Path(name), run.file(SPACE))
    if copy is not None:
        run.state["request"]["space"] = copy.relative_to(run.path).as_posix()
        run.save()


def space_of(run: RunFolder) -> str:
    """Name or path of the run's space, as `archgen.spaces.load` takes it."""
    name: str = run.state["request"]["space"]
    return str(run.file(name)) if spaces.is_path(name) and run.file(name).is_file() else name


def space_file(run: RunFolder) -> str | None:
    """The TOML file of a run's own space, relative to its folder where it is in it; None of a space by name."""
    name: str = run.state["request"]["space"]
    if not spaces.is_path(name):
        return None
    return name if run.file(name).is_file() else str(Path(name).absolute())


def digests(request: DesignRequest, data: ImageData) -> dict[str, str]:
    """BLAKE2b digests of the images with their labels and parts, and of the table of latencies where there is one.

    Raises:
        InvalidTable: The table of latencies can not be read.
    """
    found = hashlib.blake2b(repr(data.classes).encode(), digest_size=16)
    for part in (data.train, data.validation, data.test):
        images = part.images
        found.update(repr(tuple(images.shape)).encode())
        found.update(part.labels.contiguous().numpy().data)
        found.update(images.contiguous().numpy().data)
    known = {"data": found.hexdigest()}
    if request.latency is not None:
        try:
            content = Path(request.latency).read_bytes()
        except OSError as error:
            raise InvalidTable(f"{request.latency} can not be read ({error.strerror}); check the path") from None
        known["latency"] = hashlib.blake2b(content, digest_size=16).hexdigest()
    return known


def check_digests(run: RunFolder, request: DesignRequest, data: ImageData) -> None:
    """Raise `RunConflict` where a run would go on with other inputs: test images might have been trained on.

    A run that an earlier version began has no digests, and is gone on with.
    """
    before = run.state.get("digests") or {}
    for name, digest in digests(request, data).items() if before else ():
        if before.get(name, digest) != digest:
            raise RunConflict(f"{_CHANGED[name]} that the run in {run.path} began with; restore it, or start a new run")


def versions() -> dict[str, str]:
    """Of this process: Python, archgen, and what computes."""
    return {"python": platform.python_version()} | {name: version(name) for name in _VERSIONS}
