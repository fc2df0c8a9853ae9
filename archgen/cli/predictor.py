"""`archgen predictor`: how good a predictor is from N labels, and its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archgen.cli.application import predictor_app
from archgen.cli.member_options import member_options
from archgen.cli.options import Json, Seed, SpaceName
from archgen.cli.source_images import Images, read_images
from archgen.cli.terminal import say, show
from archgen.errors import ArchgenError, InvalidObjective

if TYPE_CHECKING:
    from archgen.graph import Architecture
    from archgen.predictors import Predictor
    from archgen.predictors.base import Floats
    from archgen.spaces import SearchSpace

Table = Annotated[Path, typer.Option(help="Table (parquet or CSV) with an `arch` column.")]
Target = Annotated[str, typer.Option(help="Column to predict.")]
Model = Annotated[str, typer.Option(help="Predictor, by name; several joined by + are an ensemble of those.")]
Sources = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN,COLUMN",
        help="For --model meta: columns of other data sets. Columns may then have gaps, and -n 0 will do.",
    ),
]


Option = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="Argument of the model, as loss=diff_kendall; repeat.")
]
_GIVEN = ("space", "metric", "seed", "simplify")


@predictor_app.command("evaluate")
def evaluate_command(
    space: SpaceName,
    table: Table,
    target: Target,
    n: Annotated[int, typer.Option("-n", min=0, help="Random rows to fit on; all others judge.")] = 100,
    model: Model = "gp",
    sources: Sources = None,
    images: Images = None,
    option: Option = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Fit a predictor on N rows of a table and judge it on the rows that were not used."""
    from archgen import spaces
    from archgen.predictor_evaluation import evaluate_predictor

    columns = _sources(sources, target, model, n, images)
    predictor, archs, y = _unfitted(spaces.load(space), table, target, model, columns, option, images)
    figures = evaluate_predictor(predictor, archs, y, n=n, seed=seed)
    shown = {("coverage" if name == "coverage_90" else name): value for name, value in figures.items()}
    show(json.dumps(shown) if as_json else ", ".join(f"{name} {value:.4g}" for name, value in shown.items()))


@predictor_app.command("fit")
def fit_command(
    space: SpaceName,
    table: Table,
    target: Target,
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")],
    n: Annotated[int | None, typer.Option("-n", min=0, help="Random rows to fit on; all by default.")] = None,
    model: Model = "gp",
    sources: Sources = None,
    images: Images = None,
    option: Option = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Fit a predictor on N rows of a table (or all) and save it as a checkpoint."""
    import numpy as np

    from archgen import spaces
    from archgen.artifacts import free_folder
    from archgen.predictors import save_predictor
    from archgen.pretrain_predictor import registered_name

    loaded = spaces.load(space)
    free_folder(out, "predictor")
    columns = _sources(sources, target, model, n, images)
    predictor, archs, values = _unfitted(loaded, table, target, model, columns, option, images)
    count = len(archs) if n is None else n
    if count > len(archs):
        raise ArchgenError(f"{table} has {len(archs)} architectures, {count} were asked for; give a smaller -n")
    rows = np.random.default_rng(seed).permutation(len(archs))[:count]
    y = values[rows]
    if count > (1 if columns else 0) and np.ptp(y) == 0:
        raise ArchgenError(f"{target} has the same value, {y[0]:g}, in every row; there is nothing to learn")
    predictor.fit([archs[i] for i in rows], y)
    leaning = f", leaning on {', '.join(f'`{name}`' for name in columns)}" if columns else ""
    card = f"""# {target} of {loaded.name}

- **What**: predicts `{target}` ({model}) for `archgen generate` and `GuidedSampler`.
- **Data**: {count} random architectures of {len(archs):,}; column `{target}` of {table.name}{leaning}; seed {seed}.
"""
    save_predictor(predictor, registered_name(model), out, card)
    facts = {"out": str(out), "target": target, "model": model, "n": count} | ({"sources": columns} if columns else {})
    show(json.dumps(facts) if as_json else f"{out}: {target} ({model}) from {count} architectures{leaning}")


def _sources(text: str | None, target: str, model: str, n: int | None, images: list[str] | None) -> list[str]:
    """The columns of --sources; refuses what does not go together."""
    from archgen.pretrain_predictor import registered_name

    registered_name(model)
    columns = list(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))
    if model == "meta" and not columns:
        raise InvalidObjective("a meta predictor leans on other data sets: name their columns by --sources")
    if model != "meta" and text is not None:
        raise InvalidObjective(f"a {model} predictor has no use for --sources; leave it out or give --model meta")
    if model != "meta" and images:
        raise InvalidObjective(f"a {model} predictor has no use for --images; leave it out or give --model meta")
    if target in columns:
        raise InvalidObjective(f"{target} is the target, so it can not be a source too; leave it out of --sources")
    if n == 0 and model != "meta":
        raise InvalidObjective(f"a {model} predictor needs labels to fit on, got -n 0; only meta does without")
    return columns


def _unfitted(
    space: SearchSpace,
    table: Path,
    target: str,
    model: str,
    columns: list[str],
    option: list[str] | None,
    images: list[str] | None,
) -> tuple[Predictor, list[Architecture], Floats]:
    """A predictor that knows its sources, and the architectures of the table that have a value of the target."""
    import numpy as np

    from archgen.evaluators import read_labels
    from archgen.predictors import PREDICTORS, Source
    from archgen.pretrain_predictor import make_predictor, registered_name

    kind = PREDICTORS[registered_name(model)]
    options = member_options(kind, option or [], what=f"model '{model}'", given=_GIVEN)
    labels = read_labels(space, table, [target, *columns], gaps=bool(columns))
    if labels.averaged:
        say(f"{labels.averaged} rows of {table} repeat an architecture; their values are averaged")

    def known(name: str) -> tuple[list[Architecture], Floats]:
        rows = np.flatnonzero(np.isfinite(labels.values[name]))
        return [labels.archs[i] for i in rows], labels.values[name][rows]

    for name in columns:
        if np.isnan(labels.values[name]).all():
            raise ArchgenError(f"{table}: column '{name}' has no value in any row, so it can not be a source")
    looks = read_images(images or [], [target, *columns])
    sources = [Source(*known(name), embedding=looks.get(name)) for name in columns]
    if looks:
        options["embedding"] = looks[target]
    predictor = make_predictor(model, space, target, built_simplified=False, sources=sources, options=options)
    return predictor, *known(target)
