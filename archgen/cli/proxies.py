"""`archgen proxies`: zero-cost proxies of architectures, as a table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archgen.cli.application import app
from archgen.cli.options import Seed, SpaceName, writable_table, write_frame
from archgen.cli.terminal import INTERRUPTED, Terminal, say, show
from archgen.errors import ArchgenError, InvalidObjective, RunConflict

if TYPE_CHECKING:
    from archgen.graph import Architecture
    from archgen.spaces import SearchSpace

_EVERY = 20.0
"""Seconds after which what is known is written again."""


@app.command("proxies")
def proxies_command(
    space: SpaceName,
    out: Annotated[Path, typer.Option(help="Table to write: a column `arch`, then one a proxy; parquet or CSV.")],
    n: Annotated[
        int | None, typer.Option("-n", min=1, max=100_000, help="Random architectures; 100 by default.")
    ] = None,
    archs: Annotated[Path | None, typer.Option(help="Table with an `arch` column: compute these instead.")] = None,
    names: Annotated[str | None, typer.Option(help="Proxies, comma-separated; all by default.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Images that the networks are shown: as in `archgen design`; random without.")
    ] = None,
    batch: Annotated[int, typer.Option(min=2, max=10_000, help="Images taken of --data.")] = 64,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Processes, of one thread each.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Keep the rows that OUT has from the same command.")] = False,
    seed: Seed = 0,
) -> None:
    """Compute zero-cost proxies of untrained networks; what is known when it is stopped is kept."""
    import numpy as np
    import pandas as pd

    from archgen import spaces
    from archgen.data import load_data
    from archgen.evaluators import read_architectures
    from archgen.proxies import PROXIES, compute_proxies

    if n is not None and archs is not None:
        raise InvalidObjective("expected either -n (random architectures) or --archs (those of a table), got both")
    loaded = spaces.load(space)
    given = [name.strip() for name in (names or "").split(",") if name.strip()]
    wanted = list(dict.fromkeys(given)) or list(PROXIES)
    for name in wanted:
        PROXIES[name]
    writable_table(out)
    if archs is not None:
        chosen = read_architectures(loaded, archs)
    else:
        chosen = list(dict.fromkeys(loaded.sample(n or 100, np.random.default_rng(seed))))
    images = targets = None
    network = {}
    if data is not None:
        train = load_data(data, seed=seed, limit=max(10 * batch, 500)).train
        images, targets = train.images[:batch], train.labels[:batch]
        if len(images) < batch:
            raise ArchgenError(f"{data} has {len(images)} images to train on, --batch asks for {batch}; give fewer")
        found = {"in_channels": images.shape[1], "image_size": images.shape[-1], "classes": int(train.labels.max()) + 1}
        network = {name: value for name, value in found.items() if name in loaded.network_defaults}
    rows = _earlier(loaded, out, wanted) if resume else {}
    wrong: list[str] = []
    written = time.monotonic()

    def write() -> None:
        known = [{"arch": loaded.format(a), **dict(zip(wanted, rows[a], strict=True))} for a in chosen if a in rows]
        write_frame(pd.DataFrame(known, columns=["arch", *wanted]), out)

    def keep(arch: Architecture, result: list[float] | str) -> None:
        nonlocal written
        if isinstance(result, str):
            wrong.append(result)
            say(f"left out: {result}")
            return
        rows[arch] = result
        if time.monotonic() - written > _EVERY:
            write()
            written = time.monotonic()

    missing = [arch for arch in chosen if arch not in rows]
    how = {"seed": seed, "workers": workers, "progress": Terminal(), "on_result": keep, **network}
    try:
        compute_proxies(loaded, missing, wanted, images, targets, **how)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        done = sum(arch in rows for arch in chosen)
        say(f"interrupted; {out} holds {done} of {len(chosen)} architectures; go on with the same command and --resume")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        if rows:
            write()
    if not rows:
        raise ArchgenError(f"no architecture has proxies; the first: {wrong[0]}")
    show(f"{out}: {sum(arch in rows for arch in chosen)} architectures, {len(wanted)} proxies")


def _earlier(space: SearchSpace, out: Path, wanted: list[str]) -> dict[Architecture, list[float]]:
    """What an earlier call wrote; nothing where it wrote none."""
    from archgen.evaluators import read_proxies
    from archgen.tables import read_table

    if not out.exists():
        return {}
    columns = list(read_table(out, expected="proxies", mend="give another --out").columns)
    if columns != ["arch", *wanted]:
        raise RunConflict(f"{out} has other columns than arch, {', '.join(wanted)[:120]}; give another --out")
    labels = read_proxies(space, out, wanted)
    return {arch: [float(labels.values[name][i]) for name in wanted] for i, arch in enumerate(labels.archs)}
