"""`archgen spaces`."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import typer

from archgen.cli.application import app
from archgen.cli.options import Json
from archgen.cli.terminal import show


@app.command("spaces")
def spaces_command(
    name: Annotated[str | None, typer.Argument(help="Show one space.")] = None, as_json: Json = False
) -> None:
    """List the search spaces, or describe one."""
    import numpy as np

    from archgen import spaces
    from archgen.errors import InvalidArchitecture

    if name is None:
        listed = [spaces.load(each) for each in spaces.available()]
        rows = [{"name": s.name, "family": s.family, "size": s.size, "summary": s.summary} for s in listed]
        if as_json:
            show(json.dumps(rows))
        for row in [] if as_json else rows:
            show(f"{row['name']:14} {row['family']:8} {row['size']:>12,}  {row['summary']}")
        return
    space = spaces.load(name)
    try:
        example = space.from_choices({variable: len(v) - 1 for variable, v in space.variables.items()})
    except InvalidArchitecture:  # the last values together may break a constraint
        (example,) = space.sample(1, np.random.default_rng(0))
    facts: dict[str, Any] = {
        "name": space.name,
        "family": space.family,
        "paper": f"arXiv {space.paper}" if re.fullmatch(r"\d{4}\.\d{4,5}", space.paper) else space.paper or "none",
        "size": space.size,
        "variables": {variable: list(values) for variable, values in space.variables.items()},
        "network": space.network_defaults,
        "example": space.format(example),
    }
    if as_json:
        show(json.dumps(facts))
        return
    for key, value in facts.items():
        show(f"{key:10} " + (", ".join(f"{k}={v}" for k, v in value.items()) if key == "network" else _words(value)))


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ("\n" + " " * 11).join(f"{k}: {' | '.join(map(str, v))}" for k, v in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)
