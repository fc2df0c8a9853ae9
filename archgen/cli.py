"""The `archgen` command. Heavy imports live inside the commands, so that `--help` is quick."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archgen.errors import ArchgenError, ArchgenWarning, InvalidObjective, RunConflict
from archgen.progress import Bar, Progress

if TYPE_CHECKING:
    from archgen.objectives import Objective

app = typer.Typer(
    help="Designs neural networks to order.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
train_app = typer.Typer(help="Train what the checkpoints hold.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(train_app, name="train")

SpaceName = Annotated[str, typer.Option("--space", help="Search space; `archgen spaces` lists them.")]
Maximize = Annotated[list[str] | None, typer.Option("--maximize", metavar="METRIC", help="Metric to maximize.")]
Minimize = Annotated[list[str] | None, typer.Option("--minimize", metavar="METRIC", help="Metric to minimize.")]
AtMost = Annotated[list[str] | None, typer.Option("--at-most", metavar="METRIC=VALUE", help="Upper bound; repeat.")]
AtLeast = Annotated[list[str] | None, typer.Option("--at-least", metavar="METRIC=VALUE", help="Lower bound; repeat.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Same seed, same result.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


@app.command("spaces")
def spaces_command(
    name: Annotated[str | None, typer.Argument(help="Show one space.")] = None, as_json: Json = False
) -> None:
    """List the search spaces, or describe one."""
    from archgen import spaces

    if name is None:
        listed = [spaces.load(each) for each in spaces.available()]
        rows = [{"name": s.name, "family": s.family, "size": s.size, "summary": s.summary} for s in listed]
        if as_json:
            _print(json.dumps(rows))
        for row in [] if as_json else rows:
            _print(f"{row['name']:14} {row['family']:8} {row['size']:>12,}  {row['summary']}")
        return
    space = spaces.load(name)
    example = space.format(space.from_choices({variable: len(v) - 1 for variable, v in space.variables.items()}))
    facts: dict[str, Any] = {
        "name": space.name,
        "family": space.family,
        "paper": f"arXiv {space.paper}",
        "size": space.size,
        "variables": {variable: list(values) for variable, values in space.variables.items()},
        "network": space.network_defaults,
        "example": example,
    }
    if as_json:
        _print(json.dumps(facts))
        return
    for key, value in facts.items():
        _print(f"{key:10} " + (", ".join(f"{k}={v}" for k, v in value.items()) if key == "network" else _words(value)))


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ("\n" + " " * 11).join(f"{k}: {' | '.join(map(str, v))}" for k, v in value.items())
    return f"{value:,}" if isinstance(value, int) else str(value)


@app.command()
def generate(
    space: SpaceName,
    n: Annotated[int, typer.Option("-n", "--number", help="How many architectures.")] = 10,
    maximize: Maximize = None,
    minimize: Minimize = None,
    at_most: AtMost = None,
    at_least: AtLeast = None,
    generator: Annotated[str, typer.Option(help="Generator.")] = "discrete_flow",
    steps: Annotated[int, typer.Option(help="Solver steps.")] = 16,
    duplicates: Annotated[bool, typer.Option("--duplicates", help="Draw freely, keep duplicates.")] = False,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Parquet or CSV file to write; prints a table without.")] = None,
    as_json: Json = False,
) -> None:
    """Draw architectures from the trained generator, guided by the predictors of the checkpoints."""
    from archgen.generators import GENERATORS
    from archgen.sampler import GuidedSampler
    from archgen.threads import single_threaded

    GENERATORS[generator]
    wishes = _wishes(maximize, minimize, at_most, at_least)
    _writable(out)
    sampler = GuidedSampler.from_pretrained(space, generator=generator)
    with single_threaded():
        samples = sampler.sample(n, wishes, steps=steps, seed=seed, unique=not duplicates)
    if out is not None:
        samples.save(out)
    frame = samples.to_frame()
    if as_json:
        _print(json.dumps({"samples": frame.to_dict("records"), "diagnostics": samples.diagnostics}))
        return
    if out is None:
        _print(frame.to_string(index=False))
    facts = ", ".join(f"{key} {value:.4g}" for key, value in samples.diagnostics.items())
    _say(f"{len(samples)} architectures{f' in {out}' if out else ''} ({facts})")


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
    wishes = _wishes(maximize, minimize, at_most, at_least)
    _writable(out)
    table = TabularEvaluator(searched, evaluator, needed=[o.metric for o in wishes], partial=partial)
    storage = study if study is None or "://" in study else Path(study)
    if resume and study is None:
        raise InvalidObjective("--resume needs --study: a study in memory can not be gone on with")
    extra = {"generator": pretrained_generator(searched)} if strategy == "generative" else {}
    proposer = kind(searched, wishes, seed=seed, screen=lambda archs: [table.can_evaluate(a) for a in archs], **extra)
    trials = Study(searched, wishes, storage=storage, resume=resume)  # last: what is refused above leaves no database
    with _Terminal().bar(f"{strategy} search", budget) as bar, single_threaded():
        bar.update(len(trials.trials))

        def show(trial: Trial) -> None:
            bar.update()

        try:
            search(trials, proposer, table, budget=budget, batch=batch, seed=seed, on_trial=show)
        except KeyboardInterrupt:
            hint = "nothing is kept without --study" if study is None else "go on with the same command and --resume"
            _say(f"interrupted; {hint}")
            raise typer.Exit(130) from None
    frame = trials.to_frame(table.metrics)
    _write_frame(frame, out)
    good = [t for t in trials.trials if t.state == COMPLETE and all_met(wishes, t.values)]
    best = max(good, key=proposer.merit, default=None)
    facts: dict[str, Any] = {
        "evaluations": len(frame),
        "met": best is not None,
        "best": None if best is None else {"trial": best.number, "arch": searched.format(best.arch), **best.values},
        "out": str(out),
    }
    if as_json:
        _print(json.dumps(facts))
    elif best is None:
        _print(f"{len(frame)} evaluations in {out}; none meets the bounds")
    else:
        shown = dict.fromkeys(o.metric for o in wishes)
        values = ", ".join(f"{m} {best.values[m]:.6g}" for m in shown)
        _print(f"best of {len(frame)} (trial {best.number}): {searched.format(best.arch)}  {values}; trials in {out}")


@app.command("design")
def design_command(
    data: Annotated[
        str, typer.Option(help="`digits`, an .npz, a folder of class folders, or a parquet file.")
    ] = "digits",
    space: SpaceName = "nasbench201",
    at_most: AtMost = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the run; must be new or empty.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    budget: Annotated[int, typer.Option(help="Architectures to evaluate.")] = 100,
    epochs: Annotated[int, typer.Option(help="Epochs of the supernet.")] = 200,
    finetune_epochs: Annotated[int, typer.Option(help="Epochs of the winner's fine-tuning.")] = 100,
    cells: Annotated[int, typer.Option(help="Cells a stage.")] = 1,
    channels: Annotated[int, typer.Option(help="Channels of the first stage.")] = 16,
    measured: Annotated[int, typer.Option(help="Architectures to measure for the latency predictor.")] = 40,
    threads: Annotated[int, typer.Option(help="Threads of the runtime when latency is measured.")] = 1,
    resize: Annotated[int | None, typer.Option(help="Resize images to this side, in pixels.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use at most so many images.")] = None,
    strategy: Annotated[str, typer.Option(help="Search strategy.")] = "generative",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Design, train and export a network for images under a latency bound on this machine."""
    from archgen.design import DesignRequest, design
    from archgen.objectives import check, parse_bound

    if (out is None) == (resume is None):
        raise RunConflict("expected either --out FOLDER (a new run) or --resume FOLDER (an earlier one)")
    bounds = [parse_bound(text, "at_most") for text in at_most or []]
    check(bounds)
    request = DesignRequest(
        data=data,
        space=space,
        at_most={o.metric: min(b.bound or 0.0 for b in bounds if b.metric == o.metric) for o in bounds},
        seed=seed,
        budget=budget,
        epochs=epochs,
        finetune_epochs=finetune_epochs,
        cells=cells,
        channels=channels,
        measured=measured,
        threads=threads,
        resize=resize,
        limit=limit,
        strategy=strategy,
    )
    folder = resume or out
    assert folder is not None
    try:
        result = design(request, folder, resume=resume is not None, progress=_Terminal())
    except KeyboardInterrupt:
        _say(f"interrupted; go on with: archgen design --resume {folder}")
        raise typer.Exit(130) from None
    if as_json:
        _print(json.dumps(result))
        return
    winner = result["winner"]
    low, high = winner["latency_interval"]
    _print(f"winner     {winner['arch']}")
    _print(f"accuracy   {winner['test_acc']:.2f} % on the test part, {winner['val_acc']:.2f} % on the validation part")
    _print(f"latency    {winner['latency_ms']:.4f} ms (95 % interval {low:.4f} to {high:.4f})")
    _print(f"size       {winner['params']:,} parameters, {winner['flops'] / 1e6:.2f} MFLOPs")
    for constraint in result["constraints"]:
        verdict = "met" if constraint["met"] else "NOT met"
        _print(f"bound      {constraint['metric']} at most {constraint['bound']:g}: {verdict}")
    _print(f"cost       {result['evaluations']} evaluations, {result['seconds']['total']:.0f} s")
    _print(f"files      {folder}/best.onnx, best.safetensors, best.json, trials.parquet, report.html")


