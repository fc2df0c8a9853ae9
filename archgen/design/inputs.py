"""What a run was made from: digests of what it reads, versions, and whether all that is still the same."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path

from archgen.data import ImageData
from archgen.design.request import DesignRequest
from archgen.errors import InvalidTable, RunConflict
from archgen.run_folder import RunFolder

_VERSIONS = ("archgen", "torch", "numpy", "onnx", "onnxruntime", "botorch", "optuna", "scikit-learn")
_CHANGED = {
    "data": "the images, or their labels or parts, are not those",
    "latency": "the table of --latency is not the one",
}


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
