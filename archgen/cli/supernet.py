"""`archgen supernet`: train one, score, rank and export architectures by the weights that they inherit."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from archgen.cli.application import supernet_app
from archgen.cli.options import Json, Seed, SpaceName, numbers, told, writable, write_frame
from archgen.cli.terminal import Terminal, say, show
from archgen.errors import ArchgenError, InvalidOption
from archgen.launch import configured_precision

Folder = Annotated[Path, typer.Argument(help="Folder of a trained supernet.")]
Moved = Annotated[str | None, typer.Option("--data", help="Its images, where they are not where they were.")]


@supernet_app.command("train")
def train_command(
    context: typer.Context,
    space: SpaceName,
    data: Annotated[str, typer.Option(help="Images, as in `archgen design`: `digits`, or a path.")] = "digits",
    strategy: Annotated[str, typer.Option(help="Training strategy, by name.")] = "uniform",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training part.")] = 100,
    out: Annotated[Path, typer.Option(help="Folder for the supernet.")] = Path("runs/supernet"),
    option: Annotated[list[str] | None, typer.Option(help="Argument NAME=VALUE of the strategy; repeat.")] = None,
    network: Annotated[list[str] | None, typer.Option(help="Argument NAME=NUMBER of the networks; repeat.")] = None,
    lr: Annotated[float, typer.Option(min=1e-6, help="Peak learning rate.")] = 0.1,
    resize: Annotated[int | None, typer.Option(help="Side in pixels to resize the images to.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most images to use.")] = None,
    mixture: Annotated[int, typer.Option(min=1, help="Sets of weights that share the architectures out.")] = 1,
    splits: Annotated[int, typer.Option(min=0, max=4, help="How often to split the supernet by its gradients.")] = 0,
    warm_up: Annotated[int | None, typer.Option(min=1, help="Epochs before each split; a quarter of --epochs.")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Images a step, over all processes.")] = None,
    every: Annotated[
        int | None, typer.Option(min=1, help="Steps between checkpoints; a tenth of all by default.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="no, bf16 or fp16; else what accelerate's configuration says.")
    ] = None,
    channels_last: Annotated[bool, typer.Option(help="Store images channels last, where that is safe.")] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training in --out.")] = False,
    seed: Seed = 0,
) -> None:
    """Train a supernet; a training that was stopped goes on by --resume and ends as if it had not been.

    What it began with counts then: other options need not be given again, and may not differ.

    Started by `accelerate launch -m archgen supernet train ...`, it runs in the processes and on the GPUs that
    accelerate is configured for, by DeepSpeed ZeRO (stage 1 or 2) too; started alone, on the CPU.
    """
    from archgen.cli.member_options import member_options
    from archgen.inheritance import SupernetRequest, train_in_folder
    from archgen.supernets.training import TRAINING_STRATEGIES, launched_processes

    options = member_options(TRAINING_STRATEGIES[strategy], option or [], what=f"strategy '{strategy}'", given=())
    request = SupernetRequest(
        space,
        data,
        strategy,
        options,
        numbers(network, "--network"),
        epochs,
        lr,
        seed,
        resize=resize,
        limit=limit,
        mixture=mixture,
        splits=splits,
        warm_up=warm_up,
        batch=batch,
        every=every,
        precision=configured_precision() if precision is None else precision,
        channels_last=channels_last,
    )
    processes = launched_processes()
    progress = Terminal() if processes.rank == 0 else None
    named = {"option": "options"}
    agreed = {named.get(name, name) for name in told(context)} & {field.name for field in fields(request)}
    trained = train_in_folder(request, out, resume=resume, agreed=agreed, progress=progress, processes=processes)
    processes.close()
    count = sum(p.numel() for p in trained.supernet.parameters())
    show(f"{out}: supernet of {trained.space.name}, {count:,} weights")
    if trained.found is not None:
        show(f"{trained.request.strategy} chose {trained.space.format(trained.found)}")


@supernet_app.command("evaluate")
def evaluate_command(
    folder: Folder,
    arch: Annotated[list[str] | None, typer.Option(help="Architecture to score; repeat.")] = None,
    archs: Annotated[Path | None, typer.Option(help="Table with an `arch` column: score these.")] = None,
    data: Moved = None,
    out: Annotated[Path | None, typer.Option(help="Table to write, parquet or CSV.")] = None,
    as_json: Json = False,
) -> None:
    """Accuracy by inherited weights: statistics of normalisation are measured anew, nothing is trained."""
    import pandas as pd

    from archgen.evaluators import read_architectures
    from archgen.inheritance import load_supernet

    if (arch is None) == (archs is None):
        raise InvalidOption("expected either --arch or --archs")
    writable(out)
    trained = load_supernet(folder, data)
    chosen = [trained.space.parse(text) for text in arch or []] or read_architectures(trained.space, archs)  # type: ignore[arg-type]
    measured = trained.evaluator.evaluate(chosen, seed=0)
    rows = [{"arch": trained.space.format(a), **m.values} for a, m in zip(chosen, measured, strict=True)]
    if out is not None:
        write_frame(pd.DataFrame(rows), out)
        say(f"{out}: {len(rows)} architectures")
    for row in rows if out is None else []:
        values = f"val_acc {row.get('val_acc', float('nan')):.2f} %, val_loss {row.get('val_loss', float('nan')):.4f}"
        show(json.dumps(row) if as_json else f"{row['arch']}  {values}")


@supernet_app.command("rank")
def rank_command(
    folder: Folder,
    table: Annotated[Path, typer.Option(help="Table with an `arch` column and stand-alone accuracies.")],
    target: Annotated[str, typer.Option(help="Its column to compare with, larger is better.")],
    n: Annotated[int, typer.Option("-n", min=3, help="Random architectures of the table.")] = 100,
    proxies: Annotated[
        str | None, typer.Option(help="Proxies of the inherited weights to join with their loss, comma-separated.")
    ] = None,
    data: Moved = None,
    out: Annotated[Path | None, typer.Option(help="Table of all values to write, parquet or CSV.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Rank correlation of inherited and stand-alone accuracy."""
    import numpy as np
    import pandas as pd

    from archgen.evaluators import read_labels
    from archgen.inheritance import load_supernet, rank
    from archgen.proxies import PROXIES

    names = [name.strip() for name in (proxies or "").split(",") if name.strip()]
    members = [PROXIES[name]() for name in dict.fromkeys(names)]
    if out is not None and target in ("val_acc", "joined"):
        raise InvalidOption(f"{out} gets a column {target} of inherited scores; rename that of {table}")
    writable(out)
    trained = load_supernet(folder, data)
    known = read_labels(trained.space, table, [target])
    archs, y = known.archs, known.values[target]
    if len(archs) < n:
        raise ArchgenError(f"{table} has {len(archs)} architectures, {n} were asked for; give a smaller -n")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(archs))[:n])
    if np.ptp(y[chosen]) == 0:
        raise ArchgenError(f"{target} has the same value, {y[chosen[0]]:g}, everywhere; nothing can be ranked")
    found = rank(trained, [archs[i] for i in chosen], y[chosen], Terminal(), members)
    scores: dict[str, object] = {name: found.pop(name) for name in ("val_acc", "joined") if name in found}
    if out is not None:
        rows = {"arch": [trained.space.format(archs[i]) for i in chosen], **scores, target: y[chosen]}
        write_frame(pd.DataFrame(rows), out)
    texts = (f"{name} {'-' if value is None else format(value, '.4g')}" for name, value in found.items())
    show(json.dumps(found) if as_json else ", ".join(texts))


