"""`archgen search`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archgen.cli.application import app
from archgen.cli.member_options import member_options
from archgen.cli.options import (
    AtLeast,
    AtMost,
    Json,
    Maximize,
    Minimize,
    Ray,
    Resource,
    Seed,
    SpaceName,
    cluster,
    wishes,
    writable_table,
    write_frame,
)
from archgen.cli.search_evaluator import DATA, EPOCHS, EvaluatorOptions, check_told, make_evaluator, searchable
from archgen.cli.terminal import INTERRUPTED, Terminal, say, show
from archgen.errors import ArchgenError, InvalidObjective

if TYPE_CHECKING:
    from archgen.objectives import Objective
    from archgen.spaces import SearchSpace
    from archgen.strategies import SearchStrategy
    from archgen.study import Study, Trial

GIVEN = ("space", "objectives", "seed", "screen", "key", "generator", "free_labels")
"""Arguments of strategies that the command gives itself."""


@app.command("search")
def search_command(
    space: SpaceName,
    evaluator: Annotated[
        str, typer.Option(help="Table (parquet or CSV) with an `arch` column and metric columns; or `train`.")
    ],
    budget: Annotated[
        int, typer.Option(min=1, max=10_000_000, help="Evaluations in all, those of other processes included.")
    ],
    out: Annotated[Path, typer.Option(help="Trials, as parquet (or CSV by its name).")],
    maximize: Maximize = None,
    minimize: Minimize = None,
    at_most: AtMost = None,
    at_least: AtLeast = None,
    strategy: Annotated[str, typer.Option(help="Search strategy.")] = "generative",
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Argument of the strategy; repeat.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=100_000, help="Architectures asked for at a time.")] = 4,
    seed: Seed = 0,
    study: Annotated[
        str | None, typer.Option(help="Database URL or SQLite file, which several processes may share; else in memory.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study, or join in.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="The table lists only some architectures.")] = False,
    data: Annotated[str | None, typer.Option(help=f"Images for `train`, as of `archgen design`; {DATA}.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help=f"Epochs of `train`; {EPOCHS}.")] = None,
    transfer: Annotated[
        float | None, typer.Option(help="`train` starts from the nearest trained network if they overlap so much.")
    ] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(metavar="[METRIC=]SD", help="Standard deviation of noise on measurements; repeat."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Parquet file of measurements that are not paid for again.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Evaluations at the same time, each in a process; a batch is at least as large. 1, or all that a Ray "
            "cluster has room for.",
        ),
    ] = None,
    ray: Ray = None,
    resource: Resource = None,
    asynchronous: Annotated[
        bool,
        typer.Option("--asynchronous", help="Ask for the next batch while the last is measured: no worker waits."),
    ] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds that an evaluation may take.")] = None,
    generator: Annotated[
        str | None, typer.Option(help="Generator that the strategy draws from: a name, or the folder of your own.")
    ] = None,
    free_labels: Annotated[
        bool, typer.Option(help="Whether strategies lean on the space's zero-cost proxies, where it has any.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Search a table of measurements, or by training; several terminals may run this on one --study."""
    from archgen import spaces
    from archgen.strategies import STRATEGIES, pretrained_parts
    from archgen.study import Study, search

    kind, searched = STRATEGIES[strategy], spaces.load(space)
    objectives = wishes(maximize, minimize, at_most, at_least)
    arguments: dict[str, Any] = member_options(kind, option or [], what=f"strategy '{strategy}'", given=GIVEN)
    place = study if study is None or "://" in study else Path(study)
    database = Path(study.removeprefix("sqlite:///")) if study else None
    writable_table(out, Path(evaluator), cache, database)
    if resume and study is None:
        raise InvalidObjective("--resume needs --study: a study in memory can not be gone on with")
    asked = EvaluatorOptions(
        evaluator, partial, data, epochs, transfer, noise or [], cache, workers, timeout, cluster(ray, resource)
    )
    measuring = make_evaluator(asked, searched, objectives, seed=seed, study=place)
    arguments |= pretrained_parts(kind, searched, given=() if free_labels else ("free_labels",), generator=generator)
    proposer = kind(
        searchable(searched, measuring),
        objectives,
        seed=seed,
        screen=lambda archs: [measuring.can_evaluate(a) for a in archs],
        **arguments,
    )
    # the study comes last: what is refused above leaves no database
    noisy = "".join(f", with noise {text}" for text in sorted(noise or []))
    trials = Study(searched, objectives, storage=place, resume=resume, measured_by=asked.measured_by + noisy)
    if not noisy:
        check_told(asked, searched, trials.trials)
    with Terminal().bar(f"{strategy} search", budget) as bar, contextlib.closing(measuring):
        bar.update(len(trials.trials))

        def count(trial: Trial) -> None:
            bar.update()

        try:
            search(
                trials,
                proposer,
                measuring,
                budget=budget,
                batch=max(batch, measuring.workers),
                seed=seed,
                asynchronous=asynchronous,
                on_trial=count,
            )
        except BaseException as error:
            with contextlib.suppress(ArchgenError, OSError):  # what was paid for is kept, whatever ends the search
                write_frame(trials.to_frame(measuring.metrics), out)
            if not isinstance(error, KeyboardInterrupt):
                raise
            hint = "there is no --study to go on with" if study is None else "go on with the same command and --resume"
            say(f"interrupted; {len(trials.trials)} evaluations are in {out}; {hint}")
            raise typer.Exit(INTERRUPTED) from None
    write_frame(trials.to_frame(measuring.metrics), out)
    _warn(trials.trials, budget)
    _show(trials, proposer, searched, objectives, out, as_json)


