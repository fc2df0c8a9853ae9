"""Options that several commands share, and what is made of them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archgen.errors import InvalidObjective, InvalidOption, RunConflict

if TYPE_CHECKING:
    from archgen.evaluators import Cluster
    from archgen.objectives import Objective

TRUST = "--trust-code"
"""Of every command that reads a space; `archgen.cli.main` takes it."""
SpaceName = Annotated[
    str,
    typer.Option(
        "--space", help="Search space: a name that `archgen spaces` lists, or a TOML file; --trust-code if it imports."
    ),
]
Maximize = Annotated[list[str] | None, typer.Option("--maximize", metavar="METRIC", help="Metric to maximize.")]
Minimize = Annotated[list[str] | None, typer.Option("--minimize", metavar="METRIC", help="Metric to minimize.")]
AtMost = Annotated[list[str] | None, typer.Option("--at-most", metavar="METRIC=VALUE", help="Upper bound; repeat.")]
AtLeast = Annotated[list[str] | None, typer.Option("--at-least", metavar="METRIC=VALUE", help="Lower bound; repeat.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Same seed, same result.")]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="ADDRESS", help="Evaluate on a Ray cluster: `auto`, HOST:PORT, `local` to start one."
    ),
]
Resource = Annotated[
    list[str] | None,
    typer.Option(
        "--resource", metavar="NAME=NUMBER", help="An evaluation's share of a Ray node: CPU, GPU, ...; repeat."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def told(context: typer.Context) -> list[str]:
    """Names of the parameters that the command line itself gives, in the order of `--help`."""
    names = [each.name for each in context.command.params if each.name is not None]
    found = {name: context.get_parameter_source(name) for name in names}
    return [name for name, source in found.items() if source is not None and source.name == "COMMANDLINE"]


def cluster(ray: str | None, resource: list[str] | None) -> Cluster | None:
    """The cluster of the two options; raises `InvalidOption`."""
    from archgen.evaluators import Cluster

    if ray is None and resource:
        raise InvalidOption("--resource is for --ray: it says what an evaluation needs of a node")
    if ray is None:
        return None
    resources = assignments(resource, "--resource")
    if any(number < 0 for number in resources.values()):
        raise InvalidOption(f"expected numbers of at least 0 for --resource, got {resources}")
    return Cluster(ray, resources)


def wishes(
    maximize: list[str] | None, minimize: list[str] | None, at_most: list[str] | None, at_least: list[str] | None
) -> list[Objective]:
    """The wishes of the four options; raises `InvalidObjective` when they contradict each other."""
    from archgen import objectives

    wishes = [objectives.maximize(metric) for metric in maximize or []]
    wishes += [objectives.minimize(metric) for metric in minimize or []]
    wishes += [objectives.parse_bound(text, "at_most") for text in at_most or []]
    wishes += [objectives.parse_bound(text, "at_least") for text in at_least or []]
    objectives.check(wishes)
    return wishes


def writable(out: Path | None, *inputs: Path | None) -> None:
    """Refuse an output path, before any work is done, that can not be written or that is one of the inputs."""
    if out is None:
        return
    for path in inputs:
        if path is not None and path.exists() and out.exists() and path.samefile(out):
            raise RunConflict(f"{out} is what the command reads; name another file to write")
    if out.is_dir():
        raise RunConflict(f"{out} is a folder, expected the name of a file to write")
    if out.exists() and not out.is_file():  # the file is renamed into place, which would replace /dev/null itself
        raise RunConflict(f"{out} is a device or a pipe, expected the name of a file to write")
    parent = out.parent if out.parent.exists() else out.parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise RunConflict(f"{out} can not be written: {out.parent} is not a folder with write permission")


def writable_table(out: Path | None, *inputs: Path | None) -> None:
    """As `writable`, of a table that other commands shall read."""
    writable(out, *inputs)
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise InvalidOption(f"expected a table's name to end in .parquet or .csv, got {out}")


def write_frame(frame: Any, out: Path) -> None:
    """Write a table as parquet, or as CSV when the name ends so."""
    from archgen.artifacts import write_atomic

    write = frame.to_csv if out.suffix == ".csv" else frame.to_parquet
    write_atomic(out, lambda path: write(path, index=False))


def assignments(texts: list[str] | None, option: str) -> dict[str, float]:
    """Read `METRIC=VALUE` options; raises `InvalidObjective`."""
    values: dict[str, float] = {}
    for text in texts or []:
        metric, equals, value = text.partition("=")
        try:
            values[metric] = float(value)
        except ValueError:
            equals = ""
        if not (equals and metric and math.isfinite(values[metric])):
            raise InvalidObjective(f"expected METRIC=VALUE with a number for {option}, got '{text}'")
    return values


def numbers(texts: list[str] | None, option: str) -> dict[str, int]:
    """Read `NAME=NUMBER` options, whole numbers; raises `InvalidOption`."""
    found = {}
    for text in texts or []:
        name, _, value = text.partition("=")
        if not value.isdecimal():
            raise InvalidOption(f"expected NAME=NUMBER for {option}, got '{text}'")
        found[name] = int(value)
    return found
