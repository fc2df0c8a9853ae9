"""`archgen train`: what the checkpoints hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archgen.cli.application import train_app
from archgen.cli.options import Seed, SpaceName
from archgen.cli.terminal import Terminal, say, show
from archgen.errors import InvalidCheckpoint, InvalidObjective

if TYPE_CHECKING:
    from archgen.generators import Generator
    from archgen.predictors import Predictor
    from archgen.spaces import SearchSpace


@train_app.command("generator")
def train_generator_command(
    space: SpaceName,
    generator: Annotated[str, typer.Option(help="Generator.")] = "discrete_flow",
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 3000,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Train without properties: the generator takes no condition.")
    ] = False,
    start: Annotated[
        Path | None, typer.Option("--from", help="Adapt this generator's checkpoint instead of starting anew.")
    ] = None,
    examples: Annotated[
        Path | None, typer.Option(help="Table with an `arch` column: adapt to these architectures (with --from).")
    ] = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the checkpoint; default: the committed place.")] = None,
) -> None:
    """Train a generator on samples of its space, conditioned on what the predictors of the checkpoints say of them."""
    from archgen import config, spaces
    from archgen.artifacts import free_folder
    from archgen.evaluators import read_architectures
    from archgen.generators import GENERATORS
    from archgen.pretrain import adapt, distil, make_pool, pretrain_generator
    from archgen.progress import track
    from archgen.sampler import pretrained_generator

    GENERATORS[generator]
    if unlabelled and generator == "one_step":
        raise InvalidObjective("one_step is distilled from a conditional generator; it can not be --unlabelled")
    loaded = spaces.load(space)
    folder = out or config.checkpoints_dir() / "generators" / f"{loaded.name}-{generator}"
    if (start is None) != (examples is None):
        raise InvalidObjective("--from and --examples go together: a trained generator, and what to adapt it to")
    if start is not None and out is None:
        raise InvalidObjective("--from needs --out: without it the adapted generator would replace a trained one")
    free_folder(folder, "generator")
    terminal = Terminal()
    if start is not None and examples is not None:
        figures = adapt(
            loaded,
            _trained_on(loaded, start),
            read_architectures(loaded, examples),
            folder,
            steps=steps,
            seed=seed,
            progress=lambda items: track(terminal, "adapting", steps, items),
        )
    elif generator == "one_step":
        teacher = pretrained_generator(loaded)
        if teacher.properties is None:
            raise InvalidObjective(f"the discrete_flow generator of {loaded.name} takes no condition; train it anew")
        pool = make_pool(loaded, _predictors(loaded, teacher.properties.metrics), seed=seed)
        say(f"distilling on samples of the discrete_flow generator of {loaded.name}")
        figures = distil(
            loaded,
            teacher,
            pool,
            folder,
            steps=steps,
            seed=seed,
            progress=lambda items: track(terminal, "training", steps, items),
        )
    else:
        labelled = None if unlabelled else make_pool(loaded, _predictors(loaded), seed=seed)
        figures = pretrain_generator(
            loaded,
            folder,
            name=generator,
            pool=labelled,
            steps=steps,
            seed=seed,
            progress=lambda items: track(terminal, "training", steps, items),
        )
    show(f"{folder}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))


def _trained_on(space: SearchSpace, folder: Path) -> Generator:
    """The generator of a checkpoint; raises `InvalidCheckpoint` unless it draws graphs of the space."""
    import torch

    from archgen.generators import load_generator

    trained = load_generator(folder)
    domains = ((trained.node_domain, space.node_domain), (trained.edge_domain, space.edge_domain))
    if not all(torch.equal(own, other) for own, other in domains):
        raise InvalidCheckpoint(f"{folder} was trained on another space than {space.name}; give one of {space.name}")
    return trained


def _predictors(space: SearchSpace, metrics: tuple[str, ...] | None = None) -> dict[str, Predictor]:
    """Counts, and the checkpoints of the space; all of them, or the named ones in their order."""
    from archgen import config
    from archgen.predictors import load_predictor
    from archgen.predictors.counts import Count
    from archgen.sampler import predictor_folders

    folders = predictor_folders(space, config.checkpoints_dir())
    known = {"params": Count(space, "params"), "flops": Count(space, "flops")}
    wanted = metrics or tuple(dict.fromkeys([*known, *folders]))
    return {m: known[m] if m in known else load_predictor(folders[m], space) for m in wanted}


@train_app.command("predictor")
def train_predictor_command(
    space: SpaceName,
    table: Annotated[Path, typer.Option(help="Table (parquet or CSV) with an `arch` column.")],
    metric: Annotated[str, typer.Option(help="Name of what is predicted, such as latency_ms@pixel3.")],
    column: Annotated[str | None, typer.Option(help="Its column in the table; the metric's name without.")] = None,
    predictor: Annotated[str, typer.Option(help="Predictor; several joined by + are an ensemble.")] = "gp",
    labels: Annotated[int, typer.Option(min=5, help="Rows to fit on; the others judge it.")] = 600,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the checkpoint; default: the committed place.")] = None,
) -> None:
    """Fit a predictor on rows of a table and judge it on the others."""
    import numpy as np

    from archgen import config, spaces
    from archgen.artifacts import free_folder
    from archgen.evaluators import TabularEvaluator
    from archgen.pretrain_predictor import checkpoint_name, pretrain_predictor, registered_name

    loaded, name = spaces.load(space), column or metric
    registered_name(predictor)
    folder = out or config.checkpoints_dir() / "predictors" / checkpoint_name(loaded, metric)
    free_folder(folder, "predictor")
    evaluator = TabularEvaluator(loaded, table, needed=[name], partial=True)
    archs = evaluator.architectures
    y = np.array([m.values[name] for m in evaluator.evaluate(archs, seed=0)])
    command = f"archgen train predictor --space {space} --table {table.name} --metric {metric} --predictor {predictor}"
    figures = pretrain_predictor(
        loaded,
        archs,
        y,
        folder,
        metric=metric,
        kind=predictor,
        labels=labels,
        source=f"column `{name}` of {table.name}",
        command=f"{command} --labels {labels} --seed {seed}",
        seed=seed,
    )
    show(f"{folder}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))


@train_app.command("free-labels")
def train_free_labels_command(
    space: SpaceName,
    table: Annotated[Path, typer.Option(help="Table of `archgen proxies`: an `arch` column, then one a proxy.")],
    names: Annotated[str | None, typer.Option(help="Its columns to use, comma-separated; all numbers without.")] = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the checkpoint; default: the committed place.")] = None,
) -> None:
    """Learn zero-cost proxies from a table, so that predictors know them of every architecture."""
    from archgen import config, spaces
    from archgen.artifacts import free_folder
    from archgen.evaluators import read_proxies
    from archgen.pretrain_free_labels import pretrain_free_labels

    loaded = spaces.load(space)
    folder = out or config.checkpoints_dir() / "free_labels" / loaded.name
    free_folder(folder, "free_labels")
    known = read_proxies(loaded, table, names.split(",") if names else None)
    chosen = f" --names {names}" if names else ""
    figures = pretrain_free_labels(
        loaded,
        known.archs,
        known.values,
        folder,
        source=f"{', '.join(known.values)} of {table.name}",
        command=f"archgen train free-labels --space {space} --table {table.name}{chosen} --seed {seed}",
        seed=seed,
    )
    show(f"{folder}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))
