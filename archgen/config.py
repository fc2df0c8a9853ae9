"""Where things are: spaces, checkpoints and benchmark data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TRUST = "ARCHGEN_TRUST_CODE"
_PACKAGE = Path(__file__).resolve().parent


def _resource(name: str) -> Path:
    """A wheel carries the folder inside the package (`_spaces`), a checkout beside it (`spaces`)."""
    inside = _PACKAGE / f"_{name}"
    return inside if inside.is_dir() else _PACKAGE.parent / name


def spaces_dir() -> Path:
    """The folder of the search spaces' TOML files."""
    return _resource("spaces")


def checkpoints_dir() -> Path:
    """The folder of the trained checkpoints, `<family>/<name>/`; `ARCHGEN_CHECKPOINTS` overrides it."""
    override = os.environ.get("ARCHGEN_CHECKPOINTS")
    return Path(override) if override else _resource("checkpoints")


def trusts_code() -> bool:
    """Whether the code that a space's TOML file names may run: `ARCHGEN_TRUST_CODE=1`, as `--trust-code` sets it."""
    return os.environ.get(TRUST) == "1"


@contextmanager
def trusting(trusted: bool = True) -> Iterator[None]:
    """Trust such code in the body, in processes that it starts too; what was set before holds again afterwards."""
    before = os.environ.get(TRUST)
    if trusted:
        os.environ[TRUST] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(TRUST, None)
        else:
            os.environ[TRUST] = before


def data_dir() -> Path | None:
    """The folder of the published benchmark tables (`ARCHGEN_DATA`, or `../shared/data` of a checkout), or None.

    The package never needs it to run: tests that use it skip without it, checkpoints were trained from it.
    """
    override = os.environ.get("ARCHGEN_DATA")
    folder = Path(override) if override else _PACKAGE.parent.parent / "shared" / "data"
    return folder if folder.is_dir() else None
