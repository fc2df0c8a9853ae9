"""`archgen design`."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archgen.cli.application import app
from archgen.cli.options import TRUST, Json, Minimize, Ray, Resource, Seed, SpaceName, cluster, numbers, told
from archgen.cli.terminal import INTERRUPTED, Terminal, say, show
from archgen.errors import ArchgenError, InvalidOption, RunConflict, UnknownName

if TYPE_CHECKING:
    from archgen.design import DesignRequest
    from archgen.objectives import Objective

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


@app.command("design")
def design_command(
    context: typer.Context,
    data: Annotated[
        str, typer.Option(help="`digits`, an .npz, a folder of class folders, or a parquet file.")
    ] = "digits",
    space: SpaceName = "nasbench201",
    at_most: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=VALUE",
            help="Upper bound; METRIC=40% is one that 40 % of random architectures meet; repeat.",
        ),
    ] = None,
    minimize: Minimize = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the run; must be new or empty.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    effort: Annotated[str, typer.Option(help="quick, standard or thorough; sets the next five.")] = "standard",
    budget: Annotated[int | None, typer.Option(help="Architectures to evaluate.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the supernet.")] = None,
    finetune_epochs: Annotated[int | None, typer.Option(help="Epochs of fine-tuning.")] = None,
    finalists: Annotated[int | None, typer.Option(help="Most promising architectures to fine-tune.")] = None,
    measured: Annotated[int | None, typer.Option(help="Architectures to measure for the latency predictor.")] = None,
    time_limit: Annotated[str | None, typer.Option(help="Seconds, or as 90s, 10m, 2h: all is cut to fit.")] = None,
    network: Annotated[list[str] | None, typer.Option(help="Argument NAME=NUMBER of the networks; repeat.")] = None,
    networks: Annotated[int, typer.Option(help="Most networks of a Pareto set (--minimize).")] = 5,
    latency: Annotated[
        Path | None, typer.Option(help="Table of `arch` and `latency_ms` of your device; nothing is measured here.")
    ] = None,
    runtime: Annotated[str, typer.Option(help="`onnxruntime`, `torch` or `torch_compile`.")] = "onnxruntime",
    processor: Annotated[str, typer.Option("--device", help="Where latency is measured, `cpu` or `cuda`.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of the runtime when latency is measured.")] = 1,
    resize: Annotated[int | None, typer.Option(help="Resize images to this side, in pixels.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use at most so many images.")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="Search strategy; generative where the space has a generator, else bayes.")
    ] = None,
    generator: Annotated[
        str | None, typer.Option(help="Generator that the search draws from: a name, or the folder of your own.")
    ] = None,
    ray: Ray = None,
    resource: Resource = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Design, train and export networks for images under bounds on latency, size or memory.

    Bounds and --minimize take `latency_ms` (one image), `params`, `flops`, `memory_mb`, and `latency_ms@DEVICE` of the
    published networks of a space (`archgen latency devices`). With --minimize the answer is a Pareto set.
    """
    from archgen.design import EFFORTS, DesignRequest
    from archgen.objectives import check, parse_bound

    if (out is None) == (resume is None):
        raise RunConflict("expected either --out FOLDER (a new run) or --resume FOLDER (an earlier one)")
    if resume is not None:
        _only_resume(context)
        _run(None, resume, True, as_json, ray, resource)
        return
    texts = at_most or []
    bounds = [parse_bound(text, "at_most") for text in texts if not text.endswith("%")]
    percents = [parse_bound(text.removesuffix("%"), "at_most") for text in texts if text.endswith("%")]
    check([*bounds, *percents])
    if effort not in EFFORTS:
        raise UnknownName("effort", effort, EFFORTS)
    given = {
        "budget": budget,
        "epochs": epochs,
        "finetune_epochs": finetune_epochs,
        "finalists": finalists,
        "measured": measured,
    }
    request = DesignRequest(
        data=data,
        space=space,
        at_most=_tightest(bounds),
        at_most_percent=_tightest(percents),
        minimize=tuple(minimize or ()),
        seed=seed,
        **EFFORTS[effort] | {name: value for name, value in given.items() if value is not None},
        network=numbers(network, "--network"),
        networks=networks,
        latency=None if latency is None else str(latency),
        runtime=runtime,
        processor=processor,
        threads=threads,
        resize=resize,
        limit=limit,
        strategy=strategy,
        generator=generator,
        time_limit=None if time_limit is None else _seconds(time_limit),
    )
    assert out is not None
    _run(request, out, False, as_json, ray, resource)


def _tightest(bounds: Sequence[Objective]) -> dict[str, float]:
    """The lowest bound of each metric."""
    return {o.metric: min(b.bound or 0.0 for b in bounds if b.metric == o.metric) for o in bounds}


def _only_resume(context: typer.Context) -> None:
    """Refuse what a new run is told: an earlier one has its own."""
    options = {each.name: each.opts[0] for each in context.command.params}
    if other := [options[name] for name in told(context) if name not in ("resume", "ray", "resource", "as_json")]:
        raise RunConflict(f"a run that is resumed keeps what it was begun with: leave out {', '.join(other)}")


