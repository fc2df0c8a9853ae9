"""`archgen predictor`: how good a predictor is from N labels, and its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archgen.cli.application import predictor_app
from archgen.cli.options import Json, Seed, SpaceName
from archgen.cli.terminal import say, show

if TYPE_CHECKING:
    from archgen.evaluators import Labels
    from archgen.spaces import SearchSpace

Table = Annotated[Path, typer.Option(help="Table (parquet or CSV) with an `arch` column.")]
Target = Annotated[str, typer.Option(help="Column to predict.")]
Model = Annotated[str, typer.Option(help="Predictor, by name.")]


@predictor_app.command("evaluate")
def evaluate_command(
    space: SpaceName,
    table: Table,
    target: Target,
    n: Annotated[int, typer.Option("-n", min=1, help="Random rows to fit on; all others judge.")] = 100,
    model: Model = "gp",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Fit a predictor on N rows of a table and judge it on the rows that were not used."""
    from archgen import spaces
    from archgen.predictor_evaluation import evaluate_predictor
    from archgen.pretrain_predictor import make_predictor

    loaded = spaces.load(space)
    predictor = make_predictor(model, loaded, target, built_simplified=False)
    labels = _read(loaded, table, target)
    figures = evaluate_predictor(predictor, labels.archs, labels.values[target], n=n, seed=seed)
    shown = {("coverage" if name == "coverage_90" else name): value for name, value in figures.items()}
    show(json.dumps(shown) if as_json else ", ".join(f"{name} {value:.4g}" for name, value in shown.items()))


@predictor_app.command("fit")
def fit_command(
    space: SpaceName,
    table: Table,
    target: Target,
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")],
    n: Annotated[int | None, typer.Option("-n", min=1, help="Random rows to fit on; all by default.")] = None,
    model: Model = "gp",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Fit a predictor on N rows of a table (or all) and save it as a checkpoint."""
    import numpy as np

    from archgen import spaces
    from archgen.artifacts import free_folder
    from archgen.errors import ArchgenError
    from archgen.predictors import save_predictor
    from archgen.pretrain_predictor import make_predictor

    loaded = spaces.load(space)
    free_folder(out, "predictor")
    predictor = make_predictor(model, loaded, target, built_simplified=False)
    labels = _read(loaded, table, target)
    count = len(labels.archs) if n is None else n
    if count > len(labels.archs):
        raise ArchgenError(f"{table} has {len(labels.archs)} architectures, {count} were asked for; give a smaller -n")
    rows = np.random.default_rng(seed).permutation(len(labels.archs))[:count]
    y = labels.values[target][rows]
    if np.ptp(y) == 0:
        raise ArchgenError(f"{target} has the same value, {y[0]:g}, in every row; there is nothing to learn")
    predictor.fit([labels.archs[i] for i in rows], y)
    card = f"""# {target} of {loaded.name}

- **What**: predicts `{target}` ({model}) for `archgen generate` and `GuidedSampler`.
- **Data**: {count} random architectures of {len(labels.archs):,}; column `{target}` of {table.name}; seed {seed}.
"""
    save_predictor(predictor, model, out, card)
    facts = {"out": str(out), "target": target, "model": model, "n": count}
    show(json.dumps(facts) if as_json else f"{out}: {target} ({model}) from {count} architectures")


def _read(space: SearchSpace, table: Path, target: str) -> Labels:
    from archgen.evaluators import read_labels

    labels = read_labels(space, table, [target])
    if labels.averaged:
        say(f"{labels.averaged} rows of {table} repeat an architecture; their values are averaged")
    return labels