@app.command()
def export(
    source: Annotated[Path | None, typer.Argument(help="A run folder, or a best.json.")] = None,
    out: Annotated[Path, typer.Option(help="ONNX file to write.")] = Path("network.onnx"),
    space: Annotated[str | None, typer.Option(help="Without a source: the space of --arch.")] = None,
    arch: Annotated[str | None, typer.Option(help="Without a source: architecture to build, untrained.")] = None,
    seed: Seed = 0,
) -> None:
    """Write a designed network (or an untrained one of a given architecture) as ONNX, checked against PyTorch."""
    import torch

    from archgen import spaces
    from archgen.export import check_onnx, load_network, to_onnx

    _writable(out)
    if source is not None and arch is None and space is None:
        network, facts = load_network(source / "best.json" if source.is_dir() else source)
        arguments = facts["network"]
    elif source is None and arch is not None and space is not None:
        loaded = spaces.load(space)
        arguments = loaded.network_defaults
        torch.manual_seed(seed)
        network = loaded.build(loaded.simplify(loaded.parse(arch)))
    else:
        raise InvalidObjective("expected a run folder or best.json, or else both --space and --arch")
    shape = (arguments["in_channels"], arguments["image_size"], arguments["image_size"])
    to_onnx(network.eval(), shape, out)
    images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(seed))
    difference = check_onnx(network, out, images)
    _print(f"{out}: input image {('batch', *shape)}, largest difference to PyTorch {difference:.2g}")


