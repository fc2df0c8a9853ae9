"""`archgen proxies`: zero-cost proxies of architectures, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archgen.cli.application import app
from archgen.cli.options import Seed, SpaceName, writable, write_frame
from archgen.cli.terminal import Terminal, show
from archgen.errors import ArchgenError, InvalidObjective


@app.command("proxies")
def proxies_command(
    space: SpaceName,
    out: Annotated[Path, typer.Option(help="Table to write: a column `arch`, then one a proxy; parquet or CSV.")],
    n: Annotated[int | None, typer.Option("-n", min=1, help="Random architectures; 100 by default.")] = None,
    archs: Annotated[Path | None, typer.Option(help="Table with an `arch` column: compute these instead.")] = None,
    names: Annotated[str | None, typer.Option(help="Proxies, comma-separated; all by default.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Images that the networks are shown: as in `archgen design`; random without.")
    ] = None,
    batch: Annotated[int, typer.Option(min=2, help="Images taken of --data.")] = 64,
    workers: Annotated[int, typer.Option(min=1, help="Processes, of one thread each.")] = 1,
    seed: Seed = 0,
) -> None:
    """Compute zero-cost proxies of untrained networks."""
    import numpy as np

    from archgen import spaces
    from archgen.data import load_data
    from archgen.evaluators import read_architectures
    from archgen.proxies import PROXIES, compute_proxies

    if n is not None and archs is not None:
        raise InvalidObjective("expected either -n (random architectures) or --archs (those of a table), got both")
    loaded, wanted = spaces.load(space), names.split(",") if names else list(PROXIES)
    for name in wanted:
        PROXIES[name]
    writable(out)
    if archs is not None:
        chosen = read_architectures(loaded, archs)
    else:
        chosen = loaded.sample(n or 100, np.random.default_rng(seed))
    images = targets = None
    network = {}
    if data is not None:
        train = load_data(data, seed=seed, limit=max(10 * batch, 500)).train
        images, targets = train.images[:batch], train.labels[:batch]
        if len(images) < batch:
            raise ArchgenError(f"{data} has {len(images)} images to train on, --batch asks for {batch}; give fewer")
        found = {"in_channels": images.shape[1], "image_size": images.shape[-1], "classes": int(train.labels.max()) + 1}
        network = {name: value for name, value in found.items() if name in loaded.network_defaults}
    frame = compute_proxies(
        loaded, chosen, wanted, images, targets, seed=seed, workers=workers, progress=Terminal(), **network
    )
    write_frame(frame, out)
    show(f"{out}: {len(frame)} architectures, {len(wanted)} proxies")
