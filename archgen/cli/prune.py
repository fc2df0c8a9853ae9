"""`archgen prune`: a smaller space, without the choices that labels show to be worse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archgen.cli.application import app
from archgen.cli.options import Json, Seed, SpaceName, writable
from archgen.cli.predictor import Table, Target
from archgen.cli.terminal import say, show
from archgen.errors import ArchgenError, InvalidSpace, RunConflict

if TYPE_CHECKING:
    from archgen.predictors.choice_pruning import Evidence


@app.command("prune")
def prune_command(
    space: SpaceName,
    table: Table,
    target: Target,
    out: Annotated[Path, typer.Option(help="TOML file of the smaller space; its name becomes the space's.")],
    n: Annotated[int | None, typer.Option("-n", min=1, help="Random rows to judge by; all by default.")] = None,
    keep: Annotated[float, typer.Option(help="Least share of each variable's values that stay, in (0, 1].")] = 0.5,
    minimize: Annotated[bool, typer.Option("--minimize", help="The lower the target, the better.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Drop the values of a space's variables that are reliably worse than the mean, by SHAP values of boosted trees."""
    import numpy as np

    from archgen import spaces
    from archgen.artifacts import write_text
    from archgen.evaluators import read_labels
    from archgen.predictors.choice_pruning import kept_values, prune
    from archgen.prune import base_reference, pruned_toml
    from archgen.spaces import RestrictedSpace

    loaded = spaces.load(space)
    _check_out(out, space)
    labels = read_labels(loaded, table, [target])
    if labels.averaged:
        say(f"{labels.averaged} rows of {table} repeat an architecture; their values are averaged")
    count = len(labels.archs) if n is None else n
    if count > len(labels.archs):
        raise ArchgenError(f"{table} has {len(labels.archs)} architectures, {count} were asked for; give a smaller -n")
    rows = np.random.default_rng(seed).permutation(len(labels.archs))[:count]
    y = labels.values[target][rows]
    evidence = prune(loaded, [labels.archs[i] for i in rows], -y if minimize else y, keep=keep, seed=seed)
    kept = kept_values(evidence)
    try:
        size = RestrictedSpace(loaded, kept).size
    except InvalidSpace:
        raise ArchgenError(f"--keep {keep:g} would leave no two architectures; give more, such as --keep 0.5") from None
    wish = "least" if minimize else "greatest"
    summary = f"{loaded.name} without what makes {target} worse"
    facts: dict[str, str | int | float] = {"table": table.name, "target": target, "best": wish, "labels": count}
    facts |= {"keep": keep, "seed": seed}
    write_text(out, pruned_toml(out.stem, base_reference(space, out), evidence, facts, summary))
    _report(out, loaded.size, size, count, kept, evidence, as_json)


def _check_out(out: Path, space: str) -> None:
    """Refuse, before any work, a file that can not be written, is not ours, or would name another space's name."""
    import tomllib

    from archgen import spaces

    writable(out)
    if out.suffix != ".toml":
        raise RunConflict(f"{out}: expected a name that ends in .toml")
    if out.stem in spaces.available():
        raise RunConflict(f"{out}: '{out.stem}' is the name of a space that comes with archgen; choose another name")
    if not out.exists():
        return
    if Path(space).exists() and out.samefile(space):
        raise RunConflict(f"{out} is the space that is pruned; give another --out")
    try:
        ours = "pruned" in tomllib.loads(out.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        ours = False
    if not ours:
        raise RunConflict(f"{out} was not written by archgen prune; give another --out")


def _report(
    out: Path,
    before: int,
    size: int,
    labels: int,
    kept: dict[str, tuple[str, ...]],
    evidence: list[Evidence],
    as_json: bool,
) -> None:
    dropped = {name: [e.value for e in evidence if e.variable == name and e.dropped] for name in kept}
    if as_json:
        facts = {"out": str(out), "name": out.stem, "labels": labels, "size": size, "size_before": before}
        details = [vars(e) for e in evidence]
        show(json.dumps({**facts, "dropped": dropped, "kept": kept, "evidence": details}))
        return
    for name, values in kept.items():
        lost = ", ".join(f"{e.value} ({e.mean:+.2f})" for e in evidence if e.variable == name and e.dropped)
        show(f"{name}: dropped {lost}; kept {', '.join(values)}")
    if not kept:
        show(f"nothing is reliably worse than the mean by {labels} labels; the space stays whole")
    show(f"{out}: {size:,} of {before:,} architectures, from {labels} labels")
