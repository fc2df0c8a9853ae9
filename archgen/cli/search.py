"""`archgen search`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from archgen.cli.application import app
from archgen.cli.options import (
    AtLeast,
    AtMost,
    Json,
    Maximize,
    Minimize,
    Seed,
    SpaceName,
    wishes,
    writable,
    write_frame,
)
from archgen.cli.terminal import Terminal, say, show
from archgen.errors import InvalidObjective


@app.command("search")
def search_command(
    space: SpaceName,
    evaluator: Annotated[Path, typer.Option(help="Table (parquet or CSV) with an `arch` column and metric columns.")],
    budget: Annotated[int, typer.Option(min=1, help="Evaluations in all.")],
    out: Annotated[Path, typer.Option(help="Trials, as parquet (or CSV by its name).")],
    maximize: Maximize = None,
    minimize: Minimize = None,
    at_most: AtMost = None,
    at_least: AtLeast = None,
    strategy: Annotated[str, typer.Option(help="Search strategy.")] = "generative",
    batch: Annotated[int, typer.Option(min=1, help="Architectures asked for at a time.")] = 4,
    seed: Seed = 0,
    study: Annotated[str | None, typer.Option(help="Database URL or SQLite file; in memory without.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="The table lists only some architectures.")] = False,
    as_json: Json = False,
) -> None:
    """Search a table of measurements."""
    from archgen import spaces
    from archgen.evaluators import TabularEvaluator
    from archgen.objectives import all_met
    from archgen.sampler import pretrained_generator
    from archgen.strategies import STRATEGIES
    from archgen.study import COMPLETE, Study, Trial, search
    from archgen.threads import single_threaded

    kind, searched = STRATEGIES[strategy], spaces.load(space)
    objectives = wishes(maximize, minimize, at_most, at_least)
    writable(out)
    table = TabularEvaluator(searched, evaluator, needed=[o.metric for o in objectives], partial=partial)
    storage = study if study is None or "://" in study else Path(study)
    if resume and study is None:
        raise InvalidObjective("--resume needs --study: a study in memory can not be gone on with")
    extra = {"generator": pretrained_generator(searched)} if strategy == "generative" else {}
    proposer = kind(
        searched, objectives, seed=seed, screen=lambda archs: [table.can_evaluate(a) for a in archs], **extra
    )
    trials = Study(
        searched, objectives, storage=storage, resume=resume
    )  # last: what is refused above leaves no database
    with Terminal().bar(f"{strategy} search", budget) as bar, single_threaded():
        bar.update(len(trials.trials))

        def count(trial: Trial) -> None:
            bar.update()

        try:
            search(trials, proposer, table, budget=budget, batch=batch, seed=seed, on_trial=count)
        except KeyboardInterrupt:
            hint = "nothing is kept without --study" if study is None else "go on with the same command and --resume"
            say(f"interrupted; {hint}")
            raise typer.Exit(130) from None
    frame = trials.to_frame(table.metrics)
    write_frame(frame, out)
    good = [t for t in trials.trials if t.state == COMPLETE and all_met(objectives, t.values)]
    best = max(good, key=proposer.merit, default=None)
    facts: dict[str, Any] = {
        "evaluations": len(frame),
        "met": best is not None,
        "best": None if best is None else {"trial": best.number, "arch": searched.format(best.arch), **best.values},
        "out": str(out),
    }
    if as_json:
        show(json.dumps(facts))
    elif best is None:
        show(f"{len(frame)} evaluations in {out}; none meets the bounds")
    else:
        shown = dict.fromkeys(o.metric for o in objectives)
        values = ", ".join(f"{m} {best.values[m]:.6g}" for m in shown)
        show(f"best of {len(frame)} (trial {best.number}): {searched.format(best.arch)}  {values}; trials in {out}")