@train_app.command("generator")
def train_generator_command(
    space: SpaceName,
    generator: Annotated[str, typer.Option(help="Generator.")] = "discrete_flow",
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 3000,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the checkpoint; default: the committed place.")] = None,
) -> None:
    """Train a generator on samples of its space; needs no labels."""
    from archgen import config, spaces
    from archgen.artifacts import CONFIG, read_json
    from archgen.generators import GENERATORS
    from archgen.pretrain import pretrain_generator
    from archgen.progress import track

    GENERATORS[generator]
    loaded = spaces.load(space)
    folder = out or config.checkpoints_dir() / "generators" / f"{space}-{generator}"
    if folder.exists() and any(folder.iterdir()):
        header = read_json(folder / CONFIG) if (folder / CONFIG).exists() else None
        if not isinstance(header, dict) or header.get("kind") != "generator":
            raise RunConflict(f"{folder} holds something that is not a generator's checkpoint; give another --out")
    figures = pretrain_generator(
        loaded,
        folder,
        name=generator,
        steps=steps,
        seed=seed,
        progress=lambda items: track(_Terminal(), "training", steps, items),
    )
    _print(f"{folder}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))


def main() -> None:
    """Entry point: one line on standard error and exit status 2 for whatever a user can mend."""
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", ArchgenWarning)
    warnings.showwarning = lambda message, *_, **__: _say(str(message))
    try:
        code = app(prog_name="archgen", standalone_mode=False)
        sys.stdout.flush()  # a full disk shows here, not when the interpreter ends
    except ArchgenError as error:
        sys.exit(_fail(str(error)))
    except OSError as error:  # a full disk, a folder without rights
        _drop_output()
        if isinstance(error, BrokenPipeError):  # the reader has seen enough
            sys.exit(1)
        where = f" ({error.filename})" if error.filename else ""
        sys.exit(_fail(f"{error.strerror or error}{where}; free space or check the path, nothing was overwritten"))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not hasattr(error, "format_message"):  # the command line's own complaints have it
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help, many lines
            print(error.format_message(), file=sys.stderr)
            sys.exit(2)
        sys.exit(_fail(error.format_message()))
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> int:
    _say(" ".join(message.split()))
    return 2


def _drop_output() -> None:
    """Forget what standard output does not take, or the interpreter tries it again at its end and complains."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _wishes(
    maximize: list[str] | None, minimize: list[str] | None, at_most: list[str] | None, at_least: list[str] | None
) -> list[Objective]:
    from archgen import objectives

    wishes = [objectives.maximize(metric) for metric in maximize or []]
    wishes += [objectives.minimize(metric) for metric in minimize or []]
    wishes += [objectives.parse_bound(text, "at_most") for text in at_most or []]
    wishes += [objectives.parse_bound(text, "at_least") for text in at_least or []]
    objectives.check(wishes)
    return wishes


def _writable(out: Path | None) -> None:
    """Refuse an output path before any work is done."""
    if out is None:
        return
    if out.is_dir():
        raise RunConflict(f"{out} is a folder, expected the name of a file to write")
    if out.exists() and not out.is_file():  # the file is renamed into place, which would replace /dev/null itself
        raise RunConflict(f"{out} is a device or a pipe, expected the name of a file to write")
    parent = out.parent if out.parent.exists() else out.parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise RunConflict(f"{out} can not be written: {out.parent} is not a folder with write permission")


def _write_frame(frame: Any, out: Path) -> None:
    from archgen.artifacts import write_atomic

    write = frame.to_csv if out.suffix == ".csv" else frame.to_parquet
    write_atomic(out, lambda path: write(path, index=False))


class _Terminal(Progress):
    """tqdm bars on standard error when it is a terminal; one line a stage when it is not."""

    def note(self, line: str) -> None:
        _say(line)

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Bar]:
        from tqdm import tqdm

        if not sys.stderr.isatty():
            _say(f"{what} ({total}) ...")
        with tqdm(desc=what, total=total, disable=None, file=sys.stderr) as bar:
            yield _TqdmBar(bar)


class _TqdmBar(Bar):
    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def update(self, steps: int = 1, **shown: float) -> None:
        if shown:
            self._bar.set_postfix({key: f"{value:.3f}" for key, value in shown.items()}, refresh=False)
        self._bar.update(steps)


def _print(text: str) -> None:
    print(text)


def _say(text: str) -> None:
    print(f"archgen: {text}", file=sys.stderr)
