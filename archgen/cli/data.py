"""`archgen data convert`: a published benchmark's file to a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from archgen.cli.application import data_app
from archgen.cli.options import Json, writable_table, write_frame
from archgen.cli.terminal import say, show


@data_app.command("convert")
def convert_command(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="BENCHMARK",
            help="nas-bench-101, nas-bench-201, nats-bench, hw-nas-bench or nas-bench-graph.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Table to write, parquet (or CSV by its name).")],
    file: Annotated[
        Path | None,
        typer.Option(help="The published file or folder; nas-bench-graph reads the installed package without."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set; all that the file has without.")] = None,
    as_json: Json = False,
) -> None:
    """Read a published benchmark's own file, running nothing in it, and write a table that archgen searches."""
    from archgen.benchmarks import BENCHMARKS

    read = BENCHMARKS[source]
    writable_table(out, file)
    if file is not None and file.is_file() and file.stat().st_size > 100e6:
        say(f"reading {file} ({file.stat().st_size / 1e9:.1f} GB); this takes minutes")
    frame = read(file, dataset)
    write_frame(frame, out)
    metrics = [column for column in frame.columns if column not in ("arch", "index", "module_hash")]
    facts = {"out": str(out), "architectures": len(frame), "metrics": metrics}
    show(json.dumps(facts) if as_json else f"{len(frame):,} architectures in {out}: {', '.join(metrics)}")
