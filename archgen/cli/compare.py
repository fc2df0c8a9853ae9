"""`archgen compare`: searches that were written before, side by side."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from archgen.cli.application import app
from archgen.cli.options import AtLeast, AtMost, Json, Maximize, Minimize, Seed, wishes, writable, write_frame
from archgen.cli.terminal import show


@app.command("compare")
def compare_command(
    trials: Annotated[
        list[Path],
        typer.Argument(
            help="Tables of trials, parquet or CSV, as `archgen search` writes them; `bayes-3.parquet` is seed 3 of "
            "`bayes`, unless columns `strategy` and `seed` say otherwise."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of comparison.md, .csv (a row a run) and .png (curves).")],
    maximize: Maximize = None,
    minimize: Minimize = None,
    at_most: AtMost = None,
    at_least: AtLeast = None,
    optimum: Annotated[
        float | None,
        typer.Option(
            help="Best value there is, of several directions the best hypervolume; else the best of all runs."
        ),
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0.0, help="How near to the optimum counts as found.")] = 1e-9,
    reference: Annotated[str | None, typer.Option(help="Strategy to test against; that of the first file.")] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="Only the first so many trials of each run.")] = None,
    at: Annotated[
        list[int] | None, typer.Option(min=1, help="Evaluations at which figures are shown; the last is tested.")
    ] = None,
    shown: Annotated[str | None, typer.Option("--show", help="Another metric of the best trial so far.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare searches: regret or hypervolume by evaluations, intervals, tests over seeds."""
    import numpy as np

    from archgen.artifacts import write_text
    from archgen.comparison import AT, caption, markdown, mean_curves, per_run, summarise
    from archgen.gaps import REGRET, find_gaps
    from archgen.objectives import directions
    from archgen.plots import line_plot, save_png
    from archgen.runs import Runs, read_trials

    objectives = wishes(maximize, minimize, at_most, at_least)
    runs = Runs(read_trials(trials), budget=budget)
    gaps = find_gaps(runs, objectives, best=optimum, tolerance=tolerance)
    drawn = runs.values(shown).get("random") if shown is not None else None
    mean = None if drawn is None else float(np.nanmean(drawn))
    better = [wish.sign for wish in directions(objectives)] == [1]  # the relative improvement is one of accuracies
    random_mean = mean if mean is not None and mean > 0 and better else None
    table = per_run(
        runs, objectives, gaps, at=sorted(at or AT), shown=shown, random_mean=random_mean, tolerance=tolerance
    )
    tested = [str(name) for name in table.columns if str(name).startswith(gaps.name)][-1]
    against = reference or runs.strategies[0]
    summary = summarise(table, reference=against, tested=tested, seed=seed)
    writable(out / "comparison.md")

    text = f"{caption(runs, objectives, gaps, tested, against)}\n\n{markdown(summary)}"
    series, bands = mean_curves(gaps, seed=seed)
    label = (
        f"regret of {directions(objectives)[0].metric}" if gaps.name == REGRET else "share of the hypervolume missed"
    )
    title = f"mean of {len(runs.seeds)} seeds, 95 % bootstrap band"
    write_frame(table, out / "comparison.csv")
    save_png(line_plot(series, x="evaluations", y=label, bands=bands, title=title), out / "comparison.png")
    write_text(out / "comparison.md", text)
    if as_json:
        rows = [{str(key): _json(value) for key, value in row.items()} for row in summary.to_dict("records")]
        facts = {"gap": gaps.name, "best": gaps.best, "reference_point": gaps.reference_point, "tested": tested}
        show(json.dumps({**facts, "reference": against, "strategies": rows, "out": str(out)}))
    else:
        show(text.rstrip())


def _json(value: object) -> object:
    """JSON knows neither NaN nor infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
