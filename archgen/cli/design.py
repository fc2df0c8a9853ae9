"""`archgen design`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from archgen.cli.application import app
from archgen.cli.options import AtMost, Json, Seed, SpaceName
from archgen.cli.terminal import Terminal, say, show
from archgen.errors import RunConflict


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
        result = design(request, folder, resume=resume is not None, progress=Terminal())
    except KeyboardInterrupt:
        say(f"interrupted; go on with: archgen design --resume {folder}")
        raise typer.Exit(130) from None
    if as_json:
        show(json.dumps(result))
        return
    winner = result["winner"]
    low, high = winner["latency_interval"]
    show(f"winner     {winner['arch']}")
    show(f"accuracy   {winner['test_acc']:.2f} % on the test part, {winner['val_acc']:.2f} % on the validation part")
    show(f"latency    {winner['latency_ms']:.4f} ms (95 % interval {low:.4f} to {high:.4f})")
    show(f"size       {winner['params']:,} parameters, {winner['flops'] / 1e6:.2f} MFLOPs")
    for constraint in result["constraints"]:
        verdict = "met" if constraint["met"] else "NOT met"
        show(f"bound      {constraint['metric']} at most {constraint['bound']:g}: {verdict}")
    show(f"cost       {result['evaluations']} evaluations, {result['seconds']['total']:.0f} s")
    show(f"files      {folder}/best.onnx, best.safetensors, best.json, trials.parquet, report.html")