@supernet_app.command("subnet")
def subnet_command(
    folder: Folder,
    arch: Annotated[str, typer.Option(help="Architecture whose network is wanted.")],
    out: Annotated[Path, typer.Option(help="Where to: a stem; .safetensors, .json and .onnx are added.")],
    data: Moved = None,
) -> None:
    """The stand-alone network of an architecture with the weights that it inherits, ready to load and as ONNX."""
    from archgen.export import check_onnx, random_inputs, save_network, to_onnx
    from archgen.inheritance import CALIBRATION, load_supernet
    from archgen.supernets import calibrated
    from archgen.supernets.training import accuracy

    writable(out.with_suffix(".json"))
    trained = load_supernet(folder, data)
    space, images = trained.space, trained.data
    chosen = space.parse(arch)  # as it is written: sets of weights are told apart by that
    network = calibrated(trained.supernet, chosen, images.train.images[:CALIBRATION])
    val_acc, val_loss = accuracy(network, images.validation.images, images.validation.labels)
    arguments = trained.supernet.network
    inputs = random_inputs(space.example_input(4, **arguments))
    to_onnx(network, inputs, out.with_suffix(".onnx"))
    difference = check_onnx(network, out.with_suffix(".onnx"), inputs)
    save_network(
        out,
        network,
        space.simplify(chosen),  # what the network was built from
        space,
        arguments,
        mean=images.mean,
        std=images.std,
        classes=images.classes,
        metrics={"val_acc": val_acc, "val_loss": val_loss},
    )
    show(f"{out}: val_acc {val_acc:.2f} %, largest difference of ONNX to PyTorch {difference:.2g}")
