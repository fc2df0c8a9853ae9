"""`archgen latency fit`, `evaluate` and `suggest`: a device's predictor from a few measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archgen.cli.application import latency_app
from archgen.cli.options import Json, Seed, SpaceName, writable_table, write_frame
from archgen.cli.terminal import say, show
from archgen.errors import ArchgenError, InvalidObjective, InvalidOption, UnknownName

if TYPE_CHECKING:
    from archgen.evaluators import Labels
    from archgen.predictors import BlockTable, LatencyPredictor
    from archgen.spaces import SearchSpace

Table = Annotated[Path, typer.Option(help="Table (parquet or CSV): `arch` and one column of ms a device.")]
Target = Annotated[str, typer.Option(help="Column of the device.")]
MaybeTable = Annotated[Path | None, typer.Option("--table", help="Table of measured networks, as of `evaluate`.")]
MaybeTarget = Annotated[str | None, typer.Option("--target", help="Column of the device.")]
Sources = Annotated[str | None, typer.Option(help="Columns of other devices to lean on, comma-separated.")]
Device = Annotated[
    str | None, typer.Option(help="Id of a device, where `archgen latency measure` wrote a table of several.")
]
Blocks = Annotated[
    Path | None,
    typer.Option(
        help="Table of `archgen latency blocks`, or a published one of Once-for-All's blocks: sum these, as the "
        "measurements correct it."
    ),
]
Network = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=NUMBER", help="Argument of the networks that --blocks are of; repeat."),
]
Simplified = Annotated[
    bool, typer.Option("--simplified", help="The measured networks leave out what nothing depends on.")
]


@latency_app.command("evaluate")
def evaluate_command(
    space: SpaceName,
    table: Table,
    target: Target,
    n: Annotated[int, typer.Option("-n", min=5, help="Random rows to fit on; all others judge.")] = 20,
    sources: Sources = None,
    simplified: Simplified = False,
    device: Device = None,
    blocks: Blocks = None,
    network: Network = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Fit a latency predictor on N measurements of a device and judge it on the rows that were not used."""
    from archgen import spaces
    from archgen.predictor_evaluation import evaluate_predictor

    loaded = spaces.load(space)
    labels = _read(loaded, table, target, sources, device)
    name, leans = f"latency_ms@{target}", len(labels.values) > 1 or simplified
    sums = _sums(loaded, name, blocks, device, network, leans)
    predictor = _predictor(loaded, labels, target, simplified, seed, name) if sums is None else sums
    figures = evaluate_predictor(predictor, labels.archs, labels.values[target], n=n, seed=seed)
    kept = ("spearman_rho", "kendall_tau", "median_relative_error", "mae", "coverage_90", "n", "unseen", "seconds")
    figures = {name: figures[name] for name in kept}
    show(json.dumps(figures) if as_json else ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))


@latency_app.command("fit")
def fit_command(
    space: SpaceName,
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")],
    table: MaybeTable = None,
    target: MaybeTarget = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Name of the latency; by default latency_ms@TARGET, or the column's own where it is a latency_ms."
        ),
    ] = None,
    sources: Sources = None,
    simplified: Simplified = False,
    device: Device = None,
    blocks: Blocks = None,
    network: Network = None,
    seed: Seed = 0,
) -> None:
    """Fit a latency predictor on every row of a table and save it as a checkpoint.

    With --blocks alone, without --table and --target, latencies are plain sums.
    """
    from archgen import spaces
    from archgen.artifacts import free_folder
    from archgen.cli.latency_blocks import block_table, save_sums
    from archgen.predictors import BlockTable, save_predictor
    from archgen.pretrain_predictor import checkpoint_name

    loaded = spaces.load(space)
    free_folder(out, "predictor")
    if metric is not None:
        checkpoint_name(loaded, metric)
    if table is None or target is None:
        if blocks is None or not (table is None and target is None) or sources or simplified:
            raise InvalidOption("expected --table and --target: measured networks; or --blocks alone for plain sums")
        show(save_sums(block_table(loaded, blocks, metric or "latency_ms", device, network), blocks, out))
        return
    labels = _read(loaded, table, target, sources, device)
    name = (target if target.startswith("latency_ms") else f"latency_ms@{target}") if metric is None else metric
    sums = _sums(loaded, name, blocks, device, network, len(labels.values) > 1 or simplified)
    predictor = _predictor(loaded, labels, target, simplified, seed, name) if sums is None else sums
    predictor.fit(labels.archs, labels.values[target])
    error = 100 * (predictor.sigma if isinstance(predictor, BlockTable) else predictor.sigma_log)
    leaning = f", leaning on {sources}" if sources else f", correcting sums of {blocks.name}" if blocks else ""
    card = f"""# {name} of {loaded.name}

- **What**: predicts `{name}` (latency) for `archgen generate` and `GuidedSampler`.
- **Data**: {len(labels.archs)} architectures; column `{target}` of {table.name}{leaning}.
- **Figures**: standard deviation of the left-out errors {error:.1f} %.
"""
    save_predictor(predictor, "block_table" if blocks else "latency", out, card)
    show(f"{out}: {name} from {len(labels.archs)} measurements, left-out error {error:.1f} %")