def _warn(trials: Sequence[Trial], budget: int) -> None:
    """Say what the answer does not show: failures, and a search that ended early."""
    failed = [trial for trial in trials if trial.error is not None]
    if failed:
        say(f"{len(failed)} of {len(trials)} evaluations failed, the first: {failed[0].error}")
    if len(trials) < budget:
        say(f"the search ended after {len(trials)} of {budget} evaluations: nothing new was found to propose")


def _show(
    study: Study,
    strategy: SearchStrategy,
    space: SearchSpace,
    objectives: Sequence[Objective],
    out: Path,
    as_json: bool,
) -> None:
    """The best trial, or with several directions the Pareto front of those that meet the bounds."""
    from archgen.objectives import all_met
    from archgen.study import COMPLETE

    def facts(trial: Trial) -> dict[str, Any]:
        return {"trial": trial.number, "arch": space.format(trial.arch), **trial.values}

    total, several = len(study.trials), len(study.directions) > 1
    good = [t for t in study.trials if t.state == COMPLETE and all_met(objectives, t.values)]
    best = [max(good, key=strategy.merit)] if good and not several else []
    chosen = front(good, study.directions) if several else best
    answer = {"front": [facts(t) for t in chosen]} if several else {"best": facts(chosen[0]) if chosen else None}
    if as_json:
        show(json.dumps({"evaluations": total, "met": bool(chosen), **answer, "out": str(out)}))
        return
    if not chosen:
        show(f"{total} evaluations in {out}; none meets the bounds")
        return
    shown = dict.fromkeys(o.metric for o in objectives)
    lines = {t.number: ", ".join(f"{m} {t.values[m]:.6g}" for m in shown) for t in chosen}
    if several:
        show(f"Pareto front of {total}: {len(chosen)} trials; all in {out}")
        for trial in chosen:
            show(f"trial {trial.number}: {space.format(trial.arch)}  {lines[trial.number]}")
    else:
        (trial,) = chosen
        text = space.format(trial.arch)
        show(f"best of {total} (trial {trial.number}): {text}  {lines[trial.number]}; trials in {out}")


def front(trials: Sequence[Trial], directions: Sequence[Objective]) -> list[Trial]:
    """The trials that no other one is at least as good as in every direction and better in one.

    Returns:
        In the order of the first direction, the best first.
    """
    from archgen.metrics import pareto_front

    if not trials:
        return []
    points = [[trial.values[wish.metric] for wish in directions] for trial in trials]
    chosen = [trials[i] for i in pareto_front(points, [wish.sign for wish in directions])]
    return sorted(chosen, key=lambda trial: -directions[0].sign * trial.values[directions[0].metric])
