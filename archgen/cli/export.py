"""`archgen export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archgen.cli.application import app
from archgen.cli.options import Seed, writable
from archgen.cli.terminal import show
from archgen.errors import InvalidObjective


@app.command()
def export(
    source: Annotated[Path | None, typer.Argument(help="A run folder, or a network's .json.")] = None,
    out: Annotated[Path, typer.Option(help="ONNX file to write.")] = Path("network.onnx"),
    space: Annotated[str | None, typer.Option(help="Space of --arch, or of a source without its TOML file.")] = None,
    arch: Annotated[str | None, typer.Option(help="Without a source: architecture to build, untrained.")] = None,
    seed: Seed = 0,
) -> None:
    """Write a designed network (or an untrained one of a given architecture) as ONNX, checked against PyTorch."""
    import torch

    from archgen import spaces
    from archgen.export import check_onnx, load_network, network_space, random_inputs, to_onnx

    writable(out)
    if source is not None and arch is None:
        path = source / "best.json" if source.is_dir() else source
        loaded = network_space(path) if space is None else spaces.load(space)
        network, facts = load_network(path, loaded)
        arguments = facts["network"]
    elif source is None and arch is not None and space is not None:
        loaded = spaces.load(space)
        arguments = {}
        torch.manual_seed(seed)
        network = loaded.build(loaded.simplify(loaded.parse(arch)))
    else:
        raise InvalidObjective("expected a run folder or best.json, or else both --space and --arch")
    inputs = random_inputs(loaded.example_input(4, **arguments), seed)
    to_onnx(network.eval(), inputs, out)
    difference = check_onnx(network, out, inputs)
    show(f"{out}: input {('batch', *inputs.shape[1:])}, largest difference to PyTorch {difference:.2g}")