@latency_app.command("suggest")
def suggest_command(
    space: SpaceName,
    n: Annotated[int, typer.Option("-n", min=1, max=10_000, help="Architectures to measure next.")] = 20,
    how: Annotated[str, typer.Option("--by", help="`flops` (one of each of N strata) or `random`.")] = "flops",
    measured: Annotated[Path | None, typer.Option(help="Table with an `arch` column: leave these out.")] = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Table to write (parquet or CSV), for `measure --archs`.")] = None,
) -> None:
    """Say which architectures to measure, so that a few of them cover the space."""
    import numpy as np
    import pandas as pd

    from archgen import spaces
    from archgen.evaluators import read_architectures
    from archgen.predictors import suggest

    if how not in ("flops", "random"):
        raise UnknownName("way to suggest", how, ["flops", "random"])
    loaded = spaces.load(space)
    writable_table(out)
    known = set() if measured is None else set(read_architectures(loaded, measured))
    archs = suggest(loaded, n, np.random.default_rng(seed), stratified=how == "flops", known=known)
    if len(archs) < n:
        say(f"{loaded.name} has only {len(archs)} architectures left to measure, {n} were asked for")
    texts = [loaded.format(arch) for arch in archs]
    if out is not None:
        write_frame(pd.DataFrame({"arch": texts}), out)
    for text in texts:
        show(text)


def _read(space: SearchSpace, table: Path, target: str, sources: str | None, device: str | None) -> Labels:
    import numpy as np

    from archgen.evaluators import read_labels

    others = [name.strip() for name in sources.split(",") if name.strip()] if sources else []
    if target in others:
        raise InvalidObjective(f"{target} is the target, so it can not be a source too; leave it out of --sources")
    labels = read_labels(space, table, [target, *dict.fromkeys(others)], device=device)
    if labels.averaged:
        say(f"{labels.averaged} rows of {table} repeat an architecture; their values are averaged")
    for name, values in labels.values.items():
        if (values <= 0).any():
            raise ArchgenError(f"{table}: '{name}' has {int((values <= 0).sum())} latencies that are not above 0 ms")
        if np.ptp(values) == 0:
            raise ArchgenError(f"{table}: '{name}' is {values[0]:g} in every row; there is nothing to learn")
    return labels


def _predictor(
    space: SearchSpace, labels: Labels, target: str, simplified: bool, seed: int, metric: str
) -> LatencyPredictor:
    from archgen.predictor_evaluation import fit_sources
    from archgen.predictors import LatencyPredictor

    others = {name: values for name, values in labels.values.items() if name != target}
    known = fit_sources(space, labels.archs, others, simplify=simplified, seed=seed)
    return LatencyPredictor(space, metric, simplify=simplified, sources=known)


def _sums(
    space: SearchSpace, metric: str, blocks: Path | None, device: str | None, network: list[str] | None, leans: bool
) -> BlockTable | None:
    """The predictor by a table of blocks, where one is given; `leans`: whether what it has no use for is given too."""
    from archgen.cli.latency_blocks import block_table

    if blocks is None:
        if network:
            raise InvalidOption("--network is for --blocks: measured networks tell of themselves; leave it out")
        return None
    if leans:
        raise InvalidOption("--blocks sums blocks: --sources and --simplified have no use there; leave them out")
    return block_table(space, blocks, metric, device, network)