@app.command("resume")
def resume_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a run of `archgen design`.")],
    ray: Ray = None,
    resource: Resource = None,
    as_json: Json = False,
) -> None:
    """Go on with a design that was stopped, or show the result of a finished one."""
    _run(None, folder, True, as_json, ray, resource)


@app.command("report")
def report_command(folder: Annotated[Path, typer.Argument(help="Folder of a finished design.")]) -> None:
    """Write the report of a finished design again, by today's template."""
    from archgen.design import report

    show(str(report(folder)))


@app.command("dashboard")
def dashboard_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a run of `archgen design`.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the page on this machine.")] = 8080,
) -> None:
    """Open Optuna's dashboard on the study of a design, on this machine alone, until Ctrl-C."""
    from archgen.run_folder import RunFolder
    from archgen.study.storage import check_whole, open_storage

    study = RunFolder.open(folder).file("study.db")
    if not study.exists() or not study.stat().st_size:
        raise RunConflict(f"{folder} has no {study.name} yet: the search has not begun")
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise ArchgenError("the dashboard is not installed: pip install 'archgen[dashboard]'") from None
    storage = open_storage(study.resolve(), timeout=60.0)
    check_whole(storage, study)
    say(f"http://127.0.0.1:{port}, until Ctrl-C")
    run_server(storage, host="127.0.0.1", port=port)


def _run(
    request: DesignRequest | None,
    folder: Path,
    resume: bool,
    as_json: bool,
    ray: str | None,
    resource: list[str] | None,
) -> None:
    from torch import get_num_threads

    from archgen.design import damaged, design

    processes = get_num_threads()  # OMP_NUM_THREADS, or as many as there are cores
    command = shlex.join(["archgen", *sys.argv[1:]])
    try:
        result = design(
            request,
            folder,
            resume=resume,
            progress=Terminal(),
            cluster=cluster(ray, resource),
            processes=processes,
            command=command,
        )
    except KeyboardInterrupt:
        where = ["--ray", ray] if ray is not None else []
        where += [text for each in resource or [] for text in ("--resource", each)]
        where += [TRUST] if TRUST in sys.argv else []
        say(f"interrupted; go on with: {shlex.join(['archgen', 'design', '--resume', str(folder), *where])}")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        show(json.dumps(result))
        return
    try:
        lines = [*_lines(result, folder)]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError) as error:
        raise damaged(folder, repr(error)) from None
    show("\n".join(lines))


def _seconds(text: str) -> float:
    """Read `90`, `90s`, `10m`, `1.5h`."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh]?)", text)
    if found is None:
        raise InvalidOption(f"expected a time such as 90s, 10m or 2h for --time-limit, got '{text}'")
    return float(found[1]) * _UNITS[found[2]]


def _lines(result: dict[str, Any], folder: Path) -> Iterator[str]:
    winner = result["winner"]
    low, high = winner["latency_interval"]
    yield f"winner     {winner['arch']}"
    yield f"accuracy   {winner['test_acc']:.2f} % on the test part, {winner['val_acc']:.2f} % on the validation part"
    if "measurements" in result["device"]:
        yield f"latency    {winner['latency_ms']:.4f} ms predicted (90 % interval {low:.4f} to {high:.4f})"
    else:
        yield f"latency    {winner['latency_ms']:.4f} ms (95 % interval {low:.4f} to {high:.4f})"
    if small := winner["int8"]:
        ratio = small.get("float_latency_ms", 0.0) / small.get("latency_ms", 1.0)
        faster = f", {ratio:.2f} times as fast" if ratio else ""
        yield f"int8       {small['test_acc']:.2f} % on the test part, {small['bytes'] / 1e3:.0f} kB{faster}"
    yield f"size       {winner['params']:,} parameters, {winner['flops'] / 1e6:.2f} MFLOPs"
    for constraint in result["constraints"]:
        verdict = "met" if constraint["met"] else "NOT met"
        of_all = f" ({constraint['percent']:g} % of random architectures meet it)" if "percent" in constraint else ""
        yield f"bound      {constraint['metric']} at most {constraint['bound']:g}{of_all}: {verdict}"
    for other in result["networks"][1:]:
        costs = ", ".join(f"{metric} {other[metric]:.4g}" for metric in result["minimized"])
        costs += "".join(f", {c['metric']} NOT met" for c in other.get("constraints", ()) if not c["met"])
        yield f"{other['files']:10} {other['test_acc']:.2f} %, {costs}  {other['arch']}"
    yield f"cost       {result['evaluations']} evaluations, {result['seconds']['total']:.0f} s"
    stems = [network["files"] for network in result["networks"]]
    files = ", ".join(f"{stem}.onnx, {stem}.int8.onnx, {stem}.safetensors, {stem}.json" for stem in stems)
    yield f"files      {folder}/{files}, trials.parquet, report.html"
